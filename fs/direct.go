package fs

import (
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// What is read and written with O_DIRECT goes through the cache below: our
// buffers have no alignment. A disk has one, and what breaks it fails there. So
// it fails here, as far as it can be told: a request says where it is in the file
// and how long, but not where in memory. (ext4 moves the file's times before it
// refuses, which we do not, and of what is longer than a request may be it sees
// an odd end at once, which we see when all but the rest is done.)

// aligned returns EINVAL if [off, off+size) cannot be a direct access, or a piece
// of one, to h's file.
func (h *handle) aligned(flags uint32, off uint64, size int, write bool) error {
	page := uint64(os.Getpagesize())
	end := off + uint64(size)
	if flags&unix.O_DIRECT == 0 || (off|end)%page == 0 {
		return nil // as everything is that fills a page of a mapping
	}
	var st unix.Statx_t
	if unix.Statx(h.fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN|unix.STATX_SIZE, &st) != nil {
		return nil
	}
	unit, memory := uint64(st.Dio_offset_align), uint64(st.Dio_mem_align)
	if unit == 0 {
		return nil // it is not direct below either, or not known
	}
	if !write {
		// What is read ends with the file's last block.
		block := uint64(st.Blksize)
		end = min(end, (st.Size+block-1)/block*block)
		if off >= st.Size {
			return nil
		}
	}
	// The kernel cuts what is long where a page of the caller's memory ends. Where
	// memory need not be aligned as the file is, the cut may be anywhere.
	cut := memory < unit
	if off%unit != 0 && (!cut || off%memory != 0) {
		return unix.EINVAL
	}
	if end%unit != 0 && (!cut || uint64(size) <= maxWrite-page) {
		return unix.EINVAL
	}
	return nil
}

// direct is what a write was opened with, or 0 if it comes from a mapping.
func direct(in *fuse.WriteIn) uint32 {
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		return 0
	}
	return in.Flags
}
