package main

import (
	"strings"
	"testing"
)

// taken makes samples of one second each.
func taken(rates ...int64) []*sample {
	var out []*sample
	for _, n := range rates {
		out = append(out, &sample{Ops: n, Seconds: 1, LoadCPU: .5, Latency: latencies{Buckets: map[int]int64{bucketOf(1000): n}}})
	}
	return out
}

func TestVerdicts(t *testing.T) {
	r := row{Name: "r", Title: "A row", Configs: standard, Targets: ratios{loopback: 2, native: .5, op: .3}.targets()}
	res := results{"r": {
		"native":   taken(1000, 1000, 1000),
		"loopback": taken(100, 100, 100),
		"null":     taken(190, 190, 210), // misses 2, but one repeat did not
		"op1":      taken(60, 60, 60),
		"barrier1": taken(90, 90, 90), // nothing to reach
	}}
	got := map[string]string{}
	for _, v := range verdicts([]row{r}, res) {
		got[v.Config+"/"+v.Over] = v.Mark
	}
	want := map[string]string{"null/loopback": "~", "null/native": "NO", "op1/null": "ok"}
	if len(got) != len(want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}

	var configs []configuration
	for _, name := range append(standard, "op3") { // which has not been run
		c, err := parseConfiguration(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		configs = append(configs, c)
	}
	var b strings.Builder
	printTable(&b, []row{r}, configs, res)
	text := b.String()
	for _, want := range []string{"1.90 of 2.00 ~", "0.19 of 0.50 NO", "0.32 of 0.30 ok", "1 of 3 ratios reached", "r: null / native is 0.19 (0.19 to 0.21), to reach 0.50"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "op3") {
		t.Errorf("a configuration that did not run is in the table:\n%s", text)
	}
}
