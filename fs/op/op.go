// Package op is the vocabulary of standbyfs: what one mutating operation of
// the file system is, and where it stands in the volume's one total order.
//
// An op names its object by path, relative to the volume's root and as it was
// at the op's position, so that a frame explains itself, records survive
// restarts and a mirror needs no inode table. The root is ".". A path is any
// bytes but NUL, with no empty, "." or ".." component; names are not UTF-8 by
// promise.
//
// An op carries results, not requests: resulting modes, owners and times. To
// apply it twice, or on another machine an hour later, gives the same replica.
package op

import (
	"context"
	"fmt"
	"strings"
)

// Root is the path of the volume's root directory.
const Root = "."

// RegionSize is the unit in which file data is compared and repaired, in
// bytes. Regions are aligned to it. It is part of the wire format.
const RegionSize = 64 << 10

// Op is one operation. Which fields a kind uses is said at the kind; all
// others are zero.
type Op struct {
	Kind  Kind
	Flags Flags
	Path  string // "" while the file has no name: the op stays local
	Path2 string
	Name  string
	Off   int64
	Off2  int64
	Len   int64
	Arg   uint32
	Attr  Attr
	// Dir is the resulting mtime of Path's parent, Dir2 that of Path2's. Zero
	// where the op does not change it.
	Dir, Dir2 Time
	Data      []byte // valid until Commit returns; whoever keeps it copies it
	Xattrs    []Xattr
	Names     []string // sorted bytewise
	Member    NodeID
	Members   []NodeID
}

// Flags qualify an op.
type Flags uint8

const (
	// Barrier: the op is on stable storage before it is acknowledged as
	// durable (O_SYNC and O_DSYNC writes; every Fsync carries it).
	Barrier Flags = 1 << iota
	// DataOnly: an Fsync is an fdatasync(2).
	DataOnly
	// Compare: a repair op reports differences and changes nothing.
	Compare
	// Fresh: a Put makes a new inode even where one of the right type stands.
	Fresh
	// Partial: not all of what a Put is of is looked at. If it finds nothing
	// that it can keep the mirror reports so, and then all of it is.
	Partial
)

// Attr holds attributes of an object; Valid says which fields count.
type Attr struct {
	Valid    AttrMask
	Mode     uint32 // type and permission bits, as st_mode
	UID, GID uint32
	Rdev     uint32 // as makedev(3), kernel encoding of stat(2)
	Size     int64  // bytes
	Atime    Time
	Mtime    Time
	Flags    uint32 // of the inode, as chattr(1) sets them: bits of InodeFlags
}

// AttrMask names fields of Attr.
type AttrMask uint8

const (
	AttrMode AttrMask = 1 << iota
	AttrOwner
	AttrRdev
	AttrSize
	AttrAtime
	AttrMtime
	AttrFlags
)

// Inode flags that are replicated, with the numbers of FS_IOC_SETFLAGS. All
// others say how a file system keeps a file, not what it is.
const (
	InodeSync      = 0x8
	InodeImmutable = 0x10
	InodeAppend    = 0x20 // append only
	InodeNodump    = 0x40
	InodeNoatime   = 0x80
	InodeDirsync   = 0x10000

	InodeFlags = InodeSync | InodeImmutable | InodeAppend | InodeNodump | InodeNoatime | InodeDirsync

	// InodeLocks are those that forbid changes.
	InodeLocks = InodeImmutable | InodeAppend
)

// Time is a moment as the kernel keeps it: seconds since 1970, possibly
// negative, and nanoseconds.
type Time struct {
	Sec  int64
	Nsec uint32
}

// IsZero reports whether t is unset.
func (t Time) IsZero() bool { return t == Time{} }

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Ack is an ordered op on its way to the mirrors.
type Ack interface {
	// Wait returns nil once the op may be acknowledged to its caller. An error
	// means that its fate on the mirrors is unknown, never that it is undone.
	Wait(ctx context.Context) error
	// Then calls done, once, with what Wait would return: before it returns, or
	// later from the goroutine that hears of it. done must not block, nor take
	// a lock that is held over a Commit. The caller of Then holds none either.
	Then(done func(error))
}

// Done is the Ack of an op for which nobody has to be waited for.
var Done Ack = done{}

type done struct{}

func (done) Wait(context.Context) error { return nil }
func (done) Then(done func(error))      { done(nil) }

// String prints the op for logs and failing tests, without its data.
func (o *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q", o.Kind, o.Path)
	if o.Path2 != "" {
		fmt.Fprintf(&b, " %q", o.Path2)
	}
	if o.Name != "" {
		fmt.Fprintf(&b, " name=%q", o.Name)
	}
	if o.Off != 0 || o.Len != 0 || o.Off2 != 0 {
		fmt.Fprintf(&b, " off=%d len=%d off2=%d", o.Off, o.Len, o.Off2)
	}
	if len(o.Data) > 0 {
		fmt.Fprintf(&b, " data=%d", len(o.Data))
	}
	if o.Attr.Valid != 0 {
		fmt.Fprintf(&b, " attr=%+v", o.Attr)
	}
	if o.Flags != 0 {
		fmt.Fprintf(&b, " flags=%x", uint8(o.Flags))
	}
	return b.String()
}

// JoinPath puts a name under a directory's path.
func JoinPath(dir, name string) string {
	if dir == Root {
		return name
	}
	return dir + "/" + name
}

// SplitPath returns the parent directory and the last name of path. The root
// is its own parent, with the name ".".
func SplitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return Root, path
}

// Within reports whether path is dir or lies below it.
func Within(path, dir string) bool {
	return dir == Root || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// CheckPath returns an error unless path is one that an op may carry. A peer's
// ops are checked with it before anything is opened, so that a lying peer
// cannot reach outside of the replica.
func CheckPath(path string) error {
	if path == Root {
		return nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("path %q: component %q is not allowed", path, name)
		}
	}
	return nil
}
