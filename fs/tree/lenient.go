package tree

import (
	"errors"
	"os"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// missing reports whether err says that nothing is at a path: there is no such
// name, or what would have to be a directory on the way is something else
// (ELOOP: a symbolic link).
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// makeWay removes what is at path, if anything, and leaves the directory's
// mtime as it was: a repair is not a change of the volume.
func (t *Tree) makeWay(path string) error {
	if path == op.Root {
		return pathError("remove", path, unix.EBUSY)
	}
	dir, _ := op.SplitPath(path)
	return t.keepMtime(dir, func() error { return t.Remove(path) })
}

// keepMtime runs fn and puts the mtime of the directory back if fn changed it.
func (t *Tree) keepMtime(dir string, fn func() error) error {
	at, err := t.At(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	var was, is unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &was, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", dir, err)
	}
	if err := fn(); err != nil {
		return err
	}
	if err := unix.Fstatat(at.FD, at.Name, &is, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", dir, err)
	}
	if was.Mtim == is.Mtim {
		return nil
	}
	err = at.despiteLock(func() error { return at.setTimes(&op.Attr{Valid: op.AttrMtime, Mtime: timeOf(was.Mtim)}) })
	if err != nil {
		return pathError("set times of", dir, err)
	}
	return nil
}

// Remove removes what is at path with all below it. Nothing there is fine.
func (t *Tree) Remove(path string) error {
	defer t.Forget(path) // afterwards: others may look while it is there
	at, err := t.At(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := removeAt(at.FD, at.Name); err != nil {
		return pathError("remove", path, err)
	}
	return nil
}

// removeAt removes a name, and first, if it is a directory, all in it.
func removeAt(dirfd int, name string) error {
	// It may have other names, which stay locked.
	err := At{FD: dirfd, Name: name}.despiteLock(func() error { return unix.Unlinkat(dirfd, name, 0) })
	switch {
	case err == nil || missing(err):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return err
	}
	fd, openErr := openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if openErr != nil {
		return err // not a directory: unlink's own error counts
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err == nil {
		err = SetInodeFlags(fd, 0)
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAt(fd, n); err != nil {
			return err
		}
	}
	err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
	if missing(err) {
		return nil
	}
	return err
}
