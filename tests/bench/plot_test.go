package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// Every plot is well-formed, names its rows, and stays within its picture.
func TestPlots(t *testing.T) {
	rows := []row{
		{Name: "r", Title: `reads & writes <"quoted">`, Targets: append(ratios{loopback: 2, native: .5, op: .3, barrier: .3}.targets(),
			target{Config: "op1", Over: "gluster2", Want: 3}, target{Config: "op10", Over: "op1", Want: 1.2, P50: true})},
		{Name: "w", Title: "the wire", Targets: []target{{Config: "yamux-tls", Over: "bare-tls"}}},
		{Name: "none", Title: "not run"},
	}
	res := results{
		"r": {"native": taken(1000), "loopback": taken(100, 90), "null": taken(9000, 100), "op1": taken(1), "barrier1": taken(90), "op10": taken(50), "gluster2": taken(10)},
		"w": {"yamux-tls": taken(9), "bare-tls": taken(10)},
	}
	var configs []configuration
	for _, name := range []string{"native", "loopback", "null", "op1", "barrier1", "op10", "gluster2", "yamux-tls", "bare-tls"} {
		c, err := parseConfiguration(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		configs = append(configs, c)
	}
	drawn := plots(rows, configs, res)
	for _, name := range []string{"null-loopback.svg", "null-native.svg", "mirrors-null.svg", "gluster.svg", "wire.svg", "distance.svg", "latency.svg"} {
		b := drawn[name]
		if len(b) == 0 {
			t.Errorf("%s is not drawn", name)
			continue
		}
		var text strings.Builder
		d := xml.NewDecoder(bytes.NewReader(b))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s is not XML: %v\n%s", name, err, b)
			}
			switch token := token.(type) {
			case xml.CharData:
				text.Write(token)
			case xml.StartElement:
				for _, a := range token.Attr {
					if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.HasPrefix(a.Value, "-") {
						t.Errorf("%s: %s of %s is %s", name, a.Name.Local, token.Name.Local, a.Value)
					}
				}
			}
		}
		want := rows[0].Title
		if name == "wire.svg" {
			want = rows[1].Title
		}
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s does not name %q", name, want)
		}
		if strings.Contains(text.String(), "not run") {
			t.Errorf("%s names a row that was not run", name)
		}
	}
	if got := plots(rows, configs, results{}); len(got) != 1 {
		t.Errorf("of nothing %d plots are drawn", len(got))
	}
}
