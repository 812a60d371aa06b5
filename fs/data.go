package fs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// maxCopy bounds one copy_file_range, which may copy less than it is asked to:
// the locks of both files are held meanwhile.
const maxCopy = 16 << 20

// Read needs no lock: one read below sees each write whole or not at all, as
// far as the file system below promises it.
func (f *front) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := f.handles.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	if err := h.aligned(in.Flags, in.Offset, len(buf), false); err != nil {
		return nil, status(err)
	}
	// What is in memory is read at once; whatever waits for the disk waits alone.
	got, err := h.readCached(buf, int64(in.Offset))
	if got == 0 && err != nil {
		f.blocks(&in.InHeader)
	}
	for got < len(buf) {
		var n int
		err = restart(func() (err error) {
			n, err = unix.Pread(h.fd, buf[got:], int64(in.Offset)+int64(got))
			return err
		})
		if err != nil && got == 0 {
			f.failed(f.known(h.n), "read", err)
			return nil, status(err)
		}
		if err != nil || n == 0 {
			break
		}
		got += n
	}
	return fuse.ReadResultData(buf[:got]), fuse.OK
}

// readCached reads what can be read without waiting. An error says that nothing
// can.
func (h *handle) readCached(buf []byte, off int64) (int, error) {
	n, err := unix.Preadv2(h.fd, [][]byte{buf}, off, unix.RWF_NOWAIT)
	return max(n, 0), err
}

// Write orders what was written, which may be less than what was sent. data is
// the kernel's until the reply.
func (f *front) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := f.handles.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	if err := h.aligned(direct(in), in.Offset, len(data), true); err != nil {
		return 0, status(err)
	}
	if err := f.admit(cancel); err != nil {
		return 0, status(err)
	}
	barrier := in.Flags&unix.O_DSYNC != 0 // O_SYNC includes it
	o := &op.Op{Kind: op.Write, Off: int64(in.Offset), Data: data}
	if barrier {
		o.Flags = op.Barrier
	}
	ack, err := func() (op.Ack, error) {
		path, end := f.begin(h.n)
		defer end()
		o.Path = path
		return f.change(cancel, o, func() error {
			if err := h.misplaced(in); err != nil {
				return err
			}
			f.times.changed(h.n) // even by a write that fails
			if err := h.write(o); err != nil {
				return err
			}
			if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
				h.kill(o, &in.Caller)
			}
			return nil
		})
	}()
	if err != nil {
		if in.WriteFlags&fuse.WRITE_CACHE != 0 {
			// A page that was written through a mapping: the kernel would go on to
			// show what is nowhere.
			f.server.distrust(in.NodeId)
		}
		return 0, status(err)
	}
	if barrier {
		ack = f.sync(h, in.Flags&unix.O_SYNC != unix.O_SYNC, ack)
	}
	return uint32(len(o.Data)), f.after(&in.InHeader, nil, nil, ack)
}

// Writev is Write: requests come in one piece.
func (f *front) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// write does what o says and cuts o to what was done.
func (h *handle) write(o *op.Op) error {
	done := 0
	for done < len(o.Data) {
		var n int
		err := restart(func() (err error) {
			n, err = unix.Pwrite(h.fd, o.Data[done:], o.Off+int64(done))
			return err
		})
		if err != nil {
			if done == 0 {
				return err
			}
			break
		}
		done += n
	}
	o.Data = o.Data[:done]
	return nil
}

// kill clears set-ID bits after a write by a caller who may not keep them. The
// data is written: a mode that stays as it was cannot make it undone.
func (h *handle) kill(o *op.Op, caller *fuse.Caller) {
	mode, kill, err := privileged(h.fd, caller)
	if err == nil && kill && unix.Fchmod(h.fd, mode&07777) == nil {
		o.Attr = op.Attr{Valid: op.AttrMode, Mode: mode}
	}
}

// Fallocate is fallocate(2).
func (f *front) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	acks, err := f.fallocate(cancel, h, in)
	switch {
	case err == nil:
	case rewrites(in):
		f.server.distrustRange(in.NodeId, int64(in.Offset), int64(in.Length)) // see halfDone
	default:
		f.server.distrustAttr(in.NodeId) // its times may be new
	}
	return f.after(&in.InHeader, err, nil, acks...)
}

func (f *FS) fallocate(cancel <-chan struct{}, h *handle, in *fuse.FallocateIn) (acks []op.Ack, err error) {
	path, end := f.begin(h.n)
	defer end()
	var before unix.Stat_t
	if err := unix.Fstat(h.fd, &before); err != nil {
		return nil, err
	}
	o := &op.Op{Kind: op.Fallocate, Path: path, Off: int64(in.Offset), Len: int64(in.Length), Arg: in.Mode}
	ack, err := f.change(cancel, o, func() error {
		f.times.changed(h.n) // even by one that fails
		return restart(func() error { return unix.Fallocate(h.fd, o.Arg, o.Off, o.Len) })
	})
	if err != nil {
		return f.halfDone(cancel, h, path, in, before.Size, err)
	}
	acks = append(acks, ack)
	if caller := clears(&in.Caller, h.fd); caller != nil {
		ack, err := f.killPrivileges(cancel, path, h.fd, caller)
		if ack != nil {
			acks = append(acks, ack)
		}
		return acks, err
	}
	return acks, nil
}

// rewrites reports whether an allocation zeroes data that is there.
func rewrites(in *fuse.FallocateIn) bool {
	return in.Mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0
}

// halfDone orders what a failed allocation has changed all the same. Where the
// disk is full or fails, ext4 leaves what it has zeroed and extended until then.
func (f *FS) halfDone(cancel <-chan struct{}, h *handle, path string, in *fuse.FallocateIn, before int64, failed error) (acks []op.Ack, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil {
		return nil, failed
	}
	var changes []*op.Op
	if st.Size != before {
		changes = append(changes, &op.Op{Kind: op.Truncate, Path: path, Attr: results(&st, op.AttrSize)})
	}
	full := errors.Is(failed, unix.ENOSPC) || errors.Is(failed, unix.EDQUOT) || errors.Is(failed, unix.EIO)
	if full && rewrites(in) {
		// From no path: what stands there now.
		changes = append(changes, &op.Op{Kind: op.CopyRange, Path2: path, Off2: int64(in.Offset), Len: int64(in.Length)})
	}
	for _, o := range changes {
		ack, err := f.change(cancel, o, func() error { return nil })
		if err != nil {
			return acks, err
		}
		acks = append(acks, ack)
	}
	return acks, failed
}

// CopyFileRange is copy_file_range(2) between files of this mount.
func (f *front) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	src, dst := f.handles.get(in.FhIn), f.handles.get(in.FhOut)
	if src == nil || dst == nil {
		return 0, fuse.EBADF
	}
	if err := f.admit(cancel); err != nil {
		return 0, status(err)
	}
	o := &op.Op{Kind: op.CopyRange, Off: int64(in.OffIn), Off2: int64(in.OffOut)}
	acks, err := f.copyRange(cancel, src, dst, o, in)
	return uint32(o.Len), f.after(&in.InHeader, err, nil, acks...)
}

func (f *FS) copyRange(cancel <-chan struct{}, src, dst *handle, o *op.Op, in *fuse.CopyFileRangeIn) (acks []op.Ack, err error) {
	from, to, end := f.beginPair(src.n, dst.n)
	defer end()
	o.Path, o.Path2 = from, to
	ack, err := f.change(cancel, o, func() error {
		f.times.changed(dst.n) // even by one that fails
		return restart(func() error {
			off, off2 := o.Off, o.Off2
			n, err := unix.CopyFileRange(src.fd, &off, dst.fd, &off2, int(min(in.Len, maxCopy)), int(in.Flags))
			o.Len = int64(n)
			f.server.distrustAttr(src.n.id) // its atime has moved, which the kernel does not expect
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	acks = append(acks, ack)
	if caller := clears(&in.Caller, dst.fd); caller != nil {
		ack, err := f.killPrivileges(cancel, to, dst.fd, caller)
		if ack != nil {
			acks = append(acks, ack)
		}
		return acks, err
	}
	return acks, nil
}

// beginPair is begin for two inodes.
func (f *FS) beginPair(a, b *inode) (pathA, pathB string, end func()) {
	f.names.RLock()
	for {
		var okA, okB bool
		pathA, okA = f.path(a)
		pathB, okB = f.path(b)
		if okA && okB {
			break
		}
		f.names.RUnlock()
		if !okA {
			f.findNames(a)
		} else {
			f.findNames(b)
		}
		f.names.RLock()
	}
	unlock := lockPair(a, b)
	return pathA, pathB, func() {
		unlock()
		f.names.RUnlock()
	}
}
