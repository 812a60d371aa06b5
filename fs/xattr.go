package fs

import (
	"bytes"
	"errors"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Extended attributes are reached through /proc/self/fd: the *at calls for
// them are too young to rely on.

// GetXAttr is getxattr(2).
func (f *front) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	return f.readXattr(in.NodeId, func(path string, follow bool) (int, error) {
		if follow {
			return unix.Getxattr(path, name, dest)
		}
		return unix.Lgetxattr(path, name, dest)
	})
}

// ListXAttr is listxattr(2).
func (f *front) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	return f.readXattr(in.NodeId, func(path string, follow bool) (int, error) {
		names, err := listXattr(path, follow)
		if err != nil {
			return 0, err
		}
		const hidden = "trusted."
		if bytes.Contains(names, []byte(hidden)) && !capable(&in.Caller, unix.CAP_SYS_ADMIN) {
			names = slices.Concat(slices.DeleteFunc(bytes.SplitAfter(names, []byte{0}), func(name []byte) bool {
				return bytes.HasPrefix(name, []byte(hidden))
			})...)
		}
		switch {
		case len(dest) == 0: // asks for the size
		case len(dest) < len(names):
			return 0, unix.ERANGE
		default:
			copy(dest, names)
		}
		return len(names), nil
	})
}

// listXattr returns all names, each with its NUL.
func listXattr(path string, follow bool) ([]byte, error) {
	list := unix.Llistxattr
	if follow {
		list = unix.Listxattr
	}
	for size := 1 << 10; ; size *= 8 {
		names := make([]byte, size)
		n, err := list(path, names)
		if err == nil {
			return names[:n], nil
		}
		// The kernel lists no more than that much.
		if !errors.Is(err, unix.ERANGE) || size > 64<<10 {
			return nil, err
		}
	}
}

func (f *front) readXattr(id uint64, read func(path string, follow bool) (int, error)) (uint32, fuse.Status) {
	n := f.table.get(id)
	if n == nil {
		return 0, fuse.Status(syscall.ESTALE)
	}
	path := f.share(n)
	defer f.names.RUnlock()
	p, err := f.place(n, path)
	if err != nil {
		return 0, status(err)
	}
	defer p.close()
	size, err := read(p.proc())
	if err != nil {
		return 0, status(err)
	}
	return uint32(size), fuse.OK
}

// SetXAttr is setxattr(2).
func (f *front) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	o := &op.Op{Kind: op.SetXattr, Name: name, Data: value, Arg: in.Flags}
	return f.changeXattr(cancel, &in.InHeader, o, func(p place) error {
		set := unix.Lsetxattr
		path, follow := p.proc()
		if follow {
			set = unix.Setxattr
		}
		if err := set(path, name, value, int(in.Flags)); err != nil {
			return err
		}
		if name == aclAccess {
			return p.aclMode(in, o)
		}
		return nil
	})
}

// RemoveXAttr is removexattr(2).
func (f *front) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	o := &op.Op{Kind: op.RemoveXattr, Name: name}
	return f.changeXattr(cancel, in, o, func(p place) error {
		remove := unix.Lremovexattr
		path, follow := p.proc()
		if follow {
			remove = unix.Removexattr
		}
		err := remove(path, name)
		if n := f.table.get(in.NodeId); err == nil && name == capabilities && n != nil {
			n.uncapped.Store(in.Pid)
		}
		return err
	})
}

func (f *front) changeXattr(cancel <-chan struct{}, in *fuse.InHeader, o *op.Op, apply func(place) error) fuse.Status {
	n := f.table.get(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	ack, err := func() (op.Ack, error) {
		path, end := f.begin(n)
		defer end()
		p, err := f.place(n, path)
		if err != nil {
			return nil, err
		}
		defer p.close()
		o.Path = path
		return f.change(cancel, o, func() error { return apply(p) })
	}()
	if err != nil {
		return status(err)
	}
	return f.after(in, nil, nil, ack)
}
