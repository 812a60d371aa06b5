package tree

import (
	"errors"
	"fmt"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// A subtree sent as state replaces whatever stands there, in one pass.
func TestState(t *testing.T) {
	a := newTree(t)
	ext4(t, a)
	apply(t, a, mkdir("s"), mkdir("s/d"), create("s/f"), write("s/f", 0, "data"), link("s/f", "s/d/again"), create("outside"), link("outside", "s/inside"),
		create("s/holes"), size("s/holes", 5*region), write("s/holes", 2*region, "x"), create("s/empty"), create("s/hole"), size("s/hole", 3),
		&op.Op{Kind: op.SetXattr, Path: "s/f", Name: "user.x", Data: []byte("v")},
		&op.Op{Kind: op.SetXattr, Path: "s/f", Name: "security.capability", Data: []byte(capability)},
		&op.Op{Kind: op.SetXattr, Path: "s/d", Name: "system.posix_acl_default", Data: []byte(acl)},
		symlink("s/l", "../outside"), link("s/l", "s/m"), &op.Op{Kind: op.Mknod, Path: "s/p", Attr: attrs(unix.S_IFIFO|0o604, -9)},
		touch("s/d", 0), touch("s", -5), touch(".", 77))
	for name, given := range map[string][]*op.Op{
		"nothing":   nil,
		"a file":    {create("s"), write("s", 0, "x")},
		"a tree":    {mkdir("s"), create("s/d"), mkdir("s/f"), create("s/f/x"), create("s/extra"), create("s/holes"), write("s/holes", 0, "dirt")},
		"same tree": {mkdir("s"), mkdir("s/d"), create("s/f"), link("s/f", "s/p"), link("s/f", "s/empty"), write("s/f", 0, "other data")},
	} {
		for how, do := range map[string]func(*Tree, *op.Op) error{"strict": (*Tree).Apply, "lenient": (*Tree).ApplyLenient} {
			t.Run(name+", "+how, func(t *testing.T) {
				b := newTree(t)
				apply(t, b, create("outside"))
				apply(t, b, given...)
				if err := a.State("s", func(o *op.Op) error { return do(b, o) }); err != nil {
					t.Fatal(err)
				}
				// The one tie that leaves the subtree is not its own.
				apply(t, b, remove(op.Unlink, "s/inside"), link("outside", "s/inside"), touch("s", -5), touch(".", 77))
				same(t, a, b)
			})
		}
	}
}

func TestStateOfOneObject(t *testing.T) {
	a, b := newTree(t), newTree(t)
	apply(t, a, symlink("l", "x"), create("f"), write("f", 0, "x"), touch("f", 0), mkdir("d"))
	for _, path := range []string{"l", "f", "d"} {
		if err := a.State(path, b.Apply); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	same(t, a, b)
}

// The root's state is all there is: other names go.
func TestStateOfTheRoot(t *testing.T) {
	a, b := newTree(t), newTree(t)
	apply(t, a, mkdir("d"), create("d/f"), create("f"), touch(".", -3))
	apply(t, b, create("d"), mkdir("x"), create("x/y"), create("z"))
	if err := a.State(op.Root, b.Apply); err != nil {
		t.Fatal(err)
	}
	same(t, a, b)
}

func TestStateFails(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), create("d/f"))
	if err := tr.State("none", func(*op.Op) error { return nil }); !errors.Is(err, unix.ENOENT) {
		t.Errorf("of nothing: error %v", err)
	}
	stop := errors.New("stop")
	for after := range 4 {
		n := 0
		err := tr.State("d", func(*op.Op) error {
			if n++; n > after {
				return stop
			}
			return nil
		})
		if err != stop {
			t.Errorf("stopped after %d ops: error %v", after, err)
		}
	}
}

// The names of a large root come in ranges without a gap.
func TestNamesInRanges(t *testing.T) {
	for _, n := range []int{0, 1, namesPerOp, namesPerOp + 1, 3 * namesPerOp} {
		entries := make([]Entry, n)
		for i := range entries {
			entries[i].Name = fmt.Sprintf("%08d", i)
		}
		var sent []string
		after := ""
		err := state{emit: func(o *op.Op) error {
			if o.Path2 != after || o.Name != "" && o.Name != o.Names[len(o.Names)-1] || len(o.Names) > namesPerOp {
				t.Errorf("%d names: a range from %q to %q with %d names follows one to %q", n, o.Path2, o.Name, len(o.Names), after)
			}
			sent, after = append(sent, o.Names...), o.Name
			return nil
		}}.names(entries)
		if err != nil || len(sent) != n || after != "" {
			t.Errorf("%d names: %d were sent, the last range ends at %q, error %v", n, len(sent), after, err)
		}
	}
}
