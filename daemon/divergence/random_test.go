package divergence

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/tests/chaos"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// being is all of one inode.
type being struct {
	put   *op.Op
	data  []byte
	paths []string
}

func beings(t *testing.T, dir string, tr *tree.Tree) map[tree.Inode]*being {
	t.Helper()
	all := make(map[tree.Inode]*being)
	err := tr.Walk(func(path string, put *op.Op, id tree.Inode) error {
		b := all[id.Key()]
		if b == nil {
			b = &being{put: put}
			all[id.Key()] = b
			if put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
				data, err := os.ReadFile(filepath.Join(dir, path))
				if err != nil {
					return err
				}
				b.data = data
			}
		}
		b.paths = append(b.paths, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differs says in what two objects differ, but for names and directories' times.
func (b *being) differs(other *being) string {
	x, y := b.put.Attr, other.put.Attr
	if x.Mode&unix.S_IFMT == unix.S_IFDIR {
		x.Mtime, y.Mtime = op.Time{}, op.Time{}
	}
	switch {
	case x != y:
		return fmt.Sprintf("attributes %+v and %+v", x, y)
	case !reflect.DeepEqual(b.put.Xattrs, other.put.Xattrs), !bytes.Equal(b.put.Data, other.put.Data):
		return fmt.Sprintf("xattrs or link text of %v and %v", b.put, other.put)
	case !bytes.Equal(b.data, other.data):
		for i := range min(len(b.data), len(other.data)) {
			if b.data[i] != other.data[i] {
				return fmt.Sprintf("byte %d is %d and %d", i, b.data[i], other.data[i])
			}
		}
	}
	return ""
}

// repair makes n's replica equal to a's.
func (n *node) repair(a *tree.Tree) {
	n.t.Helper()
	first, names := map[tree.Inode]string{}, map[tree.Inode][]string{}
	if err := a.Walk(func(path string, _ *op.Op, id tree.Inode) error {
		names[id.Key()] = append(names[id.Key()], path)
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	err := a.Walk(func(path string, put *op.Op, id tree.Inode) error {
		kind := put.Attr.Mode & unix.S_IFMT
		if id.Nlink > 1 && kind != unix.S_IFDIR {
			if other, ok := first[id.Key()]; ok {
				n.do(&op.Op{Kind: op.PutLink, Path: other, Path2: path}, put)
				return nil
			}
			first[id.Key()] = path
			if len(first)%2 == 0 {
				put.Flags |= op.Fresh
			} else {
				put.Names = names[id.Key()][1:]
			}
		}
		n.do(put)
		again := *put
		again.Flags, again.Arg, again.Names = 0, 0, nil
		switch kind {
		case unix.S_IFDIR:
			entries, err := a.Names(path)
			if err != nil {
				return err
			}
			names := &op.Op{Kind: op.PutNames, Path: path, Dir: put.Attr.Mtime}
			for _, e := range entries {
				names.Names = append(names.Names, e.Name)
			}
			n.do(names)
		case unix.S_IFREG:
			digests, err := a.Digests(path, 0, 1<<40)
			if err != nil {
				return err
			}
			check := &op.Op{Kind: op.Check, Path: path, Data: digests}
			differ, err := n.tree.Check(check)
			if err != nil {
				return err
			}
			n.k.Compared(check, differ)
			for _, off := range differ {
				if err := a.PutRange(path, off, op.RegionSize, func(o *op.Op) error { n.do(o); return nil }); err != nil {
					return err
				}
			}
			n.do(&again)
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// Whatever happens to a replica while it is made equal, all that was in it when
// that began is either there still or can be had back, byte by byte.
func TestNothingIsLost(t *testing.T) {
	for name, restarts := range map[string]bool{"one process": false, "restarts": true} {
		t.Run(name, func(t *testing.T) {
			seed.Each(t, 6, func(t *testing.T, seed uint64) {
				c, n := chaos.New(seed), newNode(t)
				_, a := newTree(t)
				for range c.IntN(200) { // what they have in common
					o := c.Next()
					_, _ = a.Apply(o), n.tree.Apply(o)
				}
				for range 100 { // and what not
					_ = a.Apply(c.Next())
					_ = n.tree.Apply(c.Next())
				}
				was := beings(t, n.dir, n.tree)
				n.keep()
				for range 60 { // live ops before anything is compared
					var ops []*op.Op
					for range 1 + c.IntN(6) {
						ops = append(ops, c.Next())
					}
					for _, o := range ops {
						_ = a.Apply(o)
					}
					n.do(ops...)
					if restarts && c.IntN(5) == 0 {
						n.keep()
					}
				}
				n.repair(a)
				differ, err := tree.Diff(a, n.tree)
				// ext4 fills small holes beside what is written when it likes.
				differ = slices.DeleteFunc(differ, func(d string) bool { return strings.Contains(d, ": holes differ in ") })
				if err != nil || len(differ) > 0 {
					t.Fatalf("not equal: %q, %v", differ, err)
				}
				n.compare(was, !restarts)
			})
		})
	}
}

// compare checks that what was there is there or is kept. exact: under its own
// name.
func (n *node) compare(was map[tree.Inode]*being, exact bool) {
	t := n.t
	t.Helper()
	archive := n.only()
	dir, made := n.export()
	to, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	back := beings(t, dir, to)
	now := beings(t, n.dir, n.tree)
	kept := 0
	for id, x := range was {
		i := slices.IndexFunc(archive.Objects, func(r *Relic) bool { return archive.inode(r) == id })
		if i < 0 {
			if is := now[id]; is == nil {
				t.Errorf("%q is gone and was not kept", x.paths)
			} else if d := x.differs(is); d != "" {
				t.Errorf("%q was changed and not kept: %s", x.paths, d)
			}
			continue
		}
		kept++
		if !made[i].Whole {
			t.Errorf("%q: %s", x.paths, made[i].Text)
		}
		if exact && !slices.Contains(x.paths, string(made[i].Path)) {
			t.Errorf("%q is kept as %q", x.paths, made[i].Path)
		}
		_, at, err := to.Describe(made[i].To)
		if err != nil {
			t.Fatal(err)
		}
		if d := x.differs(back[at.Key()]); d != "" {
			t.Errorf("%q comes back different: %s (%s)", x.paths, d, made[i].Text)
		}
	}
	if kept == 0 {
		t.Error("nothing was kept: this proves nothing")
	}
	t.Logf("%d of %d objects kept, %+v", kept, len(was), archive.Totals())
}
