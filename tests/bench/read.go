package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pread reads all of p, without a detour through Go's scheduler.
func pread(fd int, p []byte, off int64) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(off), 0, 0)
	if errno != 0 {
		return fmt.Errorf("pread: %w", errno)
	}
	if int(n) != len(p) {
		return fmt.Errorf("pread: %d bytes of %d", n, len(p))
	}
	return nil
}

// written makes a thread's file and returns its path.
func (l *loader) written(thread int, size int64) (string, error) {
	fd, err := l.file(thread, size)
	if err != nil {
		return "", err
	}
	path := fmt.Sprintf("file%d", thread)
	return path, unix.Close(fd)
}

// openRead opens a file for reading, as cheaply as a program can.
func openRead(path []byte) (int, error) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), pointer(path), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return -1, fmt.Errorf("open %s: %w", path, errno)
	}
	return int(fd), nil
}

// loadRead reads files that are in the page cache, by one descriptor each.
func loadRead(l *loader) error {
	size := l.share()
	return l.timed("read", true, func(thread int) (step, error) {
		name, err := l.written(thread, size)
		if err != nil {
			return nil, err
		}
		fd, err := openRead(cPath(l.Dir, name))
		if err != nil {
			return nil, err
		}
		p, per := make([]byte, l.Size), int(size)/l.Size
		for i := range per {
			if err := pread(fd, p, int64(i)*int64(l.Size)); err != nil {
				return nil, err
			}
		}
		return func(i int) error { return pread(fd, p, int64(i%per)*int64(l.Size)) }, nil
	})
}

// loadReopen reads files from their beginning to their end, opened for reading
// each time. What is in the cache below is not read from the disk.
func loadReopen(l *loader) error {
	size := l.share()
	return l.timed("read", true, func(thread int) (step, error) {
		name, err := l.written(thread, size)
		if err != nil {
			return nil, err
		}
		path, p, per := cPath(l.Dir, name), make([]byte, l.Size), int(size)/l.Size
		fd := -1
		return func(i int) error {
			if i%per == 0 {
				if fd >= 0 {
					if err := call("close", unix.SYS_CLOSE, uintptr(fd), 0, 0, 0); err != nil {
						return err
					}
				}
				if fd, err = openRead(path); err != nil {
					return err
				}
			}
			return pread(fd, p, int64(i%per)*int64(l.Size))
		}, nil
	})
}

// loadMapped maps files that are in the page cache and reads a byte of each
// page, over and over: what it takes to have a page of a file in memory.
func loadMapped(l *loader) error {
	size := l.share()
	var sum byte
	err := l.timed("read", true, func(thread int) (step, error) {
		name, err := l.written(thread, size)
		if err != nil {
			return nil, err
		}
		fd, err := openRead(cPath(l.Dir, name))
		if err != nil {
			return nil, err
		}
		m, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("mmap: %w", err)
		}
		// One page a fault, not the ones around it, too.
		if err := unix.Madvise(m, unix.MADV_RANDOM); err != nil {
			return nil, fmt.Errorf("madvise: %w", err)
		}
		var mine byte
		per := int(size) / l.Size
		return func(i int) error {
			if i%per == 0 {
				sum += mine
				if err := call("madvise", unix.SYS_MADVISE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MADV_DONTNEED, 0); err != nil {
					return err
				}
			}
			mine += m[i%per*l.Size]
			return nil
		}, nil
	})
	return err
}

// loadCold reads a file once, of which nothing is in memory.
func loadCold(l *loader) error {
	const size = 64 << 20
	names := make([]string, l.Threads)
	for t := range names {
		var err error
		if names[t], err = l.written(t, size/int64(l.Threads)); err != nil {
			return err
		}
	}
	if err := l.evict(); err != nil {
		return err
	}
	for _, name := range names {
		if err := forgetFile(filepath.Join(l.Below, name)); err != nil {
			return err
		}
	}
	return l.timed("read", false, func(thread int) (step, error) {
		fd, err := openRead(cPath(l.Dir, names[thread]))
		p := make([]byte, l.Size)
		return func(i int) error {
			off := int64(i) * int64(l.Size)
			if off == size/int64(l.Threads) {
				return errDone
			}
			return pread(fd, p, off)
		}, err
	})
}

// forgetFile takes a file's content out of the page cache.
func forgetFile(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Fsync(fd), unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
		return fmt.Errorf("forget %s: %w", path, err)
	}
	return nil
}

// evict makes the kernel forget names, inodes and pages of the mount that are
// not in use. Below it they stay. A mount forgets them when it is mounted anew
// with the options it has; without one, all file systems have to.
func (l *loader) evict() error {
	if l.Mount == "" {
		return dropNames()
	}
	if err := unix.Mount("", l.Mount, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("remount %s: %w", l.Mount, err)
	}
	return nil
}
