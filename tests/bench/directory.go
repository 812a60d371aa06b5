package main

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropNames makes the kernel forget the names and inodes of all file systems
// that are not in use.
func dropNames() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0)
}

// cPath is a path as system calls take it.
func cPath(parts ...string) []byte { return append([]byte(filepath.Join(parts...)), 0) }

// loadList lists directories of so many entries, without looking at them.
func loadList(l *loader) error {
	return l.timed("readdir", true, func(thread int) (step, error) {
		dir := filepath.Join(l.Dir, fmt.Sprintf("dir%d", thread))
		if err := fill(dir, l.Size); err != nil {
			return nil, err
		}
		path, buf := cPath(dir), make([]byte, 32<<10) // as in the C library
		return func(int) error {
			fd, err := openRead(path)
			if err != nil {
				return err
			}
			got := 0
			for {
				n, _, errno := unix.RawSyscall(unix.SYS_GETDENTS64, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
				if errno != 0 {
					return fmt.Errorf("getdents: %w", errno)
				}
				if n == 0 {
					break
				}
				for at := 0; at < int(n); got++ {
					at += int(buf[at+16]) | int(buf[at+17])<<8 // d_reclen
				}
			}
			if got != l.Size+2 { // . and ..
				return fmt.Errorf("%d entries in a directory of %d", got, l.Size)
			}
			return call("close", unix.SYS_CLOSE, uintptr(fd), 0, 0, 0)
		}, nil
	})
}

// fill makes a directory with so many empty files, unless it is there.
func fill(dir string, files int) error {
	made, err := os.ReadDir(dir)
	if err == nil && len(made) == files {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range files {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("entry%06d", i)), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}
