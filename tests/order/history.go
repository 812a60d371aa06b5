// Package order checks that a mirror's replica is at every instant what the
// primary's was at some earlier one: a mirror process is stopped at random
// instants, its replica is read, and what was read must be a prefix of the
// history.
package order

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// writer makes numbered changes in a directory of its own, each with one
// system call, and knows what the directory looks like after each of them.
type writer struct {
	dir   string // under the mount
	n     int    // changes made
	files map[string]string
}

// cycle is after how many changes a writer does the same thing again, with the
// next names.
const cycle = 10

// dataSize bounds the file that is written and truncated here and there.
const dataSize = 300_000

func newWriter(dir string) (*writer, error) {
	w := &writer{dir: dir, files: map[string]string{"log": "", "data": "", "fixed": "never changed", "hard--1": ""}}
	for name, text := range w.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// next makes the next change under the mount and in the writer's own picture.
// No two of its states are the same.
// barrier reports whether its return promises that the mirrors have it with
// `sync: barrier` too.
func (w *writer) next() (barrier bool, err error) {
	i := w.n
	w.n++
	round := i / cycle
	name := func(kind string, n int) string { return fmt.Sprintf("%s-%d", kind, n) }
	path := func(name string) string { return filepath.Join(w.dir, name) }
	switch i % cycle {
	case 0:
		record := fmt.Sprintf("change %08d\n", i)
		w.files["log"] += record
		return false, pwrite(path("log"), unix.O_APPEND, record, 0)
	case 1:
		w.files[name("new", round)] = ""
		return true, create(path(name("new", round)))
	case 2:
		// It begins with a page: of a write that does not, the kernel makes two
		// requests, which is what a crash of the disk's own file system may
		// leave as well.
		text, at := strings.Repeat(fmt.Sprintf("%08d", i), 2500), i*4099%(dataSize-20000)&^4095
		old := w.files["data"]
		if len(old) < at {
			old += strings.Repeat("\x00", at-len(old))
		}
		w.files["data"] = old[:at] + text + old[min(len(old), at+len(text)):]
		return false, pwrite(path("data"), 0, text, int64(at))
	case 3:
		from, to := name("new", round), name("kept", round%7)
		w.files[to] = w.files[from]
		delete(w.files, from)
		return true, unix.Rename(path(from), path(to))
	case 4:
		w.files[name("hard", round)] = w.files["fixed"]
		return true, unix.Link(path("fixed"), path(name("hard", round)))
	case 5:
		delete(w.files, name("hard", round-1))
		return true, unix.Unlink(path(name("hard", round-1)))
	case 6:
		size := i * 7919 % dataSize
		old := w.files["data"]
		if len(old) < size {
			old += strings.Repeat("\x00", size-len(old))
		}
		w.files["data"] = old[:size]
		return false, unix.Truncate(path("data"), int64(size))
	case 7:
		w.files[name("dir", round)+"/"] = ""
		return true, unix.Mkdir(path(name("dir", round)), 0o755)
	case 8:
		text := fmt.Sprintf("written to kept in change %d", i)
		old := w.files[name("kept", round%7)]
		w.files[name("kept", round%7)] = text + old[min(len(old), len(text)):]
		return false, pwrite(path(name("kept", round%7)), 0, text, 0)
	default:
		delete(w.files, name("dir", round)+"/")
		return true, unix.Rmdir(path(name("dir", round)))
	}
}

func create(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return unix.Close(fd)
}

func pwrite(path string, flags int, text string, at int64) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if n, err := unix.Pwrite(fd, []byte(text), at); err != nil || n != len(text) {
		return fmt.Errorf("write %d bytes at %d of %s: %d, %w", len(text), at, path, n, err)
	}
	return nil
}

// digest names a state of a directory: two states have the same one if they
// have the same names and contents.
func digest(files map[string]string) [32]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %d ", name, len(files[name]))
		h.Write([]byte(files[name]))
	}
	return [32]byte(h.Sum(nil))
}

// read returns a directory's names and contents as a writer pictures them.
func read(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			files[e.Name()+"/"] = ""
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files[e.Name()] = string(text)
	}
	return files, nil
}
