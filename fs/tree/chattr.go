package tree

import (
	"errors"
	"unsafe"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// InodeFlags returns the flags of chattr(1) that an open file or directory has,
// all of them. A file system that knows of none has none.
func InodeFlags(fd int) (uint32, error) {
	var flags uint32 // whatever the command's number says, it is an int
	err := ioctl(fd, unix.FS_IOC_GETFLAGS, &flags)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	return flags, err
}

// SetInodeFlags makes those of op.InodeFlags be just these and leaves the others
// alone.
func SetInodeFlags(fd int, want uint32) error {
	have, err := InodeFlags(fd)
	if err != nil || have&op.InodeFlags == want {
		return err
	}
	want |= have &^ op.InodeFlags
	return ioctl(fd, unix.FS_IOC_SETFLAGS, &want)
}

func ioctl(fd int, command uintptr, value *uint32) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), command, uintptr(unsafe.Pointer(value))); errno != 0 {
		return errno
	}
	return nil
}

// flagged reports whether an object of this mode can have inode flags.
func flagged(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG || mode&unix.S_IFMT == unix.S_IFDIR
}

// openFlags opens a file or directory so that its flags can be read and set.
func (a At) openFlags() (fd int, err error) {
	return openat(a.FD, a.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOATIME)
}

func (a At) inodeFlags() (flags uint32, err error) {
	fd, err := a.openFlags()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	flags, err = InodeFlags(fd)
	return flags & op.InodeFlags, err
}

func (a At) setInodeFlags(flags uint32) error {
	fd, err := a.openFlags()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return SetInodeFlags(fd, flags)
}

// clearLocks clears the flags that forbid changes.
func (a At) clearLocks() error {
	flags, err := a.inodeFlags()
	if err != nil || flags&op.InodeLocks == 0 {
		return err
	}
	return a.setInodeFlags(flags &^ op.InodeLocks)
}

// despiteLocks runs fn, and once more without the flags that forbid changes if
// it is refused: what the primary could do before it set them, or may do through
// a descriptor from before, a replica has to do afterwards.
func (a applier) despiteLocks(fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	var locks []func() error // how they are set again
	for _, path := range a.touched() {
		lock, unlockErr := a.unlock(path)
		if unlockErr != nil {
			err = errors.Join(err, unlockErr)
		} else if lock != nil {
			locks = append(locks, lock)
		}
	}
	if len(locks) == 0 {
		return err
	}
	err = fn()
	for _, lock := range locks {
		if lockErr := lock(); err == nil {
			err = lockErr
		}
	}
	return err
}

// despiteLock is despiteLocks for a single object.
func (a At) despiteLock(fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	lock, unlockErr := a.unlock()
	if lock == nil {
		return errors.Join(err, unlockErr)
	}
	return errors.Join(fn(), lock())
}

// touched are the paths that the op changes something of, but not the one whose
// flags it sets.
func (a applier) touched() []string {
	dir, _ := op.SplitPath(a.Path)
	paths := []string{dir}
	if a.Kind != op.Put && a.Attr.Valid&op.AttrFlags == 0 {
		paths = append(paths, a.Path)
	}
	if a.Kind.TwoPaths() {
		dir2, _ := op.SplitPath(a.Path2)
		paths = append(paths, a.Path2, dir2)
	}
	return paths
}

// unlock clears the flags that forbid changes of what is at path; see At.unlock.
func (t *Tree) unlock(path string) (lock func() error, err error) {
	at, err := t.At(path)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if lock, err = at.unlock(); err != nil {
		return nil, pathError("clear the inode flags of", path, err)
	}
	return lock, nil
}

// unlock returns the function that sets the flags again, wherever the object is
// by then, or nil if it had none.
func (a At) unlock() (lock func() error, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(a.FD, a.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || !flagged(st.Mode) {
		return nil, nil // who wants to change it will hear of it
	}
	fd, err := a.openFlags()
	if err != nil {
		return nil, err
	}
	flags, err := InodeFlags(fd)
	flags &= op.InodeFlags
	if err == nil && flags&op.InodeLocks != 0 {
		if err = SetInodeFlags(fd, flags&^op.InodeLocks); err == nil {
			return func() error {
				defer unix.Close(fd)
				return SetInodeFlags(fd, flags)
			}, nil
		}
	}
	unix.Close(fd)
	return nil, err
}
