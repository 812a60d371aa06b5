package tree

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"slices"
	"strconv"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Inode tells which names are of one object.
type Inode struct {
	Dev, Ino uint64
	Nlink    uint32
}

// Key is the inode without what changes.
func (i Inode) Key() Inode { return Inode{Dev: i.Dev, Ino: i.Ino} }

// Entry is one name of a directory.
type Entry struct {
	Name string
	Mode uint32 // the type: S_IFMT bits only
	Ino  uint64
	Size int64
	// Links is how many names the object has.
	Links uint32
	// Sparse: it takes less room than its size, so it has holes.
	Sparse bool
}

// EntryOf returns the entry that name is of what st describes.
func EntryOf(name string, st *unix.Stat_t) Entry {
	return Entry{name, st.Mode & unix.S_IFMT, st.Ino, st.Size, uint32(st.Nlink), st.Blocks*512 < st.Size}
}

// Describe returns the Put that makes an object like the one at path: all
// attributes but atime, link text, xattrs. Its Arg is the number of names that
// the object has, for anything but a directory.
func (t *Tree) Describe(path string) (*op.Op, Inode, error) {
	at, err := t.At(path)
	if err != nil {
		return nil, Inode{}, err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, Inode{}, pathError("stat", path, err)
	}
	o := &op.Op{Kind: op.Put, Path: path, Attr: AttrOf(&st)}
	if flagged(st.Mode) {
		if o.Attr.Flags, err = at.inodeFlags(); err != nil {
			return nil, Inode{}, pathError("read the inode flags of", path, err)
		}
		if o.Attr.Flags != 0 {
			o.Attr.Valid |= op.AttrFlags
		}
	}
	if o.Xattrs, err = at.xattrs(); err != nil {
		return nil, Inode{}, pathError("read xattrs", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFLNK:
		if o.Data, err = t.linkText(path, at, &st); err != nil {
			return nil, Inode{}, pathError("readlink", path, err)
		}
		fallthrough
	default:
		o.Arg = uint32(st.Nlink)
	}
	return o, Inode{Dev: st.Dev, Ino: st.Ino, Nlink: uint32(st.Nlink)}, nil
}

// AttrOf returns the attributes of an object as an op carries them.
func AttrOf(st *unix.Stat_t) op.Attr {
	a := op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime,
		Mode:  st.Mode, UID: st.Uid, GID: st.Gid, Mtime: timeOf(st.Mtim),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		a.Valid |= op.AttrSize
		a.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Valid |= op.AttrRdev
		a.Rdev = uint32(st.Rdev)
	}
	return a
}

func timeOf(t unix.Timespec) op.Time { return op.Time{Sec: t.Sec, Nsec: uint32(t.Nsec)} }

func timespec(t op.Time) unix.Timespec { return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)} }

// Names returns the entries of a directory, sorted bytewise.
func (t *Tree) Names(path string) ([]Entry, error) {
	f, err := t.openList(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, pathError("read directory", path, err)
	}
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT): // gone since it was listed
		case err != nil:
			return nil, pathError("stat", op.JoinPath(path, name), err)
		default:
			entries = append(entries, EntryOf(name, &st))
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// SomeNames returns up to most names in a directory, in no order. One that
// cannot be read has none.
func (t *Tree) SomeNames(path string, most int) []string {
	f, err := t.openList(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.Readdirnames(most)
	if err != nil {
		return nil
	}
	return names
}

// openList opens a directory for reading its entries. Like all reading here,
// and unlike a user's, it leaves the time of last access alone.
func (t *Tree) openList(path string) (*os.File, error) {
	at, err := t.At(path)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	fd, err := openat(at.FD, at.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME)
	if err != nil {
		return nil, pathError("open directory", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// readlink returns the text of a symbolic link of about n bytes.
func (a At) readlink(n int64) ([]byte, error) {
	for size := max(int(n)+1, 128); ; size *= 2 {
		text := make([]byte, size)
		k, err := unix.Readlinkat(a.FD, a.Name, text)
		if err != nil || k < size {
			return text[:max(k, 0)], err
		}
	}
}

// proc is a path to the object for the calls that take no descriptor. The last
// name is not followed by the l... calls.
func (a At) proc() string { return "/proc/self/fd/" + strconv.Itoa(a.FD) + "/" + a.Name }

// xattrs returns all extended attributes, sorted by name.
func (a At) xattrs() ([]op.Xattr, error) {
	names, err := a.xattrNames()
	if err != nil {
		return nil, err
	}
	var all []op.Xattr
	for _, name := range names {
		value, err := a.xattr(name)
		switch {
		case errors.Is(err, unix.ENODATA): // gone since it was listed
		case err != nil:
			return nil, err
		default:
			all = append(all, op.Xattr{Name: name, Value: value})
		}
	}
	slices.SortFunc(all, func(x, y op.Xattr) int { return cmp.Compare(x.Name, y.Name) })
	return all, nil
}

// xattrNames lists them. A file system without any has none.
func (a At) xattrNames() ([]string, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(a.proc(), b) })
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var names []string
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, nil
}

func (a At) xattr(name string) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Lgetxattr(a.proc(), name, b) })
}

// grow calls read with a larger buffer until the value fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for b := make([]byte, 512); ; b = make([]byte, 4*len(b)) {
		n, err := read(b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(b) > 1<<20 {
			return nil, err
		}
	}
}

// Stat returns what is at path, without following it.
func (t *Tree) Stat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	at, err := t.At(path)
	if err != nil {
		return st, err
	}
	defer at.Close()
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, pathError("stat", path, err)
	}
	return st, nil
}
