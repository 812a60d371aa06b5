package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// chaos makes random ops over few names, so that they meet. Each carries all
// the times that it changes, as the primary sees to in the end.
type chaos struct {
	*rand.Rand
	clock int64
}

func newChaos(seed uint64) *chaos { return &chaos{Rand: rand.New(rand.NewPCG(seed, 0)), clock: -100} }

// path has one to three names.
func (c *chaos) path() string {
	var names []string
	for range 1 + c.IntN(3) {
		names = append(names, string(rune('a'+c.IntN(4))))
	}
	return strings.Join(names, "/")
}

func (c *chaos) time() op.Time {
	c.clock++
	return op.Time{Sec: c.clock, Nsec: uint32(c.IntN(1e9))}
}

func (c *chaos) attr(kind uint32) op.Attr {
	return op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime,
		Mode:  kind | uint32(c.IntN(0o10000)), UID: uint32(c.IntN(3)), GID: uint32(c.IntN(3)), Mtime: c.time(),
	}
}

// off is a place in a file, half of the time at a block's beginning.
func (c *chaos) off() int64 {
	off := c.Int64N(3 * op.RegionSize)
	if c.IntN(2) == 0 {
		off &^= 4095
	}
	return off
}

func (c *chaos) xattr() string {
	return []string{"user.a", "user.b", "trusted.c", "security.capability", "system.posix_acl_access", "system.posix_acl_default"}[c.IntN(6)]
}

func (c *chaos) value(name string) []byte {
	switch {
	case strings.HasPrefix(name, "system."):
		return []byte(acl)
	case strings.HasPrefix(name, "security."):
		return []byte(capability)
	}
	return bytes.Repeat([]byte{byte(c.IntN(256))}, c.IntN(200))
}

func (c *chaos) op() *op.Op {
	o := &op.Op{Path: c.path(), Dir: c.time()}
	data := op.Attr{Valid: op.AttrMtime, Mtime: c.time()}
	switch c.IntN(20) {
	case 0, 1, 2:
		o.Kind, o.Attr = op.Create, c.attr(unix.S_IFREG)
	case 3, 4, 5:
		o.Kind, o.Attr = op.Mkdir, c.attr(unix.S_IFDIR)
	case 6:
		o.Kind, o.Attr = op.Mknod, c.attr([]uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK}[c.IntN(4)])
		if k := o.Attr.Mode & unix.S_IFMT; k == unix.S_IFCHR || k == unix.S_IFBLK {
			o.Attr.Valid |= op.AttrRdev
			o.Attr.Rdev = uint32(unix.Mkdev(uint32(1+c.IntN(2)), uint32(c.IntN(400))))
		}
	case 7:
		o.Kind, o.Attr, o.Data = op.Symlink, c.attr(unix.S_IFLNK), []byte(c.path())
	case 8, 9:
		o.Kind, o.Path2, o.Dir, o.Dir2 = op.Link, c.path(), op.Time{}, c.time()
	case 10:
		o.Kind = []op.Kind{op.Unlink, op.Rmdir}[c.IntN(2)]
	case 11, 12:
		o.Kind, o.Path2, o.Dir2 = op.Rename, c.path(), c.time()
		o.Arg = []uint32{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT}[c.IntN(5)]
	case 13, 14, 15:
		o.Kind, o.Off, o.Attr, o.Dir = op.Write, c.off(), data, op.Time{}
		o.Data = bytes.Repeat([]byte{byte(c.IntN(3))}, 1+c.IntN(op.RegionSize))
	case 16:
		o.Kind, o.Attr, o.Dir = op.Truncate, data, op.Time{}
		o.Attr.Valid |= op.AttrSize
		o.Attr.Size = c.off()
	case 17:
		o.Kind, o.Off, o.Len, o.Attr, o.Dir = op.Fallocate, c.off(), 1+c.off(), data, op.Time{}
		o.Arg = []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
			unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[c.IntN(7)]
		if o.Arg&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
			o.Off, o.Len = o.Off&^4095, 4096*int64(1+c.IntN(8))
		}
	case 18:
		o.Kind, o.Path2, o.Off, o.Off2, o.Len, o.Attr, o.Dir = op.CopyRange, c.path(), c.off(), c.off(), 1+c.off(), data, op.Time{}
	case 19:
		o.Dir = op.Time{}
		switch c.IntN(3) {
		case 0:
			o.Kind, o.Attr = op.SetAttr, c.attr(0)
		case 1:
			o.Kind, o.Name = op.SetXattr, c.xattr()
			o.Data = c.value(o.Name)
			if o.Name == "system.posix_acl_access" {
				o.Attr = op.Attr{Valid: op.AttrMode, Mode: 0o640}
			}
		case 2:
			o.Kind, o.Name = op.RemoveXattr, c.xattr()
		}
	}
	return o
}

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
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(6) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed+round)
			c, a, b := newChaos(seed+round), newTree(t), newTree(t)
			ext4(t, a)
			done := map[op.Kind]int{}
			for range 800 {
				o := c.op()
				errA, errB := a.Apply(o), b.Apply(o)
				if errnoOf(errA) != errnoOf(errB) {
					t.Fatalf("%v: errors %v and %v", o, errA, errB)
				}
				if errA == nil {
					done[o.Kind]++
				}
				settle(o, errA != nil, c.time(), a, b)
			}
			t.Log("applied: ", done)
			same(t, a, b)
		})
	}
}

// repair makes b equal to a as a resync does that meets no other ops: parents
// first, each object put, then its regions checked and those that differ put.
func chaosRepair(a, b *Tree) error {
	first := map[Inode]string{}
	return a.Walk(func(path string, put *op.Op, id Inode) error {
		kind := put.Attr.Mode & unix.S_IFMT
		if id.Nlink > 1 && kind != unix.S_IFDIR {
			if other, ok := first[id.Key()]; ok {
				return errors.Join(b.ApplyLenient(&op.Op{Kind: op.PutLink, Path: other, Path2: path}), b.ApplyLenient(put))
			}
			first[id.Key()] = path
			put.Flags |= op.Fresh
		}
		if err := b.ApplyLenient(put); err != nil {
			return err
		}
		put.Flags, put.Arg = 0, 0
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
			return b.ApplyLenient(names)
		case unix.S_IFREG:
			digests, err := a.Digests(path, 0, 1<<40)
			if err != nil {
				return err
			}
			differ, err := b.Check(&op.Op{Kind: op.Check, Path: path, Data: digests})
			if err != nil || len(differ) == 0 {
				return err
			}
			for _, off := range differ {
				if err := a.PutRange(path, off, op.RegionSize, b.ApplyLenient); err != nil {
					return err
				}
			}
			return b.ApplyLenient(put) // data took capabilities and mtime
		}
		return nil
	})
}

// Whatever stands in b, a repair makes it equal to a; then nothing is left to
// report, and repairing again changes nothing.
func TestChaosRepair(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(12) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed+round)
			c, a, b := newChaos(seed+round), newTree(t), newTree(t)
			ext4(t, a)
			for range c.IntN(400) { // what they have in common
				o := c.op()
				_, _ = a.Apply(o), b.Apply(o)
			}
			for range 300 { // and what not
				_ = a.Apply(c.op())
				_ = b.Apply(c.op())
			}
			found, err := Diff(a, b)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				t.Error("the two trees are equal before the repair")
			}
			for range 2 {
				if err := chaosRepair(a, b); err != nil {
					t.Fatal(err)
				}
				same(t, a, b)
			}
			err = a.Walk(func(path string, put *op.Op, _ Inode) error {
				said, err := b.Compare(put)
				for _, s := range said {
					t.Errorf("%s: %s", path, s.What)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// State makes a tree anew wherever it is applied.
func TestChaosState(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(6) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed+round)
			c, a, b := newChaos(seed+round), newTree(t), newTree(t)
			ext4(t, a)
			for range 400 {
				_ = a.Apply(c.op())
				_ = b.Apply(c.op())
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
}
