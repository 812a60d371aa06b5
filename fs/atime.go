package fs

import (
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// The atime is that of the file below, which our own reads move, by the rules
// of the mount below. The kernel's cache keeps reads from us: so that an atime
// moves at least once when it has to, the kernel drops what it has of a small
// file when that is opened. A large one is worth more than its atime.
const atimeWorth = 1 << 20

// moves reports whether a read of what has just been opened has to move its
// atime and might be answered from the kernel's cache.
func (f *FS) moves(h *handle) bool {
	if f.noAtime || h.flags&unix.O_NOATIME != 0 || h.flags&unix.O_ACCMODE == unix.O_WRONLY {
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(h.fd, &st) != nil || st.Size > atimeWorth {
		return false
	}
	// As relatime has it.
	at := st.Atim.Nano()
	return at <= max(st.Mtim.Nano(), st.Ctim.Nano()) || time.Now().UnixNano()-at >= int64(24*time.Hour)
}

// withoutAtime reports whether the file system below is mounted with noatime.
func (f *FS) withoutAtime() bool {
	at, err := f.tree.At(op.Root)
	if err != nil {
		return false
	}
	defer at.Close()
	var st unix.Statfs_t
	return restart(func() error { return unix.Fstatfs(at.FD, &st) }) == nil && st.Flags&unix.ST_NOATIME != 0
}
