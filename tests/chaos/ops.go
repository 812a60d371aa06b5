// Package chaos makes random ops over few names, so that they meet: for tests
// that two trees agree, whatever is done to them.
package chaos

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// ACL is an access list with an entry for user 1000.
const ACL = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" + // owner rw
	"\x02\x00\x04\x00\xe8\x03\x00\x00" + // user 1000 r
	"\x04\x00\x04\x00\xff\xff\xff\xff" + // group r
	"\x10\x00\x04\x00\xff\xff\xff\xff" + // mask r
	"\x20\x00\x00\x00\xff\xff\xff\xff" // others nothing

// Capability is cap_net_raw=ep, as the kernel returns it.
const Capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Ops makes ops of any kind. Each carries all the times that it changes, as the
// primary sees to in the end.
type Ops struct {
	*rand.Rand
	// Still gives all of them one time. So a difference does not show by its time
	// alone.
	Still bool
	clock int64
}

// New makes the ops of a seed.
func New(seed uint64) *Ops { return &Ops{Rand: rand.New(rand.NewPCG(seed, 0)), clock: -100} }

// Path has one to three names.
func (c *Ops) Path() string {
	var names []string
	for range 1 + c.IntN(3) {
		names = append(names, []string{"a", "b", "c", "\xff"}[c.IntN(4)])
	}
	return strings.Join(names, "/")
}

// Time is later than all before, unless they are Still.
func (c *Ops) Time() op.Time {
	if c.Still {
		return op.Time{Sec: 1e9}
	}
	c.clock++
	return op.Time{Sec: c.clock, Nsec: uint32(c.IntN(1e9))}
}

func (c *Ops) attr(kind uint32) op.Attr {
	return op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime,
		Mode:  kind | uint32(c.IntN(0o10000)), UID: uint32(c.IntN(3)), GID: uint32(c.IntN(3)), Mtime: c.Time(),
	}
}

// off is a place in a file, half of the time at a block's beginning.
func (c *Ops) off() int64 {
	off := c.Int64N(3 * op.RegionSize)
	if c.IntN(2) == 0 {
		off &^= 4095
	}
	return off
}

func (c *Ops) xattr() string {
	return []string{"user.a", "user.b", "trusted.c", "security.capability", "system.posix_acl_access", "system.posix_acl_default"}[c.IntN(6)]
}

func (c *Ops) value(name string) []byte {
	switch {
	case strings.HasPrefix(name, "system."):
		return []byte(ACL)
	case strings.HasPrefix(name, "security."):
		return []byte(Capability)
	}
	return bytes.Repeat([]byte{byte(c.IntN(256))}, c.IntN(200))
}

// Next makes an op. Whether it can be applied is for the tree to say.
func (c *Ops) Next() *op.Op {
	o := &op.Op{Path: c.Path(), Dir: c.Time()}
	data := op.Attr{Valid: op.AttrMtime, Mtime: c.Time()}
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
		o.Kind, o.Attr, o.Data = op.Symlink, c.attr(unix.S_IFLNK), []byte(c.Path())
	case 8, 9:
		o.Kind, o.Path2, o.Dir, o.Dir2 = op.Link, c.Path(), op.Time{}, c.Time()
	case 10:
		o.Kind = []op.Kind{op.Unlink, op.Rmdir}[c.IntN(2)]
	case 11, 12:
		o.Kind, o.Path2, o.Dir2 = op.Rename, c.Path(), c.Time()
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
		o.Kind, o.Path2, o.Off, o.Off2, o.Len, o.Attr, o.Dir = op.CopyRange, c.Path(), c.off(), c.off(), 1+c.off(), data, op.Time{}
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
