package tree

import (
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// A hint renames what is there to be renamed, takes nothing but a file that a
// file replaces, and otherwise does nothing at all.
func TestHint(t *testing.T) {
	file := func(path string) []*op.Op {
		return []*op.Op{create(path), write(path, 0, path), touch(path, 2)}
	}
	join := func(ops ...[]*op.Op) (all []*op.Op) {
		for _, o := range ops {
			all = append(all, o...)
		}
		return all
	}
	full := join([]*op.Op{mkdir("d"), mkdir("d/e")}, file("d/e/f"))
	for _, c := range []struct {
		name     string
		given    []*op.Op
		from, to string
		arg      uint32
		want     string // the tree afterwards; "": as before
	}{
		{"a file", file("f"), "f", "g", 0, root + `1
			g file 0644 @2 "f"`},
		{"over a file", join(file("f"), file("g")), "f", "g", 0, root + `1
			g file 0644 @2 "f"`},
		{"over a file that has other names", join(file("f"), file("g"), []*op.Op{link("g", "h")}), "f", "g", 0, root + `1
			g file 0644 @2 "f"
			h file 0644 @2 "g"`},
		{"a directory", full, "d", "x", 0, root + `1
			x directory 0755 @1
			x/e directory 0755 @1
			x/e/f file 0644 @2 "d/e/f"`},
		{"to another directory", join(full, []*op.Op{mkdir("y")}), "d/e", "y/x", 0, root + `1
			d directory 0755 @1
			y directory 0755 @2
			y/x directory 0755 @1
			y/x/f file 0644 @2 "d/e/f"`},
		{"a directory with names of one file in it", join(full, []*op.Op{link("d/e/f", "d/g")}), "d", "x", 0, root + `1
			x directory 0755 @1
			x/e directory 0755 @1
			x/e/f file 0644 @2 "d/e/f"
			x/g file 0644 @2 "d/e/f" is x/e/f`},
		{"an exchange", join(full, file("f")), "d/e", "f", unix.RENAME_EXCHANGE, root + `1
			d directory 0755 @1
			d/e file 0644 @2 "f"
			f directory 0755 @1
			f/f file 0644 @2 "d/e/f"`},
		{"a directory where one is", join(full, []*op.Op{mkdir("x")}), "d", "x", 0, ""},
		{"a directory where a file is", join(full, file("x")), "d", "x", 0, ""},
		{"a file where a directory is", join(full, file("x")), "x", "d", 0, ""},
		{"a file where a link is", []*op.Op{create("f"), symlink("l", "f")}, "f", "l", 0, ""},
		{"nothing", full, "x", "y", 0, ""},
		{"in nothing", full, "x/y", "y", 0, ""},
		{"to nothing", full, "d", "x/y", 0, ""},
		{"below a file", join(full, file("f")), "d", "f/x", 0, ""},
		{"into itself", full, "d", "d/e/x", 0, ""},
		{"over what it is in", full, "d/e", "d", 0, ""},
		{"the root", full, ".", "x", 0, ""},
		{"onto the root", full, "d", ".", 0, ""},
		{"onto itself", file("f"), "f", "f", 0, ""},
		{"a link", []*op.Op{symlink("l", "x")}, "l", "m", 0, ""},
		{"by way of a link", join(full, []*op.Op{symlink("l", "d")}), "l/e", "x", 0, ""},
		{"a file with another name", join(file("f"), []*op.Op{link("f", "g")}), "f", "h", 0, ""},
		{"onto another name of it", join(file("f"), []*op.Op{link("f", "g")}), "f", "g", 0, ""},
		{"a directory, and a file in it has a name elsewhere", join(full, []*op.Op{link("d/e/f", "g")}), "d", "x", 0, ""},
		{"exchange with nothing", full, "d", "x", unix.RENAME_EXCHANGE, ""},
		{"exchange with a link", join(full, []*op.Op{symlink("l", "x")}), "d", "l", unix.RENAME_EXCHANGE, ""},
		{"exchange with what has a name elsewhere", join(full, file("f"), []*op.Op{link("f", "g")}), "d", "f", unix.RENAME_EXCHANGE, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			apply(t, tr, c.given...)
			untouched := newTree(t)
			apply(t, untouched, c.given...)
			o := &op.Op{Kind: op.Hint, Path: c.from, Path2: c.to, Arg: c.arg}
			if err := tr.ApplyLenient(o); err != nil {
				t.Fatalf("%v: %v", o, err)
			}
			if c.want != "" {
				expect(t, tr, c.want)
				return
			}
			if differ, err := Diff(tr, untouched); err != nil || len(differ) > 0 {
				t.Errorf("%v: %q, error %v", o, differ, err)
			}
		})
	}
}
