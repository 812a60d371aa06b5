package mirror

import (
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

func TestPendingFollowsOps(t *testing.T) {
	rename := func(from, to string, arg uint32) *op.Op {
		return &op.Op{Kind: op.Rename, Path: from, Path2: to, Arg: arg}
	}
	cases := []struct {
		name   string
		marked map[string]bool // path, tree
		op     *op.Op
		in     []string
		out    []string
	}{
		{"rename of a pending name marks both", map[string]bool{"a": false}, rename("a", "b", 0), []string{"a", "b"}, []string{"c"}},
		{"rename out of a pending tree", map[string]bool{"d": true}, rename("d/x", "y", 0), []string{"y", "d/x", "d/z"}, []string{"z"}},
		{"rename of a directory with something pending below", map[string]bool{"d/e/f": false}, rename("d", "g", 0), []string{"g/e/f", "g/other"}, []string{"h"}},
		{"rename of a level name", map[string]bool{"a": false}, rename("x", "y", 0), []string{"a"}, []string{"x", "y"}},
		{"rename over a pending name", map[string]bool{"a": false}, rename("x", "a", 0), []string{"a"}, []string{"x"}},
		{"exchange with a pending name", map[string]bool{"a": false}, rename("x", "a", unix.RENAME_EXCHANGE), []string{"a", "x"}, nil},
		{"link to a pending file", map[string]bool{"a": false}, &op.Op{Kind: op.Link, Path: "a", Path2: "b"}, []string{"a", "b"}, nil},
		{"link to a name in a pending directory", map[string]bool{"d": true}, &op.Op{Kind: op.Link, Path: "a", Path2: "d/b"}, []string{"a", "d/b"}, []string{"c"}},
		{"copy from a pending file", map[string]bool{"a": false}, &op.Op{Kind: op.CopyRange, Path: "a", Path2: "b"}, []string{"a", "b"}, nil},
		{"copy onto a pending file", map[string]bool{"a": false}, &op.Op{Kind: op.CopyRange, Path: "b", Path2: "a"}, []string{"a"}, []string{"b"}},
		{"write", map[string]bool{"a": false}, &op.Op{Kind: op.Write, Path: "b"}, []string{"a"}, []string{"b"}},
		{"a sibling with the same beginning", map[string]bool{"dir": true}, rename("dir2/x", "y", 0), []string{"dir/x"}, []string{"dir2/x", "y"}},
		{"all is pending", map[string]bool{".": true}, rename("x", "y", 0), []string{"x", "y", "z/z"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPending()
			for path, tree := range c.marked {
				p.mark(path, tree)
			}
			p.follow(c.op)
			for _, path := range c.in {
				if !p.covers(path) {
					t.Errorf("%q is not pending", path)
				}
			}
			for _, path := range c.out {
				if p.covers(path) {
					t.Errorf("%q is pending", path)
				}
			}
		})
	}
}

func TestMarkedAgainWhileLookedAt(t *testing.T) {
	p := newPending()
	p.mark("a", false)
	path, marks, ok := p.next()
	if !ok || path != "a" {
		t.Fatalf("next: %q, %v", path, ok)
	}
	p.mark("a", false)
	p.done("a", marks)
	if p.empty() {
		t.Fatal("a path that was marked while it was looked at is not pending any more")
	}
	path, marks, ok = p.next()
	if !ok || path != "a" {
		t.Fatalf("next again: %q, %v", path, ok)
	}
	p.done(path, marks)
	if !p.empty() || len(p.below) != 0 || p.trees != 0 {
		t.Fatalf("left behind: %+v", p)
	}
}

func TestRequeue(t *testing.T) {
	p := newPending()
	p.mark("a", true)
	p.mark("b/c", false)
	for {
		if _, _, ok := p.next(); !ok {
			break
		}
	}
	p.requeue()
	seen := map[string]bool{}
	for {
		path, marks, ok := p.next()
		if !ok {
			break
		}
		seen[path] = true
		p.done(path, marks)
	}
	if !seen["a"] || !seen["b/c"] || !p.empty() || p.trees != 0 {
		t.Fatalf("seen %v, left %+v", seen, p)
	}
}
