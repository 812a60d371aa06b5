package chaos

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Changes makes ops that can be applied to Tree, mostly, which two replicas that
// were equal grow apart by: of sparse files of several extents, of names of one
// file in several directories, of directories with more children than are
// recorded one by one.
type Changes struct {
	*Ops
	Tree Tree
	// Only are the kinds that it makes as long as it finds something for them; none
	// means all.
	Only []op.Kind
	// Memory says that Tree is on a tmpfs. That moves no ranges, and what was
	// allocated there is a hole until somebody reads it.
	Memory bool

	more []*op.Op // of a burst
}

// Tree is a *tree.Tree, whose own tests import this package.
type Tree interface {
	Dir() string
	Stat(path string) (unix.Stat_t, error)
	Apply(*op.Op) error
}

// extent is what data is recorded in.
const extent = 4 << 20

// large is how long files become, about.
const large = 6 * extent

// crowd is the directory of which bursts are.
const crowd = "crowd"

// often has each kind as often as it is made among all.
var often = [...]op.Kind{
	op.Create, op.Create, op.Create, op.Mkdir, op.Mkdir, op.Mknod, op.Symlink, op.Link, op.Link, op.Link, op.Unlink, op.Unlink, op.Rmdir,
	op.Rename, op.Rename, op.Rename, op.Rename, op.Adopt, op.Write, op.Write, op.Write, op.Write, op.Write, op.Write, op.Truncate, op.Truncate,
	op.Fallocate, op.Fallocate, op.CopyRange, op.CopyRange, op.SetAttr, op.SetAttr, op.Fsync, op.SetXattr, op.RemoveXattr,
}

// Next returns a change.
func (c *Changes) Next() *op.Op {
	const patience = 100
	if len(c.more) > 0 {
		o := c.more[0]
		c.more = c.more[1:]
		return o
	}
	for n := 0; ; n++ {
		kind := often[c.IntN(len(often))]
		if n < patience && len(c.Only) > 0 && !slices.Contains(c.Only, kind) {
			continue
		}
		if o := c.change(kind); o != nil {
			return o
		}
	}
}

// Some draws some of all kinds. What is rare among all of them is common among
// these.
func Some(r *rand.Rand) (kinds []op.Kind) {
	for _, kind := range often {
		if !slices.Contains(kinds, kind) && r.IntN(5) == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Burst has the next changes be many of one sort in one directory, n of them.
func (c *Changes) Burst(n int) {
	c.more = append(c.more, &op.Op{Kind: op.Mkdir, Path: crowd, Attr: c.attr(unix.S_IFDIR), Dir: c.Time()})
	sort := c.IntN(5)
	for i := range n {
		path := op.JoinPath(crowd, fmt.Sprint(i))
		if i == 0 || sort < 4 && c.kind(path) == 0 {
			c.more = append(c.more, &op.Op{Kind: op.Create, Path: path, Attr: c.attr(unix.S_IFREG), Dir: c.Time()})
		}
		switch sort {
		case 1:
			c.more = append(c.more, &op.Op{Kind: op.SetAttr, Path: path, Attr: c.attr(unix.S_IFREG)})
		case 2:
			c.more = append(c.more, &op.Op{Kind: op.Write, Path: path, Off: 2 * op.RegionSize, Data: c.data(8), Attr: c.mtime()})
		case 3:
			c.more = append(c.more, &op.Op{Kind: op.Unlink, Path: path, Dir: c.Time()})
		case 4: // in many extents of one file
			c.more = append(c.more, &op.Op{Kind: op.Write, Path: op.JoinPath(crowd, "0"), Off: int64(i) * 2 * extent, Data: c.data(8), Attr: c.mtime()})
		}
	}
}

// Bursting reports whether changes of a burst are to come.
func (c *Changes) Bursting() bool { return len(c.more) > 0 }

// change returns one change of a kind, or nil where nothing was found that it
// fits.
func (c *Changes) change(kind op.Kind) *op.Op {
	switch kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink, op.Adopt:
		path, ok := c.free()
		if !ok {
			return nil
		}
		o := &op.Op{Kind: kind, Path: path, Dir: c.Time()}
		switch kind {
		case op.Create:
			o.Attr = c.attr(unix.S_IFREG)
		case op.Mkdir:
			o.Attr = c.attr(unix.S_IFDIR)
		case op.Mknod:
			o.Attr = c.attr(unix.S_IFIFO)
		case op.Symlink:
			o.Attr, o.Data = c.attr(unix.S_IFLNK), []byte(c.path())
		}
		return o
	case op.Link:
		from, ok := c.find([...]uint32{unix.S_IFREG, unix.S_IFREG, unix.S_IFREG, unix.S_IFLNK}[c.IntN(4)])
		if to, free := c.free(); ok && free {
			return &op.Op{Kind: kind, Path: from, Path2: to, Dir2: c.Time()}
		}
		return nil
	case op.Rename:
		return c.rename()
	case op.CopyRange:
		return c.copy()
	}
	of := uint32(0)
	switch kind {
	case op.Rmdir:
		of = unix.S_IFDIR
	case op.Write, op.Truncate, op.Fallocate, op.Fsync:
		of = unix.S_IFREG
	case op.SetXattr, op.RemoveXattr:
		of = [...]uint32{unix.S_IFREG, unix.S_IFDIR}[c.IntN(2)]
	}
	path, ok := c.find(of)
	if !ok {
		return nil
	}
	o := &op.Op{Kind: kind, Path: path, Attr: c.mtime()}
	switch kind {
	case op.Unlink, op.Rmdir:
		o.Attr, o.Dir = op.Attr{}, c.Time()
	case op.Write:
		o.Off, o.Data = c.place(), c.data(1+c.IntN([...]int{8, 5000, 2 * op.RegionSize}[c.IntN(3)]))
	case op.Truncate:
		o.Attr.Valid, o.Attr.Size = o.Attr.Valid|op.AttrSize, c.place()*c.Int64N(2)
	case op.Fallocate:
		return c.fallocate(o)
	case op.SetAttr:
		o.Attr = c.attr(c.kind(path))
	case op.SetXattr, op.RemoveXattr:
		o.Attr, o.Name = op.Attr{}, c.xattr()
		if kind == op.SetXattr {
			o.Data = c.value(o.Name)
		}
	}
	return o
}

func (c *Changes) rename() *op.Op {
	from, ok := c.find([...]uint32{0, unix.S_IFREG, unix.S_IFDIR}[c.IntN(3)])
	if !ok {
		return nil
	}
	o := &op.Op{Kind: op.Rename, Path: from, Dir: c.Time(), Dir2: c.Time()}
	switch c.IntN(4) {
	case 0:
		o.Arg = unix.RENAME_EXCHANGE
		o.Path2, ok = c.find(0)
	case 1:
		o.Path2, ok = c.find(c.kind(from))
	default:
		o.Path2, ok = c.free()
	}
	if !ok || op.Within(o.Path2, from) || op.Within(from, o.Path2) {
		return nil
	}
	return o
}

func (c *Changes) fallocate(o *op.Op) *op.Op {
	o.Off, o.Len = c.place()&^4095, max(c.place()&^4095, 4096)
	sort := c.IntN(6)
	if c.Memory {
		sort = 5
	}
	switch sort {
	case 0:
		o.Arg, o.Len = unix.FALLOC_FL_ZERO_RANGE, min(o.Len, 1<<20)
	case 1:
		o.Len = 8192
	case 2, 3:
		// Just what can succeed: ext4 moves the mtime before it looks.
		st, err := c.Tree.Stat(o.Path)
		if err != nil || st.Size < 3*op.RegionSize {
			return nil
		}
		o.Arg = [...]uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[c.IntN(2)]
		o.Off, o.Len = c.Int64N(st.Size-2*op.RegionSize)&^4095, op.RegionSize/2
	default:
		o.Arg = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	}
	return o
}

func (c *Changes) copy() *op.Op {
	from, ok := c.find(unix.S_IFREG)
	to, too := c.find(unix.S_IFREG)
	if !ok || !too {
		return nil
	}
	a, err := c.Tree.Stat(from)
	b, err2 := c.Tree.Stat(to)
	if err != nil || err2 != nil || a.Size == 0 || a.Ino == b.Ino {
		return nil
	}
	off := c.Int64N(a.Size)
	return &op.Op{Kind: op.CopyRange, Path: from, Path2: to, Off: off, Off2: c.place(), Len: 1 + c.Int64N(min(a.Size-off, 2*op.RegionSize)), Attr: c.mtime()}
}

// path returns one of few paths.
func (c *Changes) path() string {
	if c.IntN(12) == 0 {
		return op.JoinPath(crowd, fmt.Sprint(c.IntN(40)))
	}
	path := string("abc"[c.IntN(3)])
	for range c.IntN(3) {
		path = op.JoinPath(path, string("abc"[c.IntN(3)]))
	}
	return path
}

const tries = 12

// find returns a path with something of a type there; 0 is any.
func (c *Changes) find(kind uint32) (string, bool) {
	for range tries {
		path := c.path()
		if k := c.kind(path); k == kind || kind == 0 && k != 0 {
			return path, true
		}
	}
	return "", false
}

// free returns a path with nothing there, in a directory.
func (c *Changes) free() (string, bool) {
	for range tries {
		path := c.path()
		if dir, _ := op.SplitPath(path); c.kind(path) == 0 && c.kind(dir) == unix.S_IFDIR {
			return path, true
		}
	}
	return "", false
}

// kind is the type of what is at path, 0 if nothing is.
func (c *Changes) kind(path string) uint32 {
	st, err := c.Tree.Stat(path)
	if err != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

func (c *Changes) mtime() op.Attr { return op.Attr{Valid: op.AttrMtime, Mtime: c.Time()} }

// place is an offset, mostly about one of few places, so that what is changed at one time is
// changed again.
func (c *Changes) place() int64 {
	if c.IntN(3) > 0 {
		return [...]int64{0, 3 * op.RegionSize, extent, 3*extent - 100, large - extent}[c.IntN(5)] + c.Int64N(100)
	}
	return c.Int64N([...]int64{100, op.RegionSize, 5 * op.RegionSize, large, large}[c.IntN(5)])
}

func (c *Changes) data(n int) []byte {
	unit := binary.LittleEndian.AppendUint64(nil, c.Uint64())
	return bytes.Repeat(unit, n/8+1)[:n]
}

// Do makes the change here, as the primary does.
func (c *Changes) Do(o *op.Op) error {
	if o.Kind != op.Adopt {
		return c.Tree.Apply(o)
	}
	// A file gets its first name that was written without one.
	dir, _ := op.SplitPath(o.Path)
	fd, err := unix.Open(filepath.Join(c.Tree.Dir(), dir), unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), o.Path)
	defer f.Close()
	if _, err := f.WriteAt(c.data(8), c.place()); err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, filepath.Join(c.Tree.Dir(), o.Path), unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	for _, path := range []string{o.Path, dir} {
		if err := c.Tree.Apply(&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: o.Dir}}); err != nil {
			return err
		}
	}
	return nil
}
