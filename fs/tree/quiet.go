package tree

import (
	"errors"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// quietly returns a descriptor of the root through a mount of our own that nobody
// else sees and that moves no time of access. Files and directories are opened
// with O_NOATIME for that; for reading a symbolic link there is nothing else. It
// returns -1 where we may not mount.
func quietly(root int) int {
	fd, err := unix.OpenTree(root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1
	}
	noatime := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOATIME, Attr_clr: unix.MOUNT_ATTR__ATIME}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &noatime); err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// linkText returns the text of the symbolic link at, which is st and lies at
// path. It leaves the link's time of access alone where that can be done.
func (t *Tree) linkText(path string, at At, st *unix.Stat_t) ([]byte, error) {
	if text, err := t.quietText(path, st); err == nil {
		return text, nil
	}
	return at.readlink(st.Size)
}

func (t *Tree) quietText(path string, st *unix.Stat_t) ([]byte, error) {
	if t.quiet < 0 {
		return nil, unix.ENOSYS
	}
	dir, name := op.SplitPath(path)
	fd := t.quiet
	if dir != op.Root {
		var err error
		if fd, err = walk(t.quiet, dir); err != nil {
			return nil, err
		}
		defer unix.Close(fd)
	}
	// What is mounted below the root is not in our mount.
	var here unix.Stat_t
	if err := unix.Fstatat(fd, name, &here, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if here.Dev != st.Dev || here.Ino != st.Ino {
		return nil, errors.New("another object")
	}
	return At{FD: fd, Name: name}.readlink(st.Size)
}
