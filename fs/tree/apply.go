package tree

import (
	"errors"
	"fmt"
	"io"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Apply makes the change that o describes, exactly: what stands there must be
// what stood there when the op was ordered. It takes every kind that changes
// the replica; Fsync changes nothing. Errors carry the errno.
func (t *Tree) Apply(o *op.Op) error { return t.apply(o, false) }

// ApplyLenient makes the same change to a replica that is being repaired: what
// is in the way is removed, what is to go may be gone. An error says that the
// op could not be applied to the objects that it names, which then have to be
// repaired; the directories have the times that it carries all the same.
func (t *Tree) ApplyLenient(o *op.Op) error { return t.apply(o, true) }

func (t *Tree) apply(o *op.Op, lenient bool) error {
	if err := checkPaths(o); err != nil {
		return err
	}
	a := applier{t, o, lenient}
	err := a.change()
	if err != nil {
		err = fmt.Errorf("%s %q: %w", o.Kind, o.Path, err)
	} else if err = a.results(); err != nil {
		err = fmt.Errorf("%s %q: set the results: %w", o.Kind, o.Path, err)
	}
	if err != nil && !lenient {
		return err
	}
	if timesErr := a.dirTimes(); err == nil && timesErr != nil {
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
		return a.put()
	case op.PutLink:
		return a.putLink()
	case op.PutNames:
		return a.putNames()
	}
	return fmt.Errorf("an op of this kind cannot be applied: %w", unix.EINVAL)
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
	defer a.Forget(a.Path)
	defer a.Forget(a.Path2)
	err = unix.Renameat2(from.FD, from.Name, to.FD, to.Name, uint(a.Arg))
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

// write writes all of the data.
func (a applier) write() error {
	return a.onFile(a.Path, func(fd int) error { return writeAll(fd, a.Data, a.Off) })
}

func writeAll(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// copyRange copies exactly Len bytes: the primary did so.
func (a applier) copyRange() error {
	return a.onFile(a.Path, func(from int) error {
		return a.onFile(a.Path2, func(to int) error { return copyAll(from, to, a.Off, a.Off2, a.Len) })
	})
}

func copyAll(from, to int, off, off2, n int64) error {
	for n > 0 {
		k, err := unix.CopyFileRange(from, &off, to, &off2, int(min(n, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return copyByHand(from, to, off, off2, n)
		case err != nil:
			return err
		case k == 0:
			return fmt.Errorf("the source ends %d bytes early: %w", n, io.ErrUnexpectedEOF)
		}
		n -= int64(k) // off and off2 were moved by the call
	}
	return nil
}

func copyByHand(from, to int, off, off2, n int64) error {
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		k, err := unix.Pread(from, buf[:min(n, int64(len(buf)))], off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case k == 0:
			return fmt.Errorf("the source ends %d bytes early: %w", n, io.ErrUnexpectedEOF)
		}
		if err := writeAll(to, buf[:k], off2); err != nil {
			return err
		}
		n, off, off2 = n-int64(k), off+int64(k), off2+int64(k)
	}
	return nil
}

// onFile calls fn with a descriptor of the regular file at path, open for
// reading and writing. The descriptor is kept for the next op on the path.
func (a applier) onFile(path string, fn func(fd int) error) error {
	c, drops := a.files.get(path)
	if c == nil {
		fd, _, err := a.openRegular(path, unix.O_RDWR)
		if err != nil {
			return err
		}
		c = a.files.put(path, fd, drops)
	}
	defer c.release()
	return fn(c.fd)
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

// results sets the attributes of the object that the op carries.
func (a applier) results() error {
	path := a.object()
	if path == "" || a.Attr.Valid&^op.AttrSize == 0 {
		return nil
	}
	at, err := a.At(path)
	if err != nil {
		return err
	}
	defer at.Close()
	return at.setAttr(&a.Attr)
}

// dirTimes sets the times of the directories that the op changed.
func (a applier) dirTimes() error {
	if a.Kind == op.PutNames {
		return nil // Dir is its own
	}
	if err := a.setDir(a.Path, a.Op.Dir); err != nil {
		return err
	}
	return a.setDir(a.Path2, a.Dir2)
}

// object is the path of what the op's attributes are of, "" if it has none.
func (a applier) object() string {
	switch a.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink, op.Write, op.Truncate, op.Fallocate, op.SetAttr, op.SetXattr, op.RemoveXattr:
		return a.Path
	case op.CopyRange, op.Link:
		return a.Path2
	}
	return "" // gone, or done by put
}

// setDir sets the mtime of path's directory.
func (a applier) setDir(path string, mtime op.Time) error {
	if mtime.IsZero() {
		return nil
	}
	dir, _ := op.SplitPath(path)
	at, err := a.At(op.JoinPath(dir, ".")) // fails if it is no directory
	if err == nil {
		defer at.Close()
		err = at.setTimes(&op.Attr{Valid: op.AttrMtime, Mtime: mtime})
	}
	if a.lenient && missing(err) {
		return nil // it has yet to be put, with its time
	}
	return err
}

// setAttr sets owner, then mode, since a change of owner clears mode bits, and
// the times last.
func (a At) setAttr(v *op.Attr) error {
	if v.Valid&op.AttrOwner != 0 {
		if err := unix.Fchownat(a.FD, a.Name, int(v.UID), int(v.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if v.Valid&op.AttrMode != 0 && v.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := a.chmod(v.Mode & 0o7777); err != nil {
			return err
		}
	}
	return a.setTimes(v)
}

// chmod changes the mode of anything but a symbolic link.
func (a At) chmod(mode uint32) error {
	err := unix.Fchmodat(a.FD, a.Name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// Before Linux 6.6 there is no fchmodat2: go by a descriptor of the object.
	fd, err := openat(a.FD, a.Name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

func (a At) setTimes(v *op.Attr) error {
	if v.Valid&(op.AttrAtime|op.AttrMtime) == 0 {
		return nil
	}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	times := []unix.Timespec{omit, omit}
	if v.Valid&op.AttrAtime != 0 {
		times[0] = timespec(v.Atime)
	}
	if v.Valid&op.AttrMtime != 0 {
		times[1] = timespec(v.Mtime)
	}
	return unix.UtimesNanoAt(a.FD, a.Name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// retry calls fn until no signal interrupts it.
func retry(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
