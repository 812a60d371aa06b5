package fs

import (
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
		if follow {
			return unix.Listxattr(path, dest)
		}
		return unix.Llistxattr(path, dest)
	})
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
	return f.changeXattr(cancel, in.NodeId, o, func(path string, follow bool) error {
		if follow {
			return unix.Setxattr(path, name, value, int(in.Flags))
		}
		return unix.Lsetxattr(path, name, value, int(in.Flags))
	})
}

// RemoveXAttr is removexattr(2).
func (f *front) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	o := &op.Op{Kind: op.RemoveXattr, Name: name}
	return f.changeXattr(cancel, in.NodeId, o, func(path string, follow bool) error {
		if follow {
			return unix.Removexattr(path, name)
		}
		return unix.Lremovexattr(path, name)
	})
}

func (f *front) changeXattr(cancel <-chan struct{}, id uint64, o *op.Op, apply func(path string, follow bool) error) fuse.Status {
	n := f.table.get(id)
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
		return f.change(cancel, o, func() error { return apply(p.proc()) })
	}()
	if err != nil {
		return status(err)
	}
	return status(f.wait(ack))
}
