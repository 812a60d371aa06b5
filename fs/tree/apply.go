package tree

import (
	"errors"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Apply makes the change that o describes, exactly: what stands there must be
// what stood there when the op was ordered. It takes every kind that changes
// the replica; of Fsync it does all but the sync. Errors carry the errno.
func (t *Tree) Apply(o *op.Op) error {
	if t.Around == nil {
		return t.apply(o, false)
	}
	return t.Around(o, func() error { return t.apply(o, false) })
}

// ApplyLenient makes the same change to a replica that is being repaired: what
// is in the way is removed, what is to go may be gone. An error says that the
// op could not be applied to the objects that it names, which then have to be
// repaired; the directories have the times that it carries all the same.
func (t *Tree) ApplyLenient(o *op.Op) error {
	if t.Around == nil {
		return t.apply(o, true)
	}
	return t.Around(o, func() error { return t.apply(o, true) })
}

func (t *Tree) apply(o *op.Op, lenient bool) error {
	if err := checkPaths(o); err != nil {
		return err
	}
	a := applier{t, o, lenient}
	err := a.despiteLocks(a.change)
	if err != nil {
		err = fmt.Errorf("%s %q: %w", o.Kind, o.Path, err)
	} else if err = a.despiteLocks(a.results); err != nil {
		err = fmt.Errorf("%s %q: set the results: %w", o.Kind, o.Path, err)
	}
	if err != nil && !lenient {
		return err
	}
	if timesErr := a.despiteLocks(a.dirTimes); err == nil && timesErr != nil {
		err = fmt.Errorf("%s %q: set the directory's times: %w", o.Kind, o.Path, timesErr)
	}
	return err
}

// checkPaths refuses paths that could lead out of the tree.
func checkPaths(o *op.Op) error {
	if err := op.CheckPath(o.Path); err != nil {
		return err
	}
	if o.Kind.TwoPaths() {
		return op.CheckPath(o.Path2)
	}
	if o.Kind == op.Put {
		for _, path := range o.Names {
			if err := op.CheckPath(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// applier applies one op.
type applier struct {
	*Tree
	*op.Op
	lenient bool
}

func (a applier) change() error {
	switch a.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink:
		return a.make()
	case op.Link:
		return a.link()
	case op.Unlink, op.Rmdir:
		return a.remove()
	case op.Rename:
		return a.rename()
	case op.Write:
		return a.write()
	case op.Truncate:
		return a.onFile(a.Path, func(fd int) error { return unix.Ftruncate(fd, a.Attr.Size) })
	case op.Fallocate:
		return a.onFile(a.Path, func(fd int) error { return retry(func() error { return unix.Fallocate(fd, a.Arg, a.Off, a.Len) }) })
	case op.CopyRange:
		return a.copyRange()
	case op.SetXattr, op.RemoveXattr:
		return a.xattr()
	case op.SetAttr, op.Fsync:
		return nil
	case op.Put:
		_, err := a.put()
		return err
	case op.PutLink:
		return a.putLink()
	case op.PutNames:
		return a.putNames()
	case op.Hint:
		return a.hint()
	}
	return fmt.Errorf("an op of this kind cannot be applied: %w", unix.EINVAL)
}

// both calls fn with the places of the op's two paths.
func (a applier) both(fn func(from, to At) error) error {
	from, err := a.At(a.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := a.At(a.Path2)
	if err != nil {
		return err
	}
	defer to.Close()
	return fn(from, to)
}

// make makes a new object. The attributes come with the results.
func (a applier) make() error {
	at, err := a.At(a.Path)
	if err != nil {
		return err
	}
	defer at.Close()
	if a.lenient {
		if err := a.makeWay(a.Path); err != nil {
			return err
		}
	}
	return at.make(a.Op)
}

// make makes the object that o.Attr.Mode, or the kind, says.
func (at At) make(o *op.Op) error {
	const private = 0o600
	kind := o.Attr.Mode & unix.S_IFMT
	switch o.Kind {
	case op.Create:
		kind = unix.S_IFREG
	case op.Mkdir:
		kind = unix.S_IFDIR
	case op.Symlink:
		kind = unix.S_IFLNK
	}
	switch kind {
	case unix.S_IFDIR:
		return unix.Mkdirat(at.FD, at.Name, 0o700)
	case unix.S_IFLNK:
		return unix.Symlinkat(string(o.Data), at.FD, at.Name)
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return unix.Mknodat(at.FD, at.Name, kind|private, int(o.Attr.Rdev))
	}
	return fmt.Errorf("object of type %#o: %w", kind, unix.EINVAL)
}

func (a applier) link() error {
	return a.both(func(from, to At) error {
		if a.lenient {
			var st unix.Stat_t
			if err := unix.Fstatat(from.FD, from.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			if err := a.makeWay(a.Path2); err != nil {
				return err
			}
		}
		return unix.Linkat(from.FD, from.Name, to.FD, to.Name, 0)
	})
}

func (a applier) remove() error {
	at, err := a.At(a.Path)
	if a.lenient && missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	defer a.Forget(a.Path)
	flags := 0
	if a.Kind == op.Rmdir {
		flags = unix.AT_REMOVEDIR
	}
	err = unix.Unlinkat(at.FD, at.Name, flags)
	if err != nil && a.lenient {
		return a.makeWay(a.Path)
	}
	return err
}

func (a applier) rename() error {
	return a.both(a.move)
}

func (a applier) move(from, to At) error {
	defer a.Forget(a.Path)
	defer a.Forget(a.Path2)
	err := unix.Renameat2(from.FD, from.Name, to.FD, to.Name, uint(a.Arg))
	if !a.lenient || a.Arg&unix.RENAME_EXCHANGE != 0 {
		return err
	}
	if err == nil {
		return a.renamed(from)
	}
	for _, inTheWay := range []error{unix.EEXIST, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR} {
		if errors.Is(err, inTheWay) {
			if err := a.makeWay(a.Path2); err != nil {
				return err
			}
			return unix.Renameat2(from.FD, from.Name, to.FD, to.Name, uint(a.Arg))
		}
	}
	return err
}

// renamed returns an error if the old name is there still: rename(2) does
// nothing to two names of one file. In a replica that is being repaired they
// may be of one file although on the primary they are not, or the other way
// round; only the primary can tell.
func (a applier) renamed(from At) error {
	if a.Path == a.Path2 || a.Arg&unix.RENAME_WHITEOUT != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(from.FD, from.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	return fmt.Errorf("and %q are names of one file here: %w", a.Path2, unix.EEXIST)
}

func (a applier) xattr() error {
	at, err := a.At(a.Path)
	if err != nil {
		return err
	}
	defer at.Close()
	if a.Kind == op.SetXattr {
		// The primary has judged XATTR_CREATE and XATTR_REPLACE already.
		return unix.Lsetxattr(at.proc(), a.Name, a.Data, 0)
	}
	err = unix.Lremovexattr(at.proc(), a.Name)
	if a.lenient && errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}
