package tree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// locked makes a tree with locked objects in it, and unlocks what is left.
func locked(t *testing.T) *Tree {
	t.Helper()
	dir := t.TempDir()
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, path := range []string{"fixed", "log", "d", "d/fixed", "d/moved", "twin"} {
			if at, err := tree.At(path); err == nil {
				if err := at.clearLocks(); err != nil && !missing(err) {
					t.Errorf("unlock %s: %v", path, err)
				}
				at.Close()
			}
		}
		tree.Close()
	})
	for _, name := range []string{"fixed", "log", "d/fixed", "free"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "fixed"), filepath.Join(dir, "twin")); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]uint32{"fixed": op.InodeImmutable, "log": op.InodeAppend | op.InodeNodump, "d/fixed": op.InodeImmutable, "d": op.InodeAppend} {
		if err := tree.Apply(&op.Op{Kind: op.SetAttr, Path: name, Attr: op.Attr{Valid: op.AttrFlags, Flags: flags}}); err != nil {
			if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("no inode flags on this file system")
			}
			t.Fatal(err)
		}
	}
	return tree
}

// TestApplyDespiteLocks applies what a primary could do before it locked an
// object or by a descriptor from before. The locks are there again afterwards.
func TestApplyDespiteLocks(t *testing.T) {
	mtime := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1000}}
	born := op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: unix.S_IFREG | 0o640, UID: 1, GID: 2, Mtime: op.Time{Sec: 5}}
	for name, o := range map[string]*op.Op{
		"write":        {Kind: op.Write, Path: "log", Off: 3, Data: []byte(" and more")},
		"truncate":     {Kind: op.Truncate, Path: "log", Attr: op.Attr{Valid: op.AttrSize, Size: 1}},
		"fallocate":    {Kind: op.Fallocate, Path: "fixed", Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Len: 2},
		"copy":         {Kind: op.CopyRange, Path: "fixed", Path2: "log", Len: 5},
		"mtime":        {Kind: op.SetAttr, Path: "log", Attr: mtime},
		"mtime of d":   {Kind: op.SetAttr, Path: "d", Attr: mtime},
		"xattr":        {Kind: op.SetXattr, Path: "fixed", Name: "user.a", Data: []byte("b")},
		"create":       {Kind: op.Create, Path: "d/new", Attr: born, Dir: op.Time{Sec: 7}},
		"link":         {Kind: op.Link, Path: "free", Path2: "d/free", Dir2: op.Time{Sec: 7}},
		"unlink":       {Kind: op.Unlink, Path: "d/fixed", Dir: op.Time{Sec: 7}},
		"rename":       {Kind: op.Rename, Path: "d/fixed", Path2: "d/moved", Dir: op.Time{Sec: 7}, Dir2: op.Time{Sec: 7}},
		"put of names": {Kind: op.PutNames, Path: "d"},
		"put of data":  {Kind: op.Put, Path: "log", Arg: 1, Attr: op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrSize | op.AttrFlags, Mode: unix.S_IFREG | 0o600, Size: 100, Flags: op.InodeAppend | op.InodeNodump}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := locked(t)
			if err := tree.Apply(o); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]uint32{"fixed": op.InodeImmutable, "twin": op.InodeImmutable, "log": op.InodeAppend | op.InodeNodump, "d": op.InodeAppend} {
				put, _, err := tree.Describe(path)
				if err != nil {
					t.Fatal(err)
				}
				if put.Attr.Flags != want {
					t.Errorf("%s has flags %#x afterwards, want %#x", path, put.Attr.Flags, want)
				}
			}
		})
	}
}

// TestPutFlags makes flags equal, whatever was there.
func TestPutFlags(t *testing.T) {
	tree := locked(t)
	for _, path := range []string{"fixed", "log", "d", "free"} {
		for _, flags := range []uint32{0, op.InodeImmutable, op.InodeAppend, op.InodeFlags, op.InodeNodump} {
			put, _, err := tree.Describe(path)
			if err != nil {
				t.Fatal(err)
			}
			put.Attr.Flags, put.Attr.Valid = flags, put.Attr.Valid&^op.AttrFlags
			if flags&op.InodeDirsync != 0 && path != "d" {
				put.Attr.Flags &^= op.InodeDirsync // of directories only
			}
			if put.Attr.Flags != 0 {
				put.Attr.Valid |= op.AttrFlags
			}
			before, err := words(tree.Compare(put))
			if err != nil {
				t.Fatal(err)
			}
			if err := tree.ApplyLenient(put); err != nil {
				t.Fatalf("%s with %#x: %v", path, flags, err)
			}
			after, err := words(tree.Compare(put))
			if err != nil || len(after) > 0 {
				t.Errorf("%s with %#x: differed in %q, still in %q, %v", path, flags, before, after, err)
			}
			if flags == op.InodeFlags && len(before) == 0 {
				t.Errorf("%s: a comparison does not see flags", path)
			}
		}
		if err := tree.Apply(&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrFlags}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemoveLocked removes locked trees, and leaves other names as they are.
func TestRemoveLocked(t *testing.T) {
	tree := locked(t)
	for _, path := range []string{"d", "fixed", "log"} {
		if err := tree.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tree.Describe(path); !missing(err) {
			t.Errorf("%s is there still: %v", path, err)
		}
	}
	put, _, err := tree.Describe("twin")
	if err != nil || put.Attr.Flags != op.InodeImmutable {
		t.Errorf("the other name of what was removed: %#x, %v", put.Attr.Flags, err)
	}
}
