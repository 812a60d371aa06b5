package tree

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/tests/chaos"
	"golang.org/x/sys/unix"
)

const acl, capability = chaos.ACL, chaos.Capability

const root = ". directory 0755 @"

func TestApply(t *testing.T) {
	owned := attrs(0o4755, -7)
	owned.UID, owned.GID = 12, 34
	owned.Mtime.Nsec = 5
	device := attrs(unix.S_IFCHR|0o640, 3)
	device.Valid |= op.AttrRdev
	device.Rdev = uint32(unix.Mkdev(4, 300))
	ownedLink := owned
	ownedLink.Mode = unix.S_IFLNK | 0o777
	dir, file := mkdir("d"), create("f")
	for _, c := range []struct {
		name  string
		given []*op.Op
		do    *op.Op
		fails error // of a strict apply
		want  string
	}{
		{"create", nil, &op.Op{Kind: op.Create, Path: "f", Attr: owned, Dir: at(9)}, nil, root + `9
			f file 4755 12:34 @-7+5ns ""`},
		{"create over", []*op.Op{file}, create("f"), unix.EEXIST, ""},
		{"create in nothing", nil, create("d/f"), unix.ENOENT, ""},
		{"create below a file", []*op.Op{file}, create("f/f"), unix.ENOTDIR, ""},
		{"create below a link", []*op.Op{dir, symlink("l", "d")}, create("l/f"), unix.ENOTDIR, ""},
		{"create deeper below a link", []*op.Op{dir, mkdir("d/e"), symlink("l", "d")}, create("l/e/f"), unix.ELOOP, ""},
		{"mkdir", []*op.Op{dir}, &op.Op{Kind: op.Mkdir, Path: "d/e", Attr: attrs(0o2770, 0), Dir: at(-1)}, nil, root + `1
			d directory 0755 @-1
			d/e directory 2770 @0`},
		{"mkdir over", []*op.Op{dir}, mkdir("d"), unix.EEXIST, ""},
		{"fifo", nil, &op.Op{Kind: op.Mknod, Path: "p", Attr: attrs(unix.S_IFIFO|0o600, 3)}, nil, root + `now
			p fifo 0600 @3`},
		{"socket", nil, &op.Op{Kind: op.Mknod, Path: "p", Attr: attrs(unix.S_IFSOCK|0o777, 3)}, nil, root + `now
			p socket 0777 @3`},
		{"device", nil, &op.Op{Kind: op.Mknod, Path: "c", Attr: device, Dir: at(1)}, nil, root + `1
			c character device 0640 @3 0x10042c`},
		{"no type", nil, &op.Op{Kind: op.Mknod, Path: "c", Attr: attrs(0o640, 1)}, unix.EINVAL, ""},
		{"symlink", nil, &op.Op{Kind: op.Symlink, Path: "l", Data: []byte("/etc/\xff"), Attr: ownedLink, Dir: at(1)}, nil, root + `1
			l symbolic link 0777 12:34 @-7+5ns -> /etc/` + "\xff"},
		{"link", []*op.Op{dir, file}, &op.Op{Kind: op.Link, Path: "f", Path2: "d/g", Dir2: at(8)}, nil, root + `1
			d directory 0755 @8
			d/g file 0644 @2 ""
			f file 0644 @2 "" is d/g`},
		{"link a link", []*op.Op{symlink("l", "none")}, link("l", "m"), nil, root + `1
			l symbolic link 0777 @2 -> none
			m symbolic link 0777 @2 -> none is l`},
		{"link over", []*op.Op{file, create("g")}, link("f", "g"), unix.EEXIST, ""},
		{"link nothing", nil, link("f", "g"), unix.ENOENT, ""},
		{"link a directory", []*op.Op{dir}, link("d", "e"), unix.EPERM, ""},
		{"unlink", []*op.Op{dir, create("d/f")}, &op.Op{Kind: op.Unlink, Path: "d/f", Dir: at(8)}, nil, root + `1
			d directory 0755 @8`},
		{"unlink a link", []*op.Op{dir, symlink("l", "d")}, remove(op.Unlink, "l"), nil, root + `1
			d directory 0755 @2`},
		{"unlink nothing", nil, remove(op.Unlink, "f"), unix.ENOENT, ""},
		{"unlink a directory", []*op.Op{dir}, remove(op.Unlink, "d"), unix.EISDIR, ""},
		{"rmdir", []*op.Op{dir}, &op.Op{Kind: op.Rmdir, Path: "d", Dir: at(8)}, nil, root + "8"},
		{"rmdir of a file", []*op.Op{file}, remove(op.Rmdir, "f"), unix.ENOTDIR, ""},
		{"rmdir not empty", []*op.Op{dir, create("d/f")}, remove(op.Rmdir, "d"), unix.ENOTEMPTY, ""},
		{"rename", []*op.Op{dir, file}, &op.Op{Kind: op.Rename, Path: "f", Path2: "d/g", Dir: at(7), Dir2: at(8)}, nil, root + `7
			d directory 0755 @8
			d/g file 0644 @2 ""`},
		{"rename over", []*op.Op{file, create("g"), write("f", 0, "f")}, rename("f", "g", 0), nil, root + `1
			g file 0644 @2 "f"`},
		{"rename nothing", nil, rename("f", "g", 0), unix.ENOENT, ""},
		{"rename, none replaced", []*op.Op{file}, rename("f", "g", unix.RENAME_NOREPLACE), nil, root + `1
			g file 0644 @2 ""`},
		{"rename, one in the way", []*op.Op{file, create("g")}, rename("f", "g", unix.RENAME_NOREPLACE), unix.EEXIST, ""},
		{"exchange", []*op.Op{dir, file, create("d/x")}, rename("f", "d", unix.RENAME_EXCHANGE), nil, root + `1
			d file 0644 @2 ""
			f directory 0755 @1
			f/x file 0644 @2 ""`},
		{"exchange with nothing", []*op.Op{file}, rename("f", "g", unix.RENAME_EXCHANGE), unix.ENOENT, ""},
		{"whiteout", []*op.Op{file}, rename("f", "g", unix.RENAME_WHITEOUT), nil, root + `1
			f character device 0000 @now 0x0
			g file 0644 @2 ""`},
		{"write", []*op.Op{file}, write("f", 2, "data"), nil, root + `1
			f file 0644 @2 "\x00\x00data"`},
		{"write and mode", []*op.Op{{Kind: op.Create, Path: "f", Attr: attrs(0o6777, 2), Dir: at(1)}},
			&op.Op{Kind: op.Write, Path: "f", Data: []byte("x"), Attr: attrs(0o777, 3)}, nil, root + `1
			f file 0777 @3 "x"`},
		{"write nothing", nil, write("f", 0, "data"), unix.ENOENT, ""},
		{"write a directory", []*op.Op{dir}, write("d", 0, "data"), unix.ENXIO, ""},
		{"write a link", []*op.Op{file, symlink("l", "f")}, write("l", 0, "data"), unix.ENXIO, ""},
		{"write a fifo", []*op.Op{{Kind: op.Mknod, Path: "p", Attr: attrs(unix.S_IFIFO|0o600, 3)}}, write("p", 0, "data"), unix.ENXIO, ""},
		{"truncate", []*op.Op{file, write("f", 0, "data")},
			&op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Valid: op.AttrSize | op.AttrMtime, Size: 2, Mtime: at(0)}}, nil, root + `1
			f file 0644 @0 "da"`},
		{"grow", []*op.Op{file}, &op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Valid: op.AttrSize, Size: 2}}, nil, root + `1
			f file 0644 @now "\x00\x00"`},
		{"allocate", []*op.Op{file}, &op.Op{Kind: op.Fallocate, Path: "f", Off: 1, Len: 2, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "\x00\x00\x00"`},
		{"allocate beyond", []*op.Op{file, write("f", 0, "a")},
			&op.Op{Kind: op.Fallocate, Path: "f", Len: 9, Arg: unix.FALLOC_FL_KEEP_SIZE, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "a"`},
		{"zero", []*op.Op{file, write("f", 0, "data")},
			&op.Op{Kind: op.Fallocate, Path: "f", Off: 1, Len: 2, Arg: unix.FALLOC_FL_ZERO_RANGE, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "d\x00\x00a"`},
		{"punch", []*op.Op{file, write("f", 0, "data")},
			&op.Op{Kind: op.Fallocate, Path: "f", Off: 1, Len: 2, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "d\x00\x00a"`},
		{"collapse", []*op.Op{file, write("f", 0, strings.Repeat("x", 4096)+"data")},
			&op.Op{Kind: op.Fallocate, Path: "f", Len: 4096, Arg: unix.FALLOC_FL_COLLAPSE_RANGE, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "data"`},
		{"copy", []*op.Op{file, create("g"), write("f", 0, "0123456789"), write("g", 0, "abc")},
			&op.Op{Kind: op.CopyRange, Path: "f", Path2: "g", Off: 2, Off2: 1, Len: 3, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @2 "0123456789"
			g file 0644 @4 "a234"`},
		{"copy within", []*op.Op{file, write("f", 0, "0123456789")},
			&op.Op{Kind: op.CopyRange, Path: "f", Path2: "f", Off: 2, Off2: 8, Len: 3, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(4)}}, nil, root + `1
			f file 0644 @4 "01234567234"`},
		{"copy more than there is", []*op.Op{file, create("g"), write("f", 0, "01234")},
			&op.Op{Kind: op.CopyRange, Path: "f", Path2: "g", Off: 2, Len: 9}, io.ErrUnexpectedEOF, ""},
		{"copy from nothing", []*op.Op{file}, &op.Op{Kind: op.CopyRange, Path: "none", Path2: "f", Len: 1}, unix.ENOENT, ""},
		{"owner of a link", []*op.Op{symlink("l", "none")}, &op.Op{Kind: op.SetAttr, Path: "l", Attr: ownedLink}, nil, root + `1
			l symbolic link 0777 12:34 @-7+5ns -> none`},
		{"mode", []*op.Op{dir}, &op.Op{Kind: op.SetAttr, Path: "d", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o1700}}, nil, root + `1
			d directory 1700 @2`},
		{"owner and mode", []*op.Op{file}, &op.Op{Kind: op.SetAttr, Path: "f", Attr: owned}, nil, root + `1
			f file 4755 12:34 @-7+5ns ""`},
		{"times of the root", nil, &op.Op{Kind: op.SetAttr, Path: ".", Attr: op.Attr{Valid: op.AttrMtime}}, nil, root + "0"},
		{"attributes of nothing", nil, touch("f", 1), unix.ENOENT, ""},
		{"xattr", []*op.Op{file}, &op.Op{Kind: op.SetXattr, Path: "f", Name: "user.x", Data: []byte("v\x00"), Arg: unix.XATTR_REPLACE}, nil, root + `1
			f file 0644 @2 "" user.x="v\x00"`},
		{"empty xattr", []*op.Op{dir}, &op.Op{Kind: op.SetXattr, Path: "d", Name: "trusted.x"}, nil, root + `1
			d directory 0755 @2 trusted.x=""`},
		{"xattr of a link", []*op.Op{file, symlink("l", "f")}, &op.Op{Kind: op.SetXattr, Path: "l", Name: "trusted.x", Data: []byte("v")}, nil, root + `1
			f file 0644 @2 ""
			l symbolic link 0777 @2 -> f trusted.x="v"`},
		{"access list and its mode", []*op.Op{file},
			&op.Op{Kind: op.SetXattr, Path: "f", Name: "system.posix_acl_access", Data: []byte(acl), Attr: op.Attr{Valid: op.AttrMode, Mode: 0o640}}, nil, root + `1
			f file 0640 @2 "" system.posix_acl_access=` + quote(acl)},
		{"remove xattr", []*op.Op{file, {Kind: op.SetXattr, Path: "f", Name: "user.x"}}, &op.Op{Kind: op.RemoveXattr, Path: "f", Name: "user.x"}, nil, root + `1
			f file 0644 @2 ""`},
		{"remove no xattr", []*op.Op{file}, &op.Op{Kind: op.RemoveXattr, Path: "f", Name: "user.x"}, unix.ENODATA, ""},
		{"fsync", []*op.Op{file}, &op.Op{Kind: op.Fsync, Path: "f", Flags: op.Barrier}, nil, root + `1
			f file 0644 @2 ""`},
		{"expel", nil, &op.Op{Kind: op.Expel, Path: ".", Member: 1}, unix.EINVAL, ""},
		{"check", nil, &op.Op{Kind: op.Check, Path: "f"}, unix.EINVAL, ""},
		{"adopt", nil, &op.Op{Kind: op.Adopt, Path: "f"}, unix.EINVAL, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			apply(t, tr, c.given...)
			before := render(t, tr)
			err := tr.Apply(c.do)
			if !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) {
				t.Fatalf("%v: error %v, want %v", c.do, err, c.fails)
			}
			switch {
			case err == nil:
				expect(t, tr, c.want)
			case c.do.Kind != op.CopyRange:
				if after := render(t, tr); after != before {
					t.Errorf("it failed, and made\n%sof\n%s", after, before)
				}
			}
			if err != nil && !strings.Contains(err.Error(), c.do.Path) {
				t.Errorf("error %q does not name the path", err)
			}
		})
	}
}

// What a mirror makes below a directory with a default access list is what the
// primary made there.
func TestInheritedAccessList(t *testing.T) {
	primary, mirror := newTree(t), newTree(t)
	for _, tr := range []*Tree{primary, mirror} {
		apply(t, tr, mkdir("d"), &op.Op{Kind: op.SetXattr, Path: "d", Name: "system.posix_acl_default", Data: []byte(acl)})
	}
	dir := primary.Dir() + "/d/"
	if err := errors.Join(unix.Mkdir(dir+"sub", 0o775), unix.Mknod(dir+"f", unix.S_IFREG|0o666, 0)); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]op.Kind{"d/sub": op.Mkdir, "d/f": op.Create} {
		put, _, err := primary.Describe(path)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, mirror, &op.Op{Kind: kind, Path: path, Attr: put.Attr})
	}
	apply(t, primary, touch("d", 1))
	apply(t, mirror, touch("d", 1))
	same(t, primary, mirror)
}

// Where the kernel cannot copy between two files it is done by hand.
func TestCopyByHand(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, create("f"), create("g"), write("f", 0, strings.Repeat("x", 3<<20)+"end"), write("g", 0, "ab"))
	a := applier{tr, &op.Op{}, false}
	by := func(off, off2, n int64) error {
		return a.onFile("f", func(from int) error {
			return a.onFile("g", func(to int) error { return copyByHand(from, to, off, off2, n) })
		})
	}
	if err := by(3<<20-1, 1, 4); err != nil {
		t.Fatal(err)
	}
	if got := string(content(t, tr, "g")); got != "axend" {
		t.Errorf("copied %q", got)
	}
	if err := by(0, 1<<20, 3<<20); err != nil {
		t.Fatal(err)
	}
	if got := content(t, tr, "g"); len(got) != 4<<20 || string(got[1<<20:]) != strings.Repeat("x", 3<<20) {
		t.Errorf("copied %d bytes, or others", len(got))
	}
	if err := by(3<<20, 0, 4); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("more than there is: error %v", err)
	}
}
