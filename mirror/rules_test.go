package mirror

import (
	"slices"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	r, err := newRules(SyncOp, []Rule{
		{"*.tmp", SyncLocal}, {"/cache/", SyncLocal}, {"log/**", SyncBarrier}, {"keep.tmp", SyncOp},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Level{
		".": SyncOp, "a": SyncOp, "a.tmp": SyncLocal, "d/e/f.tmp": SyncLocal, "x.tmp/below": SyncLocal,
		"cache": SyncLocal, "cache/x": SyncLocal, "d/cache/x": SyncOp,
		"log/today": SyncBarrier, "log/a/b": SyncBarrier, "keep.tmp": SyncOp, "d/keep.tmp": SyncOp,
	} {
		if got := r.level(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
		if got := r.mirrored(path); got != (want != SyncLocal) {
			t.Errorf("%q: mirrored %v", path, got)
		}
	}
}

func TestBadRules(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{"", SyncOp}, "gitignore pattern"},
		{Rule{"!x", SyncOp}, "negation"},
		{Rule{"[", SyncOp}, "syntax error"},
		{Rule{"x", "soon"}, "want op, barrier or local"},
	} {
		if _, err := newRules(SyncOp, []Rule{c.rule}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rule, err, c.want)
		}
	}
}

func TestBeforeLeavesNoRoom(t *testing.T) {
	for _, name := range []string{"a", "b\x01", "\x01", "zz\xff", strings.Repeat("m", 255)} {
		low := before(name)
		if low >= name {
			t.Errorf("before(%q) = %q is not below it", name, low)
		}
		for _, other := range []string{name[:len(name)-1] + string([]byte{name[len(name)-1] - 1}), name + "x", name + "\x01", "0", "~"} {
			if other != "" && other[len(other)-1] != 0 && len(other) <= 255 && other > low && other < name {
				t.Errorf("%q lies between before(%q) and it", other, name)
			}
		}
	}
}

func TestBorder(t *testing.T) {
	tmp, keep, slow := Rule{"*.tmp", SyncLocal}, Rule{"keep.tmp", SyncOp}, Rule{"log", SyncBarrier}
	for _, c := range []struct {
		a, b []Rule
		same bool
	}{
		{nil, []Rule{slow, keep}, true},
		{[]Rule{tmp}, []Rule{slow, tmp}, true},
		{[]Rule{tmp, keep}, []Rule{tmp, {"keep.tmp", SyncBarrier}}, true},
		{nil, []Rule{tmp}, false},
		{[]Rule{tmp}, []Rule{tmp, keep}, false},
		{[]Rule{tmp, keep}, []Rule{keep, tmp}, false},
	} {
		if a, b := Border(c.a), Border(c.b); slices.Equal(a, b) != c.same {
			t.Errorf("%q and %q: the same %v, want %v", a, b, !c.same, c.same)
		}
	}
}
