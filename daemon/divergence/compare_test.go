package divergence

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

func TestUnified(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"a\nb\n", "a\nb\n", ""},
		{"", "a\n", "@@ -1,0 +1,1 @@\n+a\n"},
		{"a\n", "", "@@ -1,1 +1,0 @@\n-a\n"},
		{"a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"a", "a\n", "@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n", "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
		{"a\n1\n2\n3\n4\n5\n6\n7\n8\nb\n", "1\n2\n3\n4\n5\n6\n7\n8\n", "@@ -1,4 +1,3 @@\n-a\n 1\n 2\n 3\n@@ -7,4 +6,3 @@\n 6\n 7\n 8\n-b\n"},
	} {
		if got := unified(lines([]byte(c.old)), lines([]byte(c.new))); got != c.want {
			t.Errorf("%q to %q:\n%s\nwant\n%s", c.old, c.new, got, c.want)
		}
	}
}

// The steps of a script lead from the one to the other, also where the table
// would be too large.
func TestScript(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = string(rune('a' + r.IntN(5)))
		}
		return all
	}
	for i := range 300 {
		n := 30
		if i == 0 {
			n = 3000
		}
		old, new := text(r.IntN(n)+n/2), text(r.IntN(n)+n/2)
		var before, today []string
		for _, s := range script(old, new) {
			if s.sign != '+' {
				before = append(before, s.line)
			}
			if s.sign != '-' {
				today = append(today, s.line)
			}
		}
		if !slices.Equal(before, old) || !slices.Equal(today, new) {
			t.Fatalf("%q to %q: %q and %q", old, new, before, today)
		}
	}
}

func TestCompare(t *testing.T) {
	n := newNode(t)
	big := strings.Repeat("\x00binary", 300_000)
	n.has(mkdir("d"), create("d/text"), write("d/text", 0, "one\ntwo\n"), create("big"), write("big", 0, big), create("gone"), create("same"), write("same", 0, "same"))
	same := n.put("same", func(*op.Op) {})
	n.keep()
	n.do(write("d/text", 4, "2wo\n"), write("big", 5*region+10, "changed"), unlink("gone"), write("same", 0, "also"), write("same", 0, "same"), same)
	a := n.only()
	got, err := a.Compare(n.tree, op.Root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Differences = slices.DeleteFunc(got[i].Differences, func(d string) bool { return strings.HasPrefix(d, "mtime") })
	}
	want := []Comparison{
		{Path: "d/text", Text: "@@ -1,2 +1,2 @@\n one\n-two\n+2wo\n", Differences: []string{}},
		{Path: "big", Ranges: []Extent{{5*region + 10, 5*region + 16}}, Differences: []string{}},
		{Path: "gone", Differences: []string{"is not in the replica"}},
		{Path: "same"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if !got[3].Equal() || got[0].Equal() || got[1].Equal() || got[2].Equal() {
		t.Errorf("equal: %+v", got)
	}
	if part, err := a.Compare(n.tree, "d"); err != nil || len(part) != 1 || part[0].Path != "d/text" {
		t.Errorf("below d: %+v, %v", part, err)
	}
}
