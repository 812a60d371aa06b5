package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// A file with the attribute 'append only' grows, and what it has stays. The
// kernel above does not know the attribute. It lets O_APPEND be taken from a
// descriptor or be overruled by a call, or the file be mapped, and then sends an
// offset in the middle. Below, such a file can be opened with O_APPEND only, and
// then all that is written goes to its end, whatever the offset: so it is refused.

// misplaced returns an error if a write must not be made because the file only
// grows. The caller holds the locks of h's inode.
func (h *handle) misplaced(in *fuse.WriteIn) error {
	// What is opened to append before the file gets the attribute has to go on
	// appending, too.
	taken := h.flags&unix.O_APPEND != 0 && in.Flags&unix.O_APPEND == 0 && in.WriteFlags&fuse.WRITE_CACHE == 0
	if !h.grows && !taken {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil || int64(in.Offset) == st.Size {
		return err
	}
	flags, err := tree.InodeFlags(h.fd)
	if err != nil || !h.grows && flags&op.InodeAppend == 0 {
		return err
	}
	if flags&op.InodeAppend != 0 {
		return unix.EPERM
	}
	// The attribute has gone since.
	below, err := unix.FcntlInt(uintptr(h.fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(h.fd), unix.F_SETFL, below&^unix.O_APPEND)
	}
	h.grows = err != nil
	return err
}
