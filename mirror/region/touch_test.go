package region

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Which name goes of a file that has others.
func TestLeaves(t *testing.T) {
	look := func(path string) (Stat, error) {
		st := Stat{Mode: unix.S_IFREG, Links: 2, Ino: 7, Local: op.Within(path, "local")}
		if path == "new" || path == "local/new" {
			return st, errors.New("not there")
		}
		return st, nil
	}
	rename := func(from, to string, arg uint32) op.Op {
		return op.Op{Kind: op.Rename, Path: from, Path2: to, Arg: arg}
	}
	for _, c := range []struct {
		name string
		o    op.Op
		want string
	}{
		{"unlink", op.Op{Kind: op.Unlink, Path: "a"}, "a"},
		{"rename", rename("a", "new", 0), ""},
		{"rename over another", rename("a", "b", 0), "b"},
		{"rename out of what is mirrored", rename("a", "local/new", 0), "a"},
		{"rename out, over another", rename("a", "local/b", 0), "a"},
		{"rename in", rename("local/a", "new", 0), ""},
		{"rename in, over another", rename("local/a", "b", 0), "b"},
		{"rename outside", rename("local/a", "local/b", 0), ""},
		{"exchange", rename("a", "b", unix.RENAME_EXCHANGE), ""},
		{"exchange with one outside", rename("a", "local/b", unix.RENAME_EXCHANGE), "a"},
		{"exchange with one inside", rename("local/a", "b", unix.RENAME_EXCHANGE), "b"},
	} {
		if got := touch(&c.o, look); got.left != c.want {
			t.Errorf("%s: %q has gone, want %q", c.name, got.left, c.want)
		}
	}
}

// Where it cannot be seen what an op takes away, it may be anything.
func TestBlind(t *testing.T) {
	for errno, blind := range map[unix.Errno]bool{unix.EMFILE: true, unix.EIO: true, unix.ENOENT: false} {
		s, err := Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		ticket, err := s.Begin(&op.Op{Kind: op.Unlink, Path: "d/a"}, func(path string) (Stat, error) {
			return Stat{}, &os.PathError{Op: "stat", Path: path, Err: errno}
		})
		if err != nil {
			t.Fatal(err)
		}
		ticket.Leave(1)
		if hot := s.Hot(); slices.Contains(hot, Everything) != blind {
			t.Errorf("%v: hot are %v", errno, hot)
		}
	}
}

// Each kind of op, and what a comparison has to look at if it is lost.
func TestTouch(t *testing.T) {
	const big = 10 * op.RegionSize
	there := map[string]Stat{
		"d/small": {Mode: unix.S_IFREG, Links: 1, Size: 10},
		"d/big":   {Mode: unix.S_IFREG, Links: 1, Size: big},
		"d/tied":  {Mode: unix.S_IFREG, Links: 2, Size: big},
		"d/dir":   {Mode: unix.S_IFDIR, Links: 2},
		"d/link":  {Mode: unix.S_IFLNK, Links: 1, Size: 5},
		"local/t": {Mode: unix.S_IFREG, Links: 2, Size: big, Local: true},
		"local/d": {Mode: unix.S_IFDIR, Links: 2, Local: true},
	}
	look := func(path string) (Stat, error) {
		if st, ok := there[path]; ok {
			return st, nil
		}
		return Stat{Local: op.Within(path, "local")}, errors.New("not there")
	}
	entries := func(dir string) Mark { return Mark{Path: dir, Scope: Entries} }
	put := func(path string, mode uint32, size int64, arg uint32, flags op.Flags) op.Op {
		return op.Op{Kind: op.Put, Path: path, Arg: arg, Flags: flags, Attr: op.Attr{Mode: mode, Size: size}}
	}
	for _, c := range []struct {
		name string
		o    op.Op
		want []Mark
	}{
		{"create", op.Op{Kind: op.Create, Path: "d/new"}, []Mark{entries("d")}},
		{"create at the top", op.Op{Kind: op.Create, Path: "new"}, []Mark{entries(".")}},
		{"unlink", op.Op{Kind: op.Unlink, Path: "d/big"}, []Mark{entries("d")}},
		{"write", op.Op{Kind: op.Write, Path: "f", Off: 5, Data: make([]byte, 10)}, []Mark{{Path: "f", From: 5, To: 15}}},
		{"write without a name", op.Op{Kind: op.Write, Off: 5, Data: make([]byte, 10)}, nil},
		{"truncate", op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Size: 7}}, []Mark{{Path: "f", From: 7, To: End, cut: true}}},
		{"allocate", op.Op{Kind: op.Fallocate, Path: "f", Off: 5, Len: 10}, []Mark{{Path: "f", From: 5, To: 15}}},
		{"collapse", op.Op{Kind: op.Fallocate, Path: "f", Off: 5, Len: 10, Arg: unix.FALLOC_FL_COLLAPSE_RANGE}, []Mark{{Path: "f", From: 5, To: End}}},
		{"copy", op.Op{Kind: op.CopyRange, Path: "a", Path2: "b", Off: 1, Off2: 5, Len: 10}, []Mark{{Path: "b", From: 5, To: 15}}},
		{"chmod", op.Op{Kind: op.SetAttr, Path: "f"}, []Mark{{Path: "f"}}},
		{"setxattr of the root", op.Op{Kind: op.SetXattr, Path: op.Root}, []Mark{{Path: op.Root}}},
		{"link", op.Op{Kind: op.Link, Path: "d/small", Path2: "b/g"}, []Mark{{Path: "d/small"}, entries("b")}},
		{"link to a large file", op.Op{Kind: op.Link, Path: "d/big", Path2: "b/g"}, []Mark{{Path: "d/big"}, entries("b"), {Path: "b/g", To: End}}},
		{"rename of a small file", op.Op{Kind: op.Rename, Path: "d/small", Path2: "e/f"}, []Mark{entries("d"), entries("e")}},
		{"rename of a large file", op.Op{Kind: op.Rename, Path: "d/big", Path2: "e/f"}, []Mark{entries("d"), entries("e"), {Path: "e/f", To: End}}},
		{"rename of a directory", op.Op{Kind: op.Rename, Path: "d/dir", Path2: "e/f"}, []Mark{entries("d"), {Path: "d/dir", Scope: Tree}, entries("e"), {Path: "e/f", Scope: Tree}}},
		{"a hint of such a rename", op.Op{Kind: op.Hint, Path: "d/dir", Path2: "e/f"}, []Mark{entries("d"), {Path: "d/dir", Scope: Tree}, entries("e"), {Path: "e/f", Scope: Tree}}},
		{"rename of a symbolic link", op.Op{Kind: op.Rename, Path: "d/link", Path2: "e/f"}, []Mark{entries("d"), entries("e")}},
		{"rename of something unknown", op.Op{Kind: op.Rename, Path: "d/what", Path2: "e/f"}, []Mark{entries("d"), {Path: "d/what", Scope: Tree}, entries("e"), {Path: "e/f", Scope: Tree}}},
		{"exchange", op.Op{Kind: op.Rename, Path: "d/big", Path2: "d/dir", Arg: unix.RENAME_EXCHANGE},
			[]Mark{entries("d"), {Path: "d/big", Scope: Tree}, entries("d"), {Path: "d/dir", Scope: Tree}, {Path: "d/dir", To: End}}},
		{"a directory goes out", op.Op{Kind: op.Rename, Path: "d/dir", Path2: "local/f"},
			[]Mark{entries("d"), {Path: "d/dir", Scope: Tree}, Everything, entries("local"), {Path: "local/f", Scope: Tree}}},
		{"a directory goes out and another comes in", op.Op{Kind: op.Rename, Path: "d/dir", Path2: "local/d", Arg: unix.RENAME_EXCHANGE},
			[]Mark{entries("d"), {Path: "d/dir", Scope: Tree}, Everything, {Path: "d/dir", Scope: Tree},
				entries("local"), {Path: "local/d", Scope: Tree}, {Path: "local/d", Scope: Tree}}},
		{"first name", op.Op{Kind: op.Adopt, Path: "d/big"}, []Mark{entries("d"), {Path: "d/big", To: End}}},
		{"fsync", op.Op{Kind: op.Fsync, Path: "f"}, nil},
		{"fsync with a time", op.Op{Kind: op.Fsync, Path: "f", Attr: op.Attr{Valid: op.AttrMtime}}, []Mark{{Path: "f"}}},
		{"put that keeps", put("d/big", unix.S_IFREG, big, 1, 0), []Mark{entries("d"), {Path: "d/big"}}},
		{"put that makes anew", put("d/new", unix.S_IFREG, big, 1, 0), []Mark{entries("d"), {Path: "d/new", To: End}}},
		{"put of a file with other names", put("d/tied", unix.S_IFREG, big, 1, 0), []Mark{entries("d"), {Path: "d/tied", To: End}}},
		{"put of several names", put("d/big", unix.S_IFREG, big, 2, 0), []Mark{entries("d"), {Path: "d/big", To: End}}},
		{"fresh put", put("d/big", unix.S_IFREG, big, 1, op.Fresh), []Mark{entries("d"), {Path: "d/big", To: End}}},
		{"put of another type", put("d/big", unix.S_IFDIR, 0, 0, 0), []Mark{entries("d"), {Path: "d/big", Scope: Tree}}},
		{"put of the root", put(op.Root, unix.S_IFDIR, 0, 0, 0), []Mark{{Path: op.Root}}},
		{"compare", put("d/big", unix.S_IFREG, big, 1, op.Compare), nil},
		{"names", op.Op{Kind: op.PutNames, Path: "d"}, []Mark{entries("d")}},
		{"put of a link", op.Op{Kind: op.PutLink, Path: "d/a", Path2: "e/b"}, []Mark{{Path: "d/a"}, entries("e")}},
		{"check", op.Op{Kind: op.Check, Path: "f"}, nil},
		{"join", op.Op{Kind: op.Join, Path: op.Root}, nil},
	} {
		got := touch(&c.o, look)
		if !slices.Equal(got.all(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, got.all(), c.want)
		}
	}
}
