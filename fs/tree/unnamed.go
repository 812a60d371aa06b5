package tree

import (
	"fmt"
	"os"
	"strconv"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Unnamed is a file in the making. Nobody sees it before it has its name.
type Unnamed struct {
	tree *Tree
	file *os.File
}

// Unnamed makes one that can become the file at path.
func (t *Tree) Unnamed(path string) (*Unnamed, error) {
	at, err := t.At(path)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	fd, err := unix.Openat(at.FD, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, pathError("make a file without a name for", path, err)
	}
	return &Unnamed{t, os.NewFile(uintptr(fd), path)}, nil
}

// Apply applies an op that PutRange has emitted for another file.
func (u *Unnamed) Apply(o *op.Op) error {
	switch o.Kind {
	case op.Write:
		_, err := u.file.WriteAt(o.Data, o.Off)
		return err
	case op.Truncate:
		return u.file.Truncate(o.Attr.Size)
	case op.Fallocate: // a hole, which it has there anyway
		return nil
	}
	return fmt.Errorf("%s of a file in the making: %w", o.Kind, unix.EINVAL)
}

// Become syncs the file and gives it the name and the attributes of put, in place
// of what is there. The times of the directory stay.
func (u *Unnamed) Become(put *op.Op) error {
	if err := u.file.Truncate(put.Attr.Size); err != nil {
		return err
	}
	if err := u.file.Sync(); err != nil {
		return err
	}
	if err := u.tree.makeWay(put.Path); err != nil {
		return err
	}
	dir, _ := op.SplitPath(put.Path)
	err := u.tree.keepMtime(dir, func() error {
		at, err := u.tree.At(put.Path)
		if err != nil {
			return err
		}
		defer at.Close()
		own := "/proc/self/fd/" + strconv.Itoa(int(u.file.Fd()))
		return unix.Linkat(unix.AT_FDCWD, own, at.FD, at.Name, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return pathError("name", put.Path, err)
	}
	as := *put
	as.Flags, as.Arg = 0, 0
	return u.tree.ApplyLenient(&as)
}

// Close gives the file up if it has no name yet.
func (u *Unnamed) Close() error { return u.file.Close() }
