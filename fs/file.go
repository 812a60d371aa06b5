package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// below returns the flags that a file is opened with below. Appending is up to
// the offsets that the kernel sends, synchronous writing is done here, direct
// I/O would ask for an alignment that our buffers do not promise, and a
// truncation has to be ordered.
func below(flags uint32) int { return int(flags & (unix.O_ACCMODE | unix.O_NOATIME)) }

// Open is open(2) of a regular file that exists.
func (f *front) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := f.table.get(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	h, err := f.open(n, in.Flags, below(in.Flags))
	if err != nil {
		return status(err)
	}
	var acks []op.Ack
	if in.Flags&unix.O_TRUNC != 0 {
		err := f.admit(cancel)
		if err == nil {
			acks, err = f.truncateOpen(cancel, h, in)
		}
		if err != nil {
			h.release()
			return f.after(&in.InHeader, err, nil, acks...)
		}
	}
	f.opened(h, out)
	fh := out.Fh
	return f.after(&in.InHeader, nil, func() { f.handles.remove(fh) }, acks...)
}

func (f *FS) open(n *inode, flags uint32, below int) (*handle, error) {
	if err := f.handles.room(); err != nil {
		return nil, err
	}
	path := f.share(n)
	defer f.names.RUnlock()
	p, err := f.place(n, path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	fd, err := p.open(below)
	grows := errors.Is(err, unix.EPERM) && flags&unix.O_APPEND != 0
	if grows {
		fd, err = p.open(below | unix.O_APPEND)
	}
	if err != nil {
		f.failed(path, "open", err)
		return nil, f.handles.seen(err)
	}
	return &handle{n: n, descriptor: newDescriptor(fd), flags: flags, grows: grows}, nil
}

func (f *FS) opened(h *handle, out *fuse.OpenOut) {
	out.Fh = f.handles.add(h)
	if !f.moves(h) {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	if !h.writable() {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH
	}
}

func (f *FS) truncateOpen(cancel <-chan struct{}, h *handle, in *fuse.OpenIn) ([]op.Ack, error) {
	var kill *fuse.Caller
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		kill = &in.Caller
	}
	path, end := f.begin(h.n)
	defer end()
	return f.truncate(cancel, h.n, path, place{fd: h.fd}, h, 0, kill)
}

// Create makes a regular file and opens it.
func (f *front) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	if err := f.handles.room(); err != nil {
		return status(err)
	}
	fd := -1
	n, ack, err := f.bear(cancel, &birth{
		parent: in.NodeId, name: name, caller: in.Owner, kind: op.Create,
		make: func(at tree.At) (err error) {
			fd, err = openat(at.FD, at.Name, below(in.Flags)|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, masked(procPath(at.FD), in.Mode&07777, in.Umask))
			return err
		},
		undo: func() { unix.Close(fd) },
	}, &out.EntryOut)
	if err != nil {
		return status(f.handles.seen(err))
	}
	f.opened(&handle{n: n, descriptor: newDescriptor(fd), flags: in.Flags}, &out.OpenOut)
	fh, unborn := out.Fh, f.unborn(n, in.NodeId, name)
	return f.after(&in.InHeader, nil, func() {
		f.handles.remove(fh)
		unborn()
	}, ack)
}

// Tmpfile is open(2) with O_TMPFILE. Nothing travels until the file is linked.
func (f *front) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	parent := f.table.get(in.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.handles.room(); err != nil {
		return status(err)
	}
	path := f.share(parent)
	defer f.names.RUnlock()
	if path == "" {
		return fuse.EPERM // of all calls in a removed directory only this one is not ENOENT on ext4
	}
	dir, err := f.place(parent, path)
	if err != nil {
		return status(err)
	}
	defer dir.close()
	dirfd, name, _ := dir.target()
	if name == "" {
		return fuse.ENOENT // the directory was removed
	}
	fdPath, _ := dir.proc()
	fd, err := openat(dirfd, name, below(in.Flags)|unix.O_TMPFILE, masked(fdPath, in.Mode&07777, in.Umask))
	if err != nil {
		return status(f.handles.seen(err))
	}
	d := newDescriptor(fd)
	var st unix.Stat_t
	if err := own(place{fd: fd}, dirfd, name, in.Owner, &st); err != nil {
		d.release()
		return status(err)
	}
	n := f.table.enterNameless(&st, d.share())
	n.fill(&st, &out.EntryOut)
	f.opened(&handle{n: n, descriptor: d, flags: in.Flags}, &out.OpenOut)
	return fuse.OK
}

// Flush is a close(2): the times that were put off travel now. Where nothing
// travels the kernel need not ask, and is told so once.
func (f *front) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	if f.opts.Alone {
		return fuse.ENOSYS
	}
	h := f.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	ack, err := f.flushTime(cancel, h.n)
	if err != nil {
		return status(err)
	}
	return f.after(&in.InHeader, nil, nil, ack)
}

// Release is the last close of a handle. Nobody waits for it.
func (f *front) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	h := f.handles.get(in.Fh)
	if h == nil {
		return
	}
	if _, err := f.flushTime(cancel, h.n); err != nil {
		f.log.Debug("times of a closed file are left to the next try", "error", err)
	}
	f.handles.remove(in.Fh)
}

// Fsync is fsync(2) and fdatasync(2).
func (f *front) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	o := &op.Op{Kind: op.Fsync, Flags: op.Barrier}
	if in.FsyncFlags&1 != 0 {
		o.Flags |= op.DataOnly
	}
	ack, err := func() (op.Ack, error) {
		path, end := f.begin(h.n)
		defer end()
		o.Path = path
		return f.changeWithTime(cancel, h.n, o)
	}()
	if err != nil {
		return status(err)
	}
	return f.after(&in.InHeader, nil, nil, f.sync(h, o.Flags&op.DataOnly != 0, ack))
}

// Access is not asked: the kernel checks permissions itself.
func (f *front) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }
