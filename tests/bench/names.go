package main

import (
	"fmt"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// name is a file's name as system calls take it, and one that it is renamed to.
type name struct{ old, new []byte }

// call makes a system call with a path and reports what it was for.
func call(what string, number, a, b, c, d uintptr) error {
	if _, _, errno := unix.RawSyscall6(number, a, b, c, d, 0, 0); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}

func pointer(path []byte) uintptr { return uintptr(unsafe.Pointer(&path[0])) }

// loadNames creates files, each thread in a directory of its own, looks at them
// when the kernel has forgotten their names, renames and removes them: four
// phases.
func loadNames(l *loader) error {
	const most = 4000 // in a sample: see scatter
	dirs := make([]int, l.Threads)
	names := make([][]name, l.Threads)
	created := make([]int, l.Threads)
	for t := range l.Threads {
		dir := filepath.Join(l.Dir, fmt.Sprintf("dir%d", t))
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("mkdir %s: %w", dir, err)
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		defer unix.Close(fd)
		dirs[t] = fd
		for i := range most / l.Threads {
			names[t] = append(names[t], name{fmt.Appendf(nil, "f%d\x00", i), fmt.Appendf(nil, "g%d\x00", i)})
		}
	}
	err := l.timed("create", false, func(t int) (step, error) {
		return func(i int) error {
			if i == len(names[t]) {
				return errDone
			}
			fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dirs[t]), pointer(names[t][i].old),
				unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644, 0, 0)
			if errno != 0 {
				return fmt.Errorf("create: %w", errno)
			}
			created[t]++
			return call("close", unix.SYS_CLOSE, fd, 0, 0, 0)
		}, nil
	})
	if err != nil {
		return err
	}
	if err := l.stats(dirs, names, created); err != nil {
		return err
	}
	renamed := make([]int, l.Threads)
	err = l.timed("rename", false, func(t int) (step, error) {
		return func(i int) error {
			if i == created[t] {
				return errDone
			}
			renamed[t]++
			return call("rename", unix.SYS_RENAMEAT, uintptr(dirs[t]), pointer(names[t][i].old), uintptr(dirs[t]), pointer(names[t][i].new))
		}, nil
	})
	if err != nil {
		return err
	}
	return l.timed("unlink", false, func(t int) (step, error) {
		return func(i int) error {
			if i == renamed[t] {
				return errDone
			}
			return call("unlink", unix.SYS_UNLINKAT, uintptr(dirs[t]), pointer(names[t][i].new), 0, 0)
		}, nil
	})
}

// stats looks at each file once, after the kernel has forgotten the mount's
// names, again and again until it has taken long enough.
func (l *loader) stats(dirs []int, names [][]name, created []int) error {
	const most = 10
	total := &sample{}
	for n := 0; n < most && total.Seconds < l.Time.Seconds(); n++ {
		if err := l.evict(); err != nil {
			return err
		}
		err := l.timed("stat", false, func(t int) (step, error) {
			st := new(unix.Stat_t)
			return func(i int) error {
				if i == created[t] {
					return errDone
				}
				return call("stat", unix.SYS_NEWFSTATAT, uintptr(dirs[t]), pointer(names[t][i].old), uintptr(unsafe.Pointer(st)), 0)
			}, nil
		})
		if err != nil {
			return err
		}
		total.add(l.out["stat"])
	}
	l.out["stat"] = total
	return nil
}
