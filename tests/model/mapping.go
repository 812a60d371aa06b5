package model

import (
	"crypto/sha256"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

// mapping is a part of a file in memory. It outlives the descriptor that it was
// made by.
type mapping struct {
	mem []byte
	fd  int // a duplicate, to ask for the size by and to disturb
	off int64
}

// mapFile maps a file into the slot of its descriptor, in place of what was
// mapped there.
func (w *World) mapFile(s Step) error {
	length := int(min(s.Len, 64<<10)) + 1
	off := s.Off
	if off > 0 {
		off &^= pageSize - 1
	}
	prot, flags := unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED
	switch s.Flags {
	case 1:
		prot = unix.PROT_READ
	case 2:
		flags = unix.MAP_PRIVATE
	}
	mem, err := unix.Mmap(w.slots[s.FD], off, length, prot, flags)
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(uintptr(w.slots[s.FD]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.unmap(s.FD)
	w.maps[s.FD] = &mapping{mem, fd, off}
	return nil
}

func (w *World) unmap(slot int) error {
	m := w.maps[slot]
	if m == nil {
		return unix.ENOENT
	}
	w.maps[slot] = nil
	unix.Close(m.fd)
	return unix.Munmap(m.mem)
}

// within returns how much of the mapping lies within the file.
func (m *mapping) within() int64 {
	var st unix.Stat_t
	if unix.Fstat(m.fd, &st) != nil {
		return 0
	}
	return max(0, min(int64(len(m.mem)), st.Size-m.off))
}

// touched runs access, and says so if the kernel does not let it.
func touched(access func()) (text string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			text = "fault"
		}
	}()
	access()
	return ""
}

// store writes through a mapping and makes it last. Between the two it does
// something else with the same bytes, by the step's number. What it has stored
// is never left for later: a mount hears of it, and of the time that it
// changes, only when the kernel writes it back.
func (w *World) store(s Step) (n int64, text string, err error) {
	m := w.maps[s.FD]
	if m == nil {
		return 0, "", unix.ENOENT
	}
	size := m.within()
	if size == 0 {
		return 0, touched(func() { m.mem[0] = 1 }), nil
	}
	at := max(0, s.Off2) % size
	bytes := data(s)
	bytes = bytes[:min(int64(len(bytes)), size-at, 20_000)]
	text = touched(func() { n = int64(copy(m.mem[at:], bytes)) })
	switch s.ID % 7 {
	case 0:
		_, again, err := digest(m.fd, m.off+at, n)
		text += fmt.Sprintf(" read %s %v", again, err)
	case 1:
		err := unix.Madvise(m.mem, unix.MADV_DONTNEED)
		text += fmt.Sprintf(" dropped %v %s", err, m.load())
	case 2:
		k, err := overwrite(m.fd, bytes, m.off+at+1)
		text += fmt.Sprintf(" wrote %d %v %s", k, err, m.load())
	case 3:
		err := unix.Ftruncate(m.fd, m.off+at+n/2)
		text += fmt.Sprintf(" cut %v %s", err, m.load())
	case 4:
		err := unix.Fallocate(m.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, m.off+at+n/3, n/3+1)
		text += fmt.Sprintf(" punched %v %s", err, m.load())
	case 5:
		return n, text, unix.Fsync(m.fd)
	}
	return n, text, unix.Msync(m.mem, unix.MS_SYNC)
}

// load returns a digest of all of a mapping that can be read.
func (m *mapping) load() string {
	pages := min(int64(len(m.mem)), (m.within()+pageSize-1)/pageSize*pageSize)
	var sum [sha256.Size]byte
	if text := touched(func() { sum = sha256.Sum256(m.mem[:pages]) }); text != "" {
		return text
	}
	return fmt.Sprintf("%d %x", pages, sum[:6])
}

// digest reads a part of a file.
func digest(fd int, off, length int64) (n int64, text string, err error) {
	off, length = allowed(fd, off, length)
	buf := aligned(length)
	k, err := unix.Pread(fd, buf, off)
	if err != nil {
		return int64(k), "", err
	}
	sum := sha256.Sum256(buf[:k])
	return int64(k), fmt.Sprintf("%x", sum[:6]), nil
}

// aligned returns memory of the given length that O_DIRECT takes.
func aligned(length int64) []byte {
	b := make([]byte, length+pageSize)
	skip := -addressOf(b) & (pageSize - 1)
	return b[skip : skip+int(length)]
}

// overwrite writes what a descriptor allows of b at off or close to it.
func overwrite(fd int, b []byte, off int64) (int, error) {
	off, length := allowed(fd, off, int64(len(b)))
	buf := aligned(length)
	copy(buf, b)
	return unix.Pwrite(fd, buf, off)
}

// allowed returns what off and length have to be for a descriptor: whole pages
// if it goes past the page cache. Disks differ in how much less they take.
func allowed(fd int, off, length int64) (int64, int64) {
	if !direct(fd) || off < 0 {
		return off, length
	}
	return off &^ (pageSize - 1), (length + pageSize - 1) &^ (pageSize - 1)
}

// align moves a descriptor's own offset to where it may read and write.
func align(fd int) {
	if at, err := unix.Seek(fd, 0, unix.SEEK_CUR); err == nil {
		if off, _ := allowed(fd, at, 0); off != at {
			unix.Seek(fd, off, unix.SEEK_SET)
		}
	}
}

// direct reports whether a descriptor goes past the page cache.
func direct(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}
