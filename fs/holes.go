package fs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lseek finds data and holes; the kernel does all other seeking itself.
func (f *front) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	start, whence := int64(in.Offset), int(in.Whence)
	off, err := unix.Seek(h.fd, start, whence)
	if f.handles.mappable(h.n) {
		off, err = f.seekMapped(in, h, off, err)
	}
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}

// seekMapped goes on with a search for data or a hole that came to off, or to
// failed, in a file that may be mapped. What is stored through a mapping is not
// here before the kernel writes it, which it does when it has to forget it. So
// there is a hole only where that brings nothing. Whoever copies a file by its
// holes would lose what was stored otherwise.
func (f *FS) seekMapped(in *fuse.LseekIn, h *handle, off int64, failed error) (int64, error) {
	for start := int64(in.Offset); ; {
		hole, end, err := holeAt(h.fd, start, off, int(in.Whence), failed)
		if err != nil || hole >= end {
			return off, failed
		}
		f.blocks(&in.InHeader)
		f.server.distrustRange(in.NodeId, hole, end-hole)
		again, err := unix.Seek(h.fd, start, int(in.Whence))
		if again == off && (err == nil) == (failed == nil) {
			return again, err
		}
		off, failed = again, err
	}
}

// holeAt returns the hole that the answer to a search relies on: the one that
// was skipped before data, or that was found.
func holeAt(fd int, start, off int64, whence int, failed error) (hole, end int64, err error) {
	size, err := unix.Seek(fd, 0, unix.SEEK_END)
	switch {
	case err != nil:
		return 0, 0, err
	case whence == unix.SEEK_DATA && errors.Is(failed, unix.ENXIO):
		return start, size, nil
	case failed != nil:
		return 0, 0, nil
	case whence == unix.SEEK_DATA:
		return start, off, nil
	}
	end, err = unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return off, size, nil
	}
	return off, end, err
}
