package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// loadArchive unpacks an archive like that of a program's source with tar, and
// removes the tree with rm.
func loadArchive(l *loader) error {
	archive := filepath.Join(l.Input, fmt.Sprintf("source-%d.tar", l.Size))
	if _, err := os.Stat(archive); err != nil {
		if err := writeArchive(archive, l.Size); err != nil {
			return err
		}
	}
	if err := l.command("untar", int64(l.Size), "tar", "-xf", archive, "-C", l.Dir); err != nil {
		return err
	}
	return l.command("rm", int64(l.Size), "rm", "-rf", filepath.Join(l.Dir, "source"))
}

// command measures one command that does so many operations.
func (l *loader) command(name string, ops int64, argv ...string) error {
	before, began := l.usage(), time.Now()
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.CombinedOutput()
	took, after := time.Since(began), l.usage()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, out)
	}
	own := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	l.out[name] = &sample{
		Ops: ops, Seconds: took.Seconds(), PeakKiB: after.peak,
		LoadCPU: float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9, ServerCPU: after.servers - before.servers,
	}
	return nil
}

// writeArchive makes an archive of so many files, always the same: a few files
// a directory, most of them a few KiB large.
func writeArchive(path string, files int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	defer func() { err = errors.Join(err, w.Close()) }()
	when := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	r := rand.New(rand.NewPCG(1, 2))
	text := payload(1<<20, 3)
	dir := "source/"
	for i := range files {
		if i%12 == 0 {
			dir = fmt.Sprintf("source/part%d/package%d/", i/144, i/12)
			if i%144 == 0 {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("source/part%d/", i/144), Mode: 0o755, ModTime: when}); err != nil {
					return err
				}
			}
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: when}); err != nil {
				return err
			}
		}
		size := min(int64(4096*math.Exp(r.NormFloat64())), int64(len(text)))
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile%d.go", dir, i), Mode: 0o644, ModTime: when, Size: size}); err != nil {
			return err
		}
		if _, err := w.Write(text[:size]); err != nil {
			return err
		}
	}
	return nil
}
