package tree

import (
	"errors"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

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
	if a.Kind == op.PutNames || a.Kind == op.Hint {
		return nil // Dir is its own, or there is none
	}
	if err := a.setDir(a.Path, a.Op.Dir); err != nil {
		return err
	}
	return a.setDir(a.Path2, a.Dir2)
}

// object is the path of what the op's attributes are of, "" if it has none.
func (a applier) object() string {
	switch a.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink, op.Write, op.Truncate, op.Fallocate, op.SetAttr, op.SetXattr, op.RemoveXattr, op.Fsync:
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
// then the times. The inode flags come last: they may forbid all that.
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
	if err := a.setTimes(v); err != nil || v.Valid&op.AttrFlags == 0 {
		return err
	}
	return a.setInodeFlags(v.Flags)
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
