package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The loads of the figures about repairs, but for those that rows have, too.

// loadSteady writes 4 KiB somewhere in the large files of a tree 500 times a
// second, syncs what it wrote every 50 times, and makes 25 files a second.
func loadSteady(l *loader) error {
	const every, size, perSync, perFile = 2 * time.Millisecond, 4096, 50, 20
	files, _, err := filesIn(filepath.Join(l.Dir, "large"))
	if err != nil {
		return err
	}
	made := filepath.Join(l.Dir, fmt.Sprintf("made%d", os.Getpid()))
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	return l.timed("write", false, func(int) (step, error) {
		var fds []int
		for _, f := range files {
			fd, err := unix.Open(f.path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", f.path, err)
			}
			fds = append(fds, fd)
		}
		p, r, due := payload(size, l.Seed), rand.New(rand.NewPCG(uint64(l.Seed), 8)), time.Now()
		return func(i int) error {
			time.Sleep(time.Until(due))
			due = due.Add(every)
			n := r.IntN(len(fds))
			if err := pwrite(fds[n], p, r.Int64N(files[n].size/size)*size); err != nil {
				return err
			}
			if i%perFile == 0 {
				if err := os.WriteFile(filepath.Join(made, fmt.Sprint(i)), p, 0o644); err != nil {
					return err
				}
			}
			if i%perSync == 0 {
				return fdatasync(fds[n])
			}
			return nil
		}, nil
	})
}

// loadCreate makes files of 4 KiB, all in one directory that was there before.
func loadCreate(l *loader) error {
	p, dir := payload(4096, l.Seed), l.ready()
	// The files stay: see scatter.
	err := l.timed("create", false, func(int) (step, error) {
		return func(i int) error {
			fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return fmt.Errorf("create: %w", err)
			}
			defer unix.Close(fd)
			return pwrite(fd, p, 0)
		}, nil
	})
	return errors.Join(err, syncDisk(l.Below))
}

// loadGrow appends to a new file in a directory that was there before, and with
// Every syncs it after so many times.
func loadGrow(l *loader) error {
	file := filepath.Join(l.ready(), "file")
	fd, err := unix.Open(file, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer unix.Close(fd)
	err = l.timed("append", false, func(int) (step, error) {
		p := payload(l.Size, l.Seed)
		return func(i int) error {
			if err := pwrite(fd, p, int64(i)*int64(l.Size)); err != nil {
				return err
			}
			if l.Every > 0 && (i+1)%l.Every == 0 {
				return fdatasync(fd)
			}
			return nil
		}, nil
	})
	// It goes, after its time.
	return errors.Join(err, os.Remove(file), syncDisk(l.Below))
}

// ready is the directory that was made for this sample long before it. In one
// that was made just now all is hot by one record.
func (l *loader) ready() string { return filepath.Join(l.Dir, fmt.Sprintf("ready%d", l.Seed)) }
