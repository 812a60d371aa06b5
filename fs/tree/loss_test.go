package tree

import (
	"reflect"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/tests/chaos"
	"github.com/standbyfs/standbyfs/tests/seed"
	"golang.org/x/sys/unix"
)

func TestLosses(t *testing.T) {
	given := func(t *testing.T) *Tree {
		tr := newTree(t)
		apply(t, tr, mkdir("d"), create("d/f"), create("f"), write("f", 0, "0123456789"), create("g"), &op.Op{Kind: op.Link, Path: "g", Path2: "h"})
		return tr
	}
	put := func(tr *Tree, path string, change func(*op.Op)) *op.Op {
		o, _, err := tr.Describe(path)
		if err != nil {
			t.Fatal(err)
		}
		change(o)
		return o
	}
	for _, c := range []struct {
		name string
		do   func(tr *Tree) *op.Op
		want Loss
	}{
		{"create", func(*Tree) *op.Op { return create("new") }, Loss{Makes: "new"}},
		{"create in its way", func(*Tree) *op.Op { return create("d") }, Loss{Makes: "d", Gone: []string{"d"}}},
		{"unlink", func(*Tree) *op.Op { return remove(op.Unlink, "f") }, Loss{Gone: []string{"f"}}},
		{"unlink nothing", func(*Tree) *op.Op { return remove(op.Unlink, "x") }, Loss{}},
		{"unlink below a file", func(*Tree) *op.Op { return remove(op.Unlink, "f/x") }, Loss{}},
		{"rmdir", func(*Tree) *op.Op { return remove(op.Rmdir, "d") }, Loss{Gone: []string{"d"}}},
		{"rename", func(*Tree) *op.Op { return rename("f", "x", 0) }, Loss{}},
		{"rename over", func(*Tree) *op.Op { return rename("f", "d", 0) }, Loss{Gone: []string{"d"}}},
		{"rename over its parent", func(*Tree) *op.Op { return rename("d/f", "d", 0) }, Loss{Gone: []string{"d"}}},
		{"rename of nothing", func(*Tree) *op.Op { return rename("x", "f", 0) }, Loss{}},
		{"rename to its other name", func(*Tree) *op.Op { return rename("g", "h", 0) }, Loss{}},
		{"exchange", func(*Tree) *op.Op { return rename("f", "d", unix.RENAME_EXCHANGE) }, Loss{}},
		{"link over", func(*Tree) *op.Op { return &op.Op{Kind: op.Link, Path: "g", Path2: "f"} }, Loss{Gone: []string{"f"}}},
		{"write", func(*Tree) *op.Op { return write("f", 3, "abc") }, Loss{Over: []Range{{"f", 3, 3}}}},
		{"write to a directory", func(*Tree) *op.Op { return write("d", 3, "abc") }, Loss{}},
		{"truncate", func(*Tree) *op.Op {
			return &op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Valid: op.AttrSize, Size: 4}}
		}, Loss{Over: []Range{{"f", 4, toEnd}}}},
		{"punch", func(*Tree) *op.Op {
			return &op.Op{Kind: op.Fallocate, Path: "f", Off: 1, Len: 2, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}
		}, Loss{Over: []Range{{"f", 1, 2}}}},
		{"collapse", func(*Tree) *op.Op {
			return &op.Op{Kind: op.Fallocate, Path: "f", Off: 1, Len: 2, Arg: unix.FALLOC_FL_COLLAPSE_RANGE}
		}, Loss{Over: []Range{{"f", 1, toEnd}}}},
		{"copy", func(*Tree) *op.Op { return &op.Op{Kind: op.CopyRange, Path: "f", Path2: "g", Off: 1, Off2: 2, Len: 3} }, Loss{Over: []Range{{"g", 2, 3}}}},
		{"the attributes it has", func(tr *Tree) *op.Op {
			return put(tr, "f", func(o *op.Op) { o.Kind, o.Xattrs, o.Arg = op.SetAttr, nil, 0 })
		}, Loss{}},
		{"others", func(*Tree) *op.Op { return touch("f", 99) }, Loss{Changed: []string{"f"}}},
		{"fsync", func(*Tree) *op.Op { return &op.Op{Kind: op.Fsync, Path: "f"} }, Loss{}},
		{"fsync with a time", func(*Tree) *op.Op { o := touch("f", 99); o.Kind = op.Fsync; return o }, Loss{Changed: []string{"f"}}},
		{"a directory's time", func(*Tree) *op.Op { return touch("d", 99) }, Loss{}},
		{"xattr", func(*Tree) *op.Op { return &op.Op{Kind: op.SetXattr, Path: "d", Name: "user.a"} }, Loss{Changed: []string{"d"}}},
		{"put what is there", func(tr *Tree) *op.Op { return put(tr, "f", func(*op.Op) {}) }, Loss{}},
		{"put nothing there", func(tr *Tree) *op.Op { return put(tr, "f", func(o *op.Op) { o.Path = "x" }) }, Loss{Makes: "x"}},
		{"put another type", func(tr *Tree) *op.Op { return put(tr, "f", func(o *op.Op) { o.Path = "d" }) }, Loss{Makes: "d", Gone: []string{"d"}}},
		{"put anew", func(tr *Tree) *op.Op { return put(tr, "f", func(o *op.Op) { o.Flags = op.Fresh }) }, Loss{Makes: "f", Gone: []string{"f"}}},
		{"put one name", func(tr *Tree) *op.Op { return put(tr, "f", func(o *op.Op) { o.Path = "g" }) }, Loss{Makes: "g", Gone: []string{"g"}}},
		{"put shorter", func(tr *Tree) *op.Op { return put(tr, "f", func(o *op.Op) { o.Attr.Size = 5 }) }, Loss{Over: []Range{{"f", 5, toEnd}}}},
		{"put a mode", func(tr *Tree) *op.Op { return put(tr, "d", func(o *op.Op) { o.Attr.Mode ^= 1 }) }, Loss{Changed: []string{"d"}}},
		{"put on the root", func(tr *Tree) *op.Op {
			return put(tr, ".", func(o *op.Op) { o.Xattrs = []op.Xattr{{Name: "user.a"}} })
		}, Loss{Changed: []string{"."}}},
		{"put a name", func(*Tree) *op.Op { return &op.Op{Kind: op.PutLink, Path: "g", Path2: "f"} }, Loss{Gone: []string{"f"}}},
		{"put the name it has", func(*Tree) *op.Op { return &op.Op{Kind: op.PutLink, Path: "g", Path2: "h"} }, Loss{}},
		{"put a name more", func(tr *Tree) *op.Op {
			return put(tr, "g", func(o *op.Op) { o.Path, o.Names, o.Attr.UID = "x", []string{"g", "h"}, 9 })
		}, Loss{Changed: []string{"g"}, Links: "g"}},
		{"put a name more in the way", func(tr *Tree) *op.Op {
			return put(tr, "g", func(o *op.Op) { o.Path, o.Names, o.Attr.UID = "d", []string{"g", "h"}, 9 })
		}, Loss{Gone: []string{"d"}, Changed: []string{"g"}, Links: "g"}},
		{"put names", func(*Tree) *op.Op { return &op.Op{Kind: op.PutNames, Path: ".", Path2: "d", Names: []string{"g"}} }, Loss{Gone: []string{"f", "h"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := given(t)
			got, err := tr.Losses(c.do(tr))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// object is all of one inode.
type object struct {
	put   *op.Op
	data  []byte
	names []string
}

func objects(t *testing.T, tr *Tree) map[Inode]*object {
	t.Helper()
	all := make(map[Inode]*object)
	err := tr.Walk(func(path string, put *op.Op, id Inode) error {
		o := all[id.Key()]
		if o == nil {
			o = &object{put: put}
			all[id.Key()] = o
			if put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
				o.data = make([]byte, put.Attr.Size)
				f, _, err := tr.openData(path)
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := f.ReadAt(o.data, 0); err != nil && len(o.data) > 0 {
					return err
				}
			}
		}
		o.names = append(o.names, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever an op takes from whatever stands there, Losses has said so.
func TestChaosLosses(t *testing.T) {
	seed.Each(t, 6, func(t *testing.T, seed uint64) {
		c, a, b := chaos.New(seed), newTree(t), newTree(t)
		ext4(t, a)
		lost := 0
		for range 600 {
			_ = a.Apply(c.Next())
			o := c.Next()
			if c.IntN(3) == 0 {
				o = repairOf(t, c, a)
			}
			before := objects(t, b)
			loss, err := b.Losses(o)
			if err != nil {
				t.Fatalf("losses by %v: %v", o, err)
			}
			_ = b.ApplyLenient(o)
			after := objects(t, b)
			for id, x := range before {
				if !foretold(t, o, loss, x, after[id]) {
					lost++
				}
			}
			if t.Failed() {
				return
			}
		}
		if lost == 0 {
			t.Error("nothing was ever lost: this test proves nothing")
		}
	})
}

// repairOf makes an op by which something becomes as it is in a.
func repairOf(t *testing.T, c *chaos.Ops, a *Tree) *op.Op {
	t.Helper()
	for {
		path := c.Path()
		put, _, err := a.Describe(path)
		if err != nil {
			if c.IntN(4) == 0 {
				return &op.Op{Kind: op.PutNames, Path: op.Root, Names: []string{"a", "b", "c"}[:c.IntN(4)]}
			}
			continue
		}
		switch c.IntN(4) {
		case 0:
			return &op.Op{Kind: op.PutLink, Path: path, Path2: c.Path()}
		case 1:
			put.Flags |= op.Fresh
		case 2:
			put.Names, put.Arg = []string{c.Path(), c.Path()}, 3
		}
		return put
	}
}

// foretold reports whether x is the same afterwards, and fails the test if it
// is not and the loss does not say so.
func foretold(t *testing.T, o *op.Op, loss Loss, x, after *object) bool {
	t.Helper()
	gone := func(path string) bool {
		return slices.ContainsFunc(loss.Gone, func(g string) bool { return op.Within(path, g) })
	}
	if after == nil {
		for _, name := range x.names {
			if !gone(name) {
				t.Errorf("%v: %q is gone and was not in %+v", o, name, loss)
			}
		}
		return false
	}
	if slices.ContainsFunc(x.names, gone) {
		return false // its inode may be another object's by now
	}
	same := true
	is, was := after.put.Attr, x.put.Attr
	was.Size, is.Size = 0, 0
	if was.Mode&unix.S_IFMT == unix.S_IFDIR {
		was.Mtime, is.Mtime = op.Time{}, op.Time{}
	}
	touched := slices.ContainsFunc(x.names, func(n string) bool {
		return slices.Contains(loss.Changed, n) || slices.ContainsFunc(loss.Over, func(r Range) bool { return r.Path == n })
	})
	if was != is || !reflect.DeepEqual(x.put.Xattrs, after.put.Xattrs) || len(x.data) != len(after.data) {
		same = false
		if !touched {
			t.Errorf("%v: %q has changed from %+v to %+v and was not in %+v", o, x.names, x.put, after.put, loss)
		}
	}
	for i, b := range x.data {
		if i < len(after.data) && after.data[i] == b {
			continue
		}
		same = false
		if !slices.ContainsFunc(loss.Over, func(r Range) bool {
			return slices.Contains(x.names, r.Path) && int64(i) >= r.Off && int64(i)-r.Off < r.Len
		}) {
			t.Errorf("%v: byte %d of %q has changed and was not in %+v", o, i, x.names, loss)
			break
		}
	}
	return same
}
