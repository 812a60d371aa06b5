package tree

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/tests/chaos"
	"github.com/standbyfs/standbyfs/tests/seed"
	"golang.org/x/sys/unix"
)

// errnoOf is what of an error two trees must agree on.
func errnoOf(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return fmt.Sprint(err)
}

// settle gives explicit times to what an op leaves with the time of day: what
// a failed one touched, its directories too, and the device that stands for a
// whiteout.
func settle(o *op.Op, failed bool, when op.Time, trees ...*Tree) {
	if !failed && o.Arg != unix.RENAME_WHITEOUT {
		return
	}
	for _, path := range []string{o.Path, o.Path2} {
		if path == "" {
			continue
		}
		dir, _ := op.SplitPath(path)
		for _, path := range []string{path, dir} {
			for _, tr := range trees {
				_ = tr.Apply(&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: when}})
			}
		}
	}
}

// Two trees to which the same ops are applied are equal, and fail alike.
func TestChaosOpsAgree(t *testing.T) {
	seed.Each(t, 6, func(t *testing.T, seed uint64) {
		c, a, b := chaos.New(seed), newTree(t), newTree(t)
		ext4(t, a)
		done := map[op.Kind]int{}
		for range 800 {
			o := c.Next()
			errA, errB := a.Apply(o), b.Apply(o)
			if errnoOf(errA) != errnoOf(errB) {
				t.Fatalf("%v: errors %v and %v", o, errA, errB)
			}
			if errA == nil {
				done[o.Kind]++
			}
			settle(o, errA != nil, c.Time(), a, b)
		}
		t.Log("applied: ", done)
		same(t, a, b)
	})
}

// resyncOps emits the ops of a resync that meets no others: parents first, each
// object put, then a directory's names, or a file's digests.
func resyncOps(a *Tree, emit func(*op.Op) error) error {
	first := map[Inode]string{}
	return a.Walk(func(path string, put *op.Op, id Inode) error {
		kind := put.Attr.Mode & unix.S_IFMT
		if id.Nlink > 1 && kind != unix.S_IFDIR {
			if other, ok := first[id.Key()]; ok {
				if err := emit(&op.Op{Kind: op.PutLink, Path: other, Path2: path}); err != nil {
					return err
				}
			} else {
				first[id.Key()] = path
				put.Flags |= op.Fresh
			}
		}
		if err := emit(put); err != nil {
			return err
		}
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
			return emit(names)
		case unix.S_IFREG:
			digests, err := a.Digests(path, 0, 1<<40)
			if err != nil || len(digests) == 0 {
				return err
			}
			return emit(&op.Op{Kind: op.Check, Path: path, Data: digests})
		}
		return nil
	})
}

// resync makes b equal to a.
func resync(a, b *Tree) error {
	return resyncOps(a, func(o *op.Op) error {
		if o.Kind != op.Check {
			return b.ApplyLenient(o)
		}
		differ, err := b.Check(o)
		if err != nil || len(differ) == 0 {
			return err
		}
		for _, off := range differ {
			if err := a.PutRange(o.Path, off, op.RegionSize, b.ApplyLenient); err != nil {
				return err
			}
		}
		again, _, err := a.Describe(o.Path) // data took capabilities and mtime
		if err != nil {
			return err
		}
		again.Arg = 0
		return b.ApplyLenient(again)
	})
}

// Whatever stands in b, a resync makes it equal to a; then nothing is left to
// report, and a second one changes nothing.
func TestChaosResync(t *testing.T) {
	seed.Each(t, 12, func(t *testing.T, seed uint64) {
		c, a, b := chaos.New(seed), newTree(t), newTree(t)
		ext4(t, a)
		for range c.IntN(400) { // what they have in common
			o := c.Next()
			_, _ = a.Apply(o), b.Apply(o)
		}
		for range 300 { // and what not
			_ = a.Apply(c.Next())
			_ = b.Apply(c.Next())
		}
		found, err := Diff(a, b)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Error("the two trees are equal before the resync")
		}
		for range 2 {
			if err := resync(a, b); err != nil {
				t.Fatal(err)
			}
			same(t, a, b)
		}
		err = resyncOps(a, func(o *op.Op) error {
			said, err := b.Compare(o)
			for _, d := range said {
				t.Errorf("%v: %s", o, d.What)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// State makes a tree anew wherever it is applied.
func TestChaosState(t *testing.T) {
	seed.Each(t, 6, func(t *testing.T, seed uint64) {
		c, a, b := chaos.New(seed), newTree(t), newTree(t)
		ext4(t, a)
		for range 400 {
			_ = a.Apply(c.Next())
			_ = b.Apply(c.Next())
		}
		if err := b.Apply(&op.Op{Kind: op.PutNames, Path: op.Root}); err != nil {
			t.Fatal(err)
		}
		if err := a.State(op.Root, b.Apply); err != nil {
			t.Fatal(err)
		}
		same(t, a, b)
	})
}
