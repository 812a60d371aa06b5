package tree

import (
	"errors"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

func TestApplyLenient(t *testing.T) {
	full := []*op.Op{mkdir("d"), mkdir("d/e"), create("d/e/f"), symlink("d/l", "/etc")}
	file := create("f")
	for _, c := range []struct {
		name  string
		given []*op.Op
		do    *op.Op
		fails error
		want  string // the tree afterwards, also where it fails
	}{
		{"create over a tree", full, create("d"), nil, root + `1
			d file 0644 @2 ""`},
		{"create over a file", []*op.Op{file, write("f", 0, "old")}, create("f"), nil, root + `1
			f file 0644 @2 ""`},
		{"mkdir over a file", []*op.Op{file}, mkdir("f"), nil, root + `1
			f directory 0755 @2`},
		{"mkdir over a tree", full, mkdir("d"), nil, root + `1
			d directory 0755 @2`},
		{"symlink over a fifo", []*op.Op{{Kind: op.Mknod, Path: "p", Attr: attrs(unix.S_IFIFO, 1)}}, symlink("p", "x"), nil, root + `1
			p symbolic link 0777 @2 -> x`},
		{"create in nothing", nil, create("d/f"), unix.ENOENT, root + "1"},
		{"create below a file", []*op.Op{file}, create("f/g"), unix.ENOTDIR, root + `1
			f file 0644 @2 ""`},
		{"unlink nothing", nil, remove(op.Unlink, "f"), nil, root + "1"},
		{"unlink in nothing", nil, remove(op.Unlink, "d/e/f"), nil, root + "1"},
		{"unlink below a link", []*op.Op{mkdir("d"), mkdir("d/e"), create("d/e/f"), symlink("l", "d")}, remove(op.Unlink, "l/e/f"), nil, root + `1
			d directory 0755 @1
			d/e directory 0755 @1
			d/e/f file 0644 @2 ""
			l symbolic link 0777 @2 -> d`},
		{"unlink a tree", full, &op.Op{Kind: op.Unlink, Path: "d/e", Dir: at(8)}, nil, root + `1
			d directory 0755 @8
			d/l symbolic link 0777 @2 -> /etc`},
		{"rmdir nothing", nil, remove(op.Rmdir, "d"), nil, root + "1"},
		{"rmdir of a file", []*op.Op{file}, remove(op.Rmdir, "f"), nil, root + "1"},
		{"rmdir of a tree", full, remove(op.Rmdir, "d"), nil, root + "1"},
		{"rename over a tree", append([]*op.Op{file}, full...), rename("f", "d", 0), nil, root + `1
			d file 0644 @2 ""`},
		{"rename a tree over a file", append([]*op.Op{file}, full...), rename("d/e", "f", 0), nil, root + `1
			d directory 0755 @1
			d/l symbolic link 0777 @2 -> /etc
			f directory 0755 @1
			f/f file 0644 @2 ""`},
		{"rename a tree over a tree", append([]*op.Op{mkdir("x"), create("x/y")}, full...), rename("d", "x", 0), nil, root + `1
			x directory 0755 @1
			x/e directory 0755 @1
			x/e/f file 0644 @2 ""
			x/l symbolic link 0777 @2 -> /etc`},
		{"rename, one in the way", []*op.Op{file, create("g"), write("g", 0, "g")}, rename("f", "g", unix.RENAME_NOREPLACE), nil, root + `1
			g file 0644 @2 ""`},
		{"rename nothing", []*op.Op{create("g")}, &op.Op{Kind: op.Rename, Path: "f", Path2: "g", Dir: at(7), Dir2: at(8)}, unix.ENOENT, root + `8
			g file 0644 @2 ""`},
		{"rename of two names of one file", []*op.Op{file, link("f", "g")}, rename("f", "g", 0), unix.EEXIST, root + `1
			f file 0644 @2 ""
			g file 0644 @2 "" is f`},
		{"exchange with nothing", []*op.Op{file}, rename("f", "g", unix.RENAME_EXCHANGE), unix.ENOENT, root + `1
			f file 0644 @2 ""`},
		{"link over a tree", append([]*op.Op{file}, full...), link("f", "d"), nil, root + `1
			d file 0644 @2 ""
			f file 0644 @2 "" is d`},
		{"link nothing", full, link("f", "d/e"), unix.ENOENT, root + `1
			d directory 0755 @1
			d/e directory 0755 @1
			d/e/f file 0644 @2 ""
			d/l symbolic link 0777 @2 -> /etc`},
		{"link in nothing", []*op.Op{file}, link("f", "d/f"), unix.ENOENT, root + `1
			f file 0644 @2 ""`},
		{"remove no xattr", []*op.Op{file}, &op.Op{Kind: op.RemoveXattr, Path: "f", Name: "user.x"}, nil, root + `1
			f file 0644 @2 ""`},
		{"write nothing", nil, write("f", 0, "x"), unix.ENOENT, root + "1"},
		{"write a directory", []*op.Op{mkdir("d")}, write("d", 0, "x"), unix.ENXIO, root + `1
			d directory 0755 @2`},
		{"remove the root", []*op.Op{file}, remove(op.Rmdir, "."), unix.EBUSY, root + `1
			f file 0644 @2 ""`},
		{"put nothing in nothing", nil, &op.Op{Kind: op.Put, Path: "d/f", Attr: attrs(unix.S_IFREG|0o600, 1)}, unix.ENOENT, root + "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			apply(t, tr, c.given...)
			err := tr.ApplyLenient(c.do)
			if !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) {
				t.Fatalf("%v: error %v, want %v", c.do, err, c.fails)
			}
			expect(t, tr, c.want)
		})
	}
}

func TestRemove(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), mkdir("d/e"), create("d/e/f"), create("f"), symlink("d/out", "../f"), symlink("up", "."))
	for _, path := range []string{"none", "none/none", "f/none", "up/f", "up/d/e", "d"} {
		if err := tr.Remove(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	apply(t, tr, touch(".", 1))
	expect(t, tr, root+`1
		f file 0644 @2 ""
		up symbolic link 0777 @2 -> .`)
}
