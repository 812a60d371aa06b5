package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const example = "../../../standbyfs.example.yaml"

// A line such as "#sync: op" is a setting that is not made; "# text" is prose.
var unset = regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)

func TestExampleLoads(t *testing.T) {
	load(t, Sources{File: example})
}

// TestExampleExplainsEveryKey makes every setting of the example and checks
// that each key is there, under a comment, with its default where it has one.
func TestExampleExplainsEveryKey(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text = unset.ReplaceAll(text, []byte("$1$2"))
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := readDocument(path, Keys())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.found {
		t.Errorf("%s: %s: %s", p.Where, p.Key, p.Text)
	}
	l := newLoader(Sources{File: path})
	l.file = d
	lines := strings.Split(string(text), "\n")
	for _, k := range Keys() {
		line, ok := d.lines[k.Name]
		if !ok {
			t.Errorf("%s is not in %s", k.Name, example)
			continue
		}
		if above := strings.TrimSpace(lines[line-2]); !strings.HasPrefix(above, "# ") {
			t.Errorf("%s:%d: %s has no explanation above it", example, line, k.Name)
		}
		v, _ := l.inFile(k.Name)
		if k.Default != "" && v != k.Default {
			t.Errorf("%s:%d: %s is %v, its default %s", example, line, k.Name, v, k.Default)
		}
		for _, c := range k.parse(&Settings{}, v) {
			t.Errorf("%s:%d: %s%s: %s", example, line, k.Name, c.at, c.text)
		}
	}
}
