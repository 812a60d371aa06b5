package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/mirror"
)

func disputed(camps ...string) *mirror.Item {
	item := &mirror.Item{Path: []byte("dir/f\xff"), Aspect: mirror.AspectContent, Regions: []int64{0, 65536}}
	for i, nodes := range camps {
		item.Versions = append(item.Versions, mirror.Version{ID: string(rune('a' + i)), Text: "text", Nodes: strings.Fields(nodes)})
	}
	return item
}

// What is chosen, by the ID of the version; "" is nothing.
func TestDecide(t *testing.T) {
	asked := func(answers string) decider { return byAsking(strings.NewReader(answers), &bytes.Buffer{}) }
	for _, c := range []struct {
		name     string
		decide   decider
		item     *mirror.Item
		replicas int
		want     string
	}{
		{"two of three", byMajority, disputed("primary", "beta gamma"), 3, "b"},
		{"the primary and another", byMajority, disputed("primary gamma", "beta"), 3, "a"},
		{"one against one", byMajority, disputed("primary", "beta"), 2, ""},
		{"one against one, and one away", byMajority, disputed("primary", "beta"), 3, ""},
		{"two against two", byMajority, disputed("primary beta", "gamma delta"), 4, ""},
		{"two of five, and two away", byMajority, disputed("primary", "beta gamma"), 5, ""},
		{"three opinions", byMajority, disputed("primary", "beta", "gamma"), 3, ""},
		{"by name", byName("beta"), disputed("primary", "beta"), 2, "b"},
		{"by the name of nobody", byName("delta"), disputed("primary", "beta"), 2, ""},
		{"by a name that two have", byName("beta"), disputed("beta", "gamma beta"), 3, ""},
		{"an answer", asked("2\n"), disputed("primary", "beta"), 2, "b"},
		{"no answer", asked(""), disputed("primary", "beta gamma"), 3, ""},
		{"Enter without a majority", asked("\n"), disputed("primary", "beta"), 2, ""},
		{"Enter", asked("\n"), disputed("primary", "beta gamma"), 3, "b"},
		{"against the majority", asked("1\n"), disputed("primary", "beta gamma"), 3, "a"},
		{"nonsense, and then an answer", asked("0\n3\nyes\n 1 \n"), disputed("primary", "beta"), 2, "a"},
		{"skipped", asked("s\n1\n"), disputed("primary", "beta"), 2, ""},
	} {
		got := ""
		v, why, err := c.decide(c.item, c.replicas)
		if v != nil {
			got = v.ID
		}
		if err != nil || got != c.want || v == nil && why == "" {
			t.Errorf("%s: %q (%q), %v; want %q", c.name, got, why, err, c.want)
		}
	}
	q := asked("q\n1\n")
	for range 2 {
		if v, _, err := q(disputed("primary", "beta"), 2); v != nil || err != nil {
			t.Errorf("after q: %v, %v", v, err)
		}
	}
}

func TestDrawItem(t *testing.T) {
	const want = `"dir/f\xff": content of bytes 0-131071
  1  primary: text
  2  beta, gamma (the majority): text`
	if got := drawItem(disputed("primary", "beta gamma"), 3); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
