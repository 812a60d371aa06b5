package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// The data that repairs are measured on.

const (
	regionSize  = 64 << 10 // what a repair compares and sends
	largeFile   = 64 << 20
	smallFile   = 1 << 20
	filesPerDir = 1000
)

// random makes bytes that nothing can make smaller, the same ones for a seed.
func random(seed int64) *rand.ChaCha8 {
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	return rand.NewChaCha8(key)
}

// writeFile makes a file of random bytes.
func writeFile(path string, size int64, from *rand.ChaCha8) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	chunk := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; off += int64(len(chunk)) {
		from.Read(chunk)
		if _, err := f.Write(chunk[:min(size-off, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return nil
}

// writeTree fills a directory with so many bytes: one half in large files, one
// in small ones, 64 a directory.
func writeTree(dir string, size int64) error {
	from := random(1)
	for i := int64(0); i < size/2; i += largeFile {
		if err := os.MkdirAll(filepath.Join(dir, "large"), 0o755); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, "large", fmt.Sprint(i/largeFile)), min(largeFile, size/2-i), from); err != nil {
			return err
		}
	}
	for i := int64(0); i < size/2; i += smallFile {
		part := filepath.Join(dir, fmt.Sprintf("part%d", i/(64*smallFile)))
		if err := os.MkdirAll(part, 0o755); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(part, fmt.Sprint(i/smallFile)), min(smallFile, size/2-i), from); err != nil {
			return err
		}
	}
	return nil
}

// writeMany fills a directory with very many files of 1 to 8 KiB.
func writeMany(dir string, files int) error {
	from := random(2)
	for i := range files {
		part := filepath.Join(dir, fmt.Sprintf("part%d", i/filesPerDir))
		if i%filesPerDir == 0 {
			if err := os.MkdirAll(part, 0o755); err != nil {
				return err
			}
		}
		if err := writeFile(filepath.Join(part, fmt.Sprintf("file%d", i)), 1<<10+int64(from.Uint64()%(7<<10)), from); err != nil {
			return err
		}
	}
	return nil
}

// file is one of a directory's.
type file struct {
	path string
	size int64
}

// filesIn returns all files below dir.
func filesIn(dir string) (files []file, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files = append(files, file{path, info.Size()})
		size += info.Size()
		return nil
	})
	return files, size, err
}

// changeRegions writes whole regions anew, so many, all over the files of dir,
// and returns how many bytes that were.
func changeRegions(dir string, count int) (int64, error) {
	files, _, err := filesIn(dir)
	if err != nil {
		return 0, err
	}
	type place struct {
		file int
		off  int64
	}
	var all []place
	for i, f := range files {
		for off := int64(0); off+regionSize <= f.size; off += regionSize {
			all = append(all, place{i, off})
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	from, b := random(time.Now().UnixNano()), make([]byte, regionSize)
	for _, at := range all[:min(count, len(all))] {
		from.Read(b)
		if err := writeAt(files[at.file].path, b, at.off); err != nil {
			return 0, err
		}
	}
	return int64(min(count, len(all))) * regionSize, nil
}

func writeAt(path string, b []byte, off int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteAt(b, off)
	return err
}

// changeFiles writes whole files anew, so many, all over dir, and returns how
// many bytes that were.
func changeFiles(dir string, count int) (changed int64, err error) {
	files, _, err := filesIn(dir)
	if err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(5, 6))
	r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	from := random(time.Now().UnixNano())
	for _, f := range files[:min(count, len(files))] {
		if err := writeFile(f.path, f.size, from); err != nil {
			return 0, err
		}
		changed += f.size
	}
	return changed, nil
}

// turnOver has all of a directory be compared though nothing of it is another
// than before: it is renamed there and back.
func turnOver(dir string) error {
	aside := dir + "-aside"
	if err := os.Rename(dir, aside); err != nil {
		return err
	}
	return os.Rename(aside, dir)
}

// cat returns how many seconds it takes to read all files below directories,
// by one process each, side by side, with nothing cached.
func cat(ctx context.Context, dirs ...string) (float64, error) {
	if err := dropCaches(dirs[0]); err != nil {
		return 0, err
	}
	began, errs := time.Now(), make(chan error)
	for _, dir := range dirs {
		go func() {
			cmd := exec.CommandContext(ctx, "sh", "-c", `find "$1" -type f -print0 | xargs -0 cat > /dev/null`, "sh", dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("cat %s: %w: %s", dir, err, out)
			}
			errs <- err
		}()
	}
	var all []error
	for range dirs {
		all = append(all, <-errs)
	}
	return time.Since(began).Seconds(), errors.Join(slices.DeleteFunc(all, func(err error) bool { return err == nil })...)
}
