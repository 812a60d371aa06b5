package fs

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// dirStream reads a directory. The offsets that the kernel gets are those of
// the file system below, which keep their meaning while entries come and go.
type dirStream struct {
	mu   sync.Mutex // guards all
	fd   int
	off  uint64 // offset of the next entry
	rest []byte // what getdents(2) returned and was not taken yet
}

// dirEntry is one entry and where it ends in rest.
type dirEntry struct {
	fuse.DirEntry
	size int
}

// seek makes the entry at off the next one. Offset 0 always starts anew, so
// that rewinddir(3) sees what is there now.
func (d *dirStream) seek(off uint64) error {
	if off == d.off && off != 0 {
		return nil
	}
	d.rest = nil
	d.off = off
	_, err := unix.Seek(d.fd, int64(off), 0)
	return err
}

// peek returns the next entry, and false at the end.
func (d *dirStream) peek() (e dirEntry, ok bool, err error) {
	if len(d.rest) == 0 {
		buf := make([]byte, 32<<10)
		n, err := unix.Getdents(d.fd, buf)
		if err != nil || n == 0 {
			return e, false, err
		}
		d.rest = buf[:n]
	}
	// struct linux_dirent64: ino, off, reclen, type, name with its NUL.
	const header = 19
	r := d.rest
	e.Ino = binary.NativeEndian.Uint64(r)
	e.Off = binary.NativeEndian.Uint64(r[8:])
	e.size = int(binary.NativeEndian.Uint16(r[16:]))
	e.Mode = uint32(r[18]) << 12
	name := r[header:e.size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	e.Name = string(name)
	return e, true, nil
}

// take moves behind e.
func (d *dirStream) take(e dirEntry) {
	d.off = e.Off
	d.rest = d.rest[e.size:]
}

// OpenDir is opendir(3).
func (f *front) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := f.table.get(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	h, err := f.open(n, in.Flags, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return status(err)
	}
	h.dir = &dirStream{fd: h.fd}
	out.Fh = f.handles.add(h)
	return fuse.OK
}

// ReadDir lists names.
func (f *front) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(in, func(h *handle, e *dirEntry) bool { return out.AddDirEntry(e.DirEntry) })
}

// ReadDirPlus lists names and looks each of them up.
func (f *front) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	// No name may go between the look below and the entry in the table.
	f.names.RLock()
	defer f.names.RUnlock()
	return f.readDir(in, func(h *handle, e *dirEntry) bool {
		var st unix.Stat_t
		dots := e.Name == "." || e.Name == ".."
		if !dots && unix.Fstatat(h.fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return true // it went since it was read
		}
		entry := out.AddDirLookupEntry(e.DirEntry)
		if entry == nil {
			return false
		}
		if !dots {
			// An entry left at node 0 is a name only, and no reference is counted.
			f.table.enter(h.n, e.Name, &st, 1, 0).fill(&st, entry)
			out.FixMode(st.Mode)
		}
		return true
	})
}

func (f *FS) readDir(in *fuse.ReadIn, add func(*handle, *dirEntry) (fits bool)) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	d := h.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.seek(in.Offset); err != nil {
		return status(err)
	}
	for added := false; ; added = true {
		e, ok, err := d.peek()
		if err != nil && added {
			return fuse.OK // what was added counts as looked up; the next call hears of it
		}
		if err != nil {
			return status(err)
		}
		if !ok {
			return fuse.OK
		}
		if e.Name == ".." && h.n == f.table.root {
			e.Ino = h.n.key.ino // nothing is above the root
		}
		if !add(h, &e) {
			return fuse.OK
		}
		d.take(e)
	}
}

// ReleaseDir is closedir(3).
func (f *front) ReleaseDir(in *fuse.ReleaseIn) { f.handles.remove(in.Fh) }

// FsyncDir is fsync(2) of a directory.
func (f *front) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.Fsync(cancel, in)
}
