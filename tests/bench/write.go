package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Loads that write. Each thread has a file of its own, made beforehand, and
// writes over it again and again: what it takes to make a write, not how large
// the disk's cache is. All files together are as large as bounded.
const bounded = 16 << 20

// pwrite is pwrite(2) without a detour through Go's scheduler.
func pwrite(fd int, p []byte, off int64) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(off), 0, 0)
	if errno != 0 {
		return fmt.Errorf("pwrite: %w", errno)
	}
	if int(n) != len(p) {
		return fmt.Errorf("pwrite: %d bytes of %d", n, len(p))
	}
	return nil
}

func fdatasync(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_FDATASYNC, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("fdatasync: %w", errno)
	}
	return nil
}

func fsync(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_FSYNC, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("fsync: %w", errno)
	}
	return nil
}

// payload is n bytes that do not compress.
func payload(n int, seed int64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// file makes a thread's file of a size, filled and synced, unless it is there,
// and returns a descriptor of it.
func (l *loader) file(thread int, size int64) (int, error) {
	path := filepath.Join(l.Dir, fmt.Sprintf("file%d", thread))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Size == size {
		return fd, nil
	}
	chunk := payload(1<<20, l.Seed)
	for off := int64(0); off < size; off += int64(len(chunk)) {
		if err := pwrite(fd, chunk[:min(int64(len(chunk)), size-off)], off); err != nil {
			return -1, err
		}
	}
	return fd, fsync(fd)
}

// share is a thread's part of what is bounded, in whole calls.
func (l *loader) share() int64 {
	return max(bounded/int64(l.Threads)/int64(l.Size), 1) * int64(l.Size)
}

// loadWrite writes one after the other, without a sync or, with Every, with one
// fdatasync after so many calls. With Every 1 a step is both.
func loadWrite(l *loader) error {
	size := l.share()
	var fds []int
	err := l.timed("write", true, func(thread int) (step, error) {
		fd, err := l.file(thread, size)
		fds = append(fds, fd)
		p, per := payload(l.Size, l.Seed+int64(thread)), int(size)/l.Size
		return func(i int) error {
			if err := pwrite(fd, p, int64(i%per)*int64(l.Size)); err != nil {
				return err
			}
			if l.Every > 0 && (i+1)%l.Every == 0 {
				return fdatasync(fd)
			}
			return nil
		}, err
	})
	return l.settle(fds, err)
}

// loadAppend appends with an fdatasync after every so many calls, to a file
// that is cut to nothing when it has its share.
func loadAppend(l *loader) error {
	size := l.share()
	var fds []int
	err := l.timed("append", true, func(thread int) (step, error) {
		fd, err := l.file(thread, 0)
		fds = append(fds, fd)
		p, at := payload(l.Size, l.Seed+int64(thread)), int64(0)
		return func(i int) error {
			if at >= size {
				if _, _, errno := unix.RawSyscall(unix.SYS_FTRUNCATE, uintptr(fd), 0, 0); errno != 0 {
					return fmt.Errorf("ftruncate: %w", errno)
				}
				at = 0
			}
			if err := pwrite(fd, p, at); err != nil {
				return err
			}
			at += int64(len(p))
			if (i+1)%l.Every == 0 {
				return fdatasync(fd)
			}
			return nil
		}, err
	})
	return l.settle(fds, err)
}

// loadRandom writes somewhere in the file and calls fsync, each time.
func loadRandom(l *loader) error {
	size := l.share()
	var fds []int
	err := l.timed("write", true, func(thread int) (step, error) {
		fd, err := l.file(thread, size)
		fds = append(fds, fd)
		p, per := payload(l.Size, l.Seed+int64(thread)), size/int64(l.Size)
		r := rand.New(rand.NewPCG(uint64(l.Seed), uint64(thread)))
		return func(int) error {
			if err := pwrite(fd, p, r.Int64N(per)*int64(l.Size)); err != nil {
				return err
			}
			return fsync(fd)
		}, err
	})
	return l.settle(fds, err)
}

// settle syncs and closes the files after the measured time. What a
// configuration has queued must not be done in the time of the next one.
func (l *loader) settle(fds []int, err error) error {
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if err := fsync(fd); err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}
