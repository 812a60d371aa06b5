package tree

import (
	"bytes"
	"math"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Loss is what a replica loses by an op: who may have the only copy keeps it
// before the op is applied. Not counted is a directory's own mtime, which every
// change of a name in it moves, and the time of last access.
type Loss struct {
	Gone    []string // names that go, each with all below it
	Changed []string // objects that stay and get other attributes
	Over    []Range  // data of files that stay: overwritten, moved or cut off; the file is not among Changed
	Makes   string   // where a new object comes to stand; "" if none does
	Links   string   // of a Put: another name of what comes to stand at its path; "" if it makes none
}

// Range is a part of a file: at most Len bytes from Off on.
type Range struct {
	Path     string
	Off, Len int64
}

// toEnd is the length of a range that ends with its file.
const toEnd = math.MaxInt64

// Losses returns what is lost when o is applied, leniently or strictly, to what
// stands here now. It is never less, but may be more: an op that then fails
// takes nothing.
func (t *Tree) Losses(o *op.Op) (Loss, error) {
	var l Loss
	if o.Flags&op.Compare != 0 {
		return l, nil
	}
	if err := checkPaths(o); err != nil {
		return l, err
	}
	err := t.losses(o, &l)
	if missing(err) {
		err = nil // the op meets the same, and takes nothing that is not in l
	}
	return l, err
}

func (t *Tree) losses(o *op.Op, l *Loss) error {
	switch o.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink:
		l.Makes = o.Path
		return t.goes(o.Path, l)
	case op.Unlink, op.Rmdir:
		return t.goes(o.Path, l)
	case op.Link, op.PutLink:
		return t.linkLosses(o, l)
	case op.Rename:
		if o.Arg&unix.RENAME_EXCHANGE != 0 {
			return nil
		}
		// Of one path twice, which no primary sends, it goes with what is in the way.
		if same, err := t.sameFile(o.Path, o.Path2); err != nil || same && o.Path != o.Path2 {
			return err
		}
		return t.goes(o.Path2, l)
	case op.Write:
		return t.over(o.Path, o.Off, int64(len(o.Data)), l)
	case op.Truncate:
		return t.over(o.Path, o.Attr.Size, toEnd, l)
	case op.Fallocate:
		switch {
		case o.Arg&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0:
			return t.over(o.Path, o.Off, o.Len, l)
		case o.Arg&^(unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_UNSHARE_RANGE) != 0: // what lies behind moves
			return t.over(o.Path, o.Off, toEnd, l)
		}
		return t.over(o.Path, 0, 0, l)
	case op.CopyRange:
		return t.over(o.Path2, o.Off2, o.Len, l)
	case op.SetAttr, op.Fsync: // an fsync may carry an mtime
		return t.changes(o.Path, &o.Attr, l)
	case op.SetXattr, op.RemoveXattr:
		if _, err := t.Stat(o.Path); err != nil {
			return err
		}
		l.Changed = append(l.Changed, o.Path)
	case op.Put:
		return t.putLosses(o, l)
	case op.PutNames:
		extra, err := t.extraNames(o)
		for _, name := range extra {
			l.Gone = append(l.Gone, op.JoinPath(o.Path, name))
		}
		return err
	}
	return nil
}

// goes notes that what is at path goes, if anything is.
func (t *Tree) goes(path string, l *Loss) error {
	if path == op.Root {
		return nil // it cannot go
	}
	if _, err := t.Stat(path); err != nil {
		return err
	}
	l.Gone = append(l.Gone, path)
	return nil
}

func (t *Tree) linkLosses(o *op.Op, l *Loss) error {
	same, err := t.sameFile(o.Path, o.Path2)
	if err != nil {
		return err
	}
	if err := t.changes(o.Path, &o.Attr, l); err != nil || same && o.Path != o.Path2 {
		return err
	}
	return t.goes(o.Path2, l)
}

// over notes that part of a file's data goes. Only regular files have any.
func (t *Tree) over(path string, off, n int64, l *Loss) error {
	st, err := t.Stat(path)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		l.Over = append(l.Over, Range{path, off, n})
	}
	return err
}

// changes notes that what is at path gets attributes that it has not.
func (t *Tree) changes(path string, want *op.Attr, l *Loss) error {
	put, _, err := t.Describe(path)
	if err == nil && otherAttr(&put.Attr, want) {
		l.Changed = append(l.Changed, path)
	}
	return err
}

func otherAttr(is, want *op.Attr) bool {
	v := want.Valid
	return v&op.AttrMode != 0 && is.Mode&0o7777 != want.Mode&0o7777 ||
		v&op.AttrOwner != 0 && (is.UID != want.UID || is.GID != want.GID) ||
		v&op.AttrMtime != 0 && is.Mtime != want.Mtime && is.Mode&unix.S_IFMT != unix.S_IFDIR ||
		v&op.AttrFlags != 0 && is.Flags != want.Flags
}

func (t *Tree) putLosses(o *op.Op, l *Loss) error {
	stays, err := t.stays(o)
	if err != nil && !missing(err) {
		return err
	}
	path := o.Path
	if !stays {
		if err := t.goes(path, l); err != nil && !missing(err) {
			return err
		}
		if path, err = (applier{t, o, true}).findKin(); err != nil {
			return err
		}
		if path == "" {
			l.Makes = o.Path
			return nil
		}
		l.Links = path
	}
	here, _, err := t.Describe(path)
	if err != nil {
		return err
	}
	if o.Attr.Valid&op.AttrSize != 0 && here.Attr.Size != o.Attr.Size {
		return t.over(path, o.Attr.Size, toEnd, l)
	}
	want := o.Attr
	want.Valid |= op.AttrFlags // a Put without any clears them
	xattrs := slices.EqualFunc(here.Xattrs, o.Xattrs, func(x, y op.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
	if otherAttr(&here.Attr, &want) || !xattrs {
		l.Changed = append(l.Changed, path)
	}
	return nil
}

// stays reports whether a Put keeps the object that is at its path.
func (t *Tree) stays(o *op.Op) (bool, error) {
	if o.Path == op.Root {
		return true, nil
	}
	at, err := t.At(o.Path)
	if err != nil {
		return false, err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, pathError("stat", o.Path, err)
	}
	return (applier{t, o, true}).fits(at, &st), nil
}
