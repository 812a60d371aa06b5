// Package power checks what is left after power cuts: nodes run on drives with a
// volatile cache (package disk), writers make changes and barriers under the
// primary's mount, and some of the nodes lose their power at a random instant.
// Whatever a barrier was acknowledged for must be on every drive of the in-sync
// set, and whatever else is there must have been written.
package power

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	recordSize = 100 // of a record of the log
	pageSize   = 4096
	pages      = 24
	sector     = 512
	wholeSize  = 20_000 // of the file that is replaced
)

// writer makes changes in a directory of its own and remembers, of each thing
// in it, what was written and what a barrier has made firm.
//
// Its files are open in its own thread alone: a process that is started
// meanwhile would inherit them, and its exec(2), which closes them, would wait
// for the mirrors.
type writer struct {
	name   string // of the directory
	path   string
	random *rand.Rand
	log    int // appended to
	data   int // written in place
	dir    int

	mu       sync.Mutex // guards promises, which only the writer changes
	promises promises
}

// promises is what a directory may and must hold.
type promises struct {
	records, firmRecords uint64
	// versions of each page: the newest written, and the oldest that may be there.
	newest, oldest [pages]uint64
	whole, firm    uint64 // versions of the file that is replaced
	names          map[string]standing
}

// standing says whether a name must be there.
type standing uint8

const (
	perhaps standing = iota
	there
	gone
)

func newWriter(mount, name string, random *rand.Rand) *writer {
	return &writer{
		name: name, path: filepath.Join(mount, name), random: random,
		promises: promises{names: map[string]standing{}},
	}
}

// run makes changes until ctx ends or one of them fails. ready is called when
// there is something to check. It takes its goroutine's thread with it.
func (w *writer) run(ctx context.Context, ready func()) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// /proc/self is this thread's: it must keep the process's descriptors.
		defer runtime.UnlockOSThread()
		ended := make(chan error)
		go func() { ended <- w.run(ctx, ready) }()
		return <-ended
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return fmt.Errorf("unshare descriptors: %w", err)
	}
	if err := w.begin(); err != nil {
		return fmt.Errorf("begin to write in %s: %w", w.path, err)
	}
	defer func() { unix.Close(w.log); unix.Close(w.data); unix.Close(w.dir) }()
	ready()
	for ctx.Err() == nil {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// begin makes the directory and what is always in it, durably.
func (w *writer) begin() (err error) {
	if err := unix.Mkdir(w.path, 0o755); err != nil {
		return err
	}
	if w.log, err = create(w.path+"/log", unix.O_APPEND); err != nil {
		return err
	}
	if w.data, err = create(w.path+"/data", 0); err != nil {
		return err
	}
	if _, err := unix.Pwrite(w.data, make([]byte, pages*pageSize), 0); err != nil {
		return err
	}
	if w.dir, err = unix.Open(w.path, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	above, err := unix.Open(filepath.Dir(w.path), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(above)
	return errors.Join(unix.Fsync(w.log), unix.Fsync(w.data), unix.Fsync(w.dir), unix.Fsync(above))
}

func create(path string, flags int) (int, error) {
	return unix.Open(path, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|flags, 0o644)
}

// held returns the promises as they stand.
func (w *writer) held() promises {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.promises
	p.names = maps.Clone(p.names)
	return p
}

// note changes the promises.
func (w *writer) note(change func(p *promises)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.promises)
}

// step makes one change or barrier. What a call may do is noted before it, what
// it has promised after it.
func (w *writer) step() error {
	p := w.held()
	switch k := w.random.IntN(40); {
	case k < 12:
		w.note(func(p *promises) { p.records++ })
		_, err := unix.Write(w.log, record(p.records))
		return err
	case k < 30:
		at := w.random.IntN(pages)
		w.note(func(p *promises) { p.newest[at]++ })
		_, err := unix.Pwrite(w.data, page(at, p.newest[at]+1), int64(at)*pageSize)
		return err
	case k < 32:
		if err := unix.Fsync(w.log); err != nil {
			return err
		}
		w.note(func(now *promises) { now.firmRecords = p.records })
	case k < 34:
		if err := unix.Fsync(w.data); err != nil {
			return err
		}
		w.note(func(now *promises) { now.oldest = p.newest })
	case k < 37:
		return w.replace(p.whole + 1)
	case k < 39:
		return w.change(fmt.Sprintf("made-%d", len(p.names)), there, func(path string) error { return unix.Mkdir(path, 0o755) })
	default:
		for _, name := range slices.Sorted(maps.Keys(p.names)) {
			if p.names[name] == there {
				return w.change(name, gone, unix.Rmdir)
			}
		}
	}
	return nil
}

// replace puts a new file in the place of the old one, as editors and databases
// do.
func (w *writer) replace(version uint64) error {
	w.note(func(p *promises) { p.whole = version })
	made, place := w.path+"/whole.new", w.path+"/whole"
	fd, err := create(made, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, whole(version)); err != nil {
		return err
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	if err := unix.Rename(made, place); err != nil {
		return err
	}
	if err := unix.Fsync(w.dir); err != nil {
		return err
	}
	w.note(func(p *promises) { p.firm = version })
	return nil
}

// change makes or removes a name.
func (w *writer) change(name string, to standing, call func(path string) error) error {
	w.note(func(p *promises) { p.names[name] = perhaps })
	if err := call(filepath.Join(w.path, name)); err != nil {
		return err
	}
	if err := unix.Fsync(w.dir); err != nil {
		return err
	}
	w.note(func(p *promises) { p.names[name] = to })
	return nil
}

func record(n uint64) []byte {
	text := fmt.Sprintf("record %d ", n)
	return []byte(text + strings.Repeat(".", recordSize-1-len(text)) + "\n")
}

// page says in each sector which page and version it belongs to.
func page(at int, version uint64) []byte {
	var s [sector]byte
	binary.LittleEndian.PutUint64(s[:], version)
	binary.LittleEndian.PutUint64(s[8:], uint64(at))
	copy(s[16:], bytes.Repeat([]byte{byte(version)}, sector-16))
	return bytes.Repeat(s[:], pageSize/sector)
}

func whole(version uint64) []byte {
	text := fmt.Sprintf("version %d ", version)
	return []byte(strings.Repeat(text, wholeSize/len(text)+1))[:wholeSize]
}

// check reads a writer's directory in a replica and returns what is wrong with
// it after a power cut.
func (p *promises) check(dir string) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(dir+": "+format, args...)) }
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		complain("%v", err)
	}
	n := uint64(0)
	for ; uint64(len(log)) >= (n+1)*recordSize && bytes.Equal(log[n*recordSize:(n+1)*recordSize], record(n)); n++ {
	}
	if n < p.firmRecords {
		complain("%d records are there, %d were acknowledged as durable", n, p.firmRecords)
	}
	if uint64(len(log)) > p.records*recordSize {
		complain("a log of %d bytes, and %d records were written", len(log), p.records)
	}
	data, err := os.ReadFile(filepath.Join(dir, "data"))
	if err != nil || len(data) != pages*pageSize {
		complain("data has %d bytes, %v", len(data), err)
		data = nil
	}
	for off := 0; off < len(data); off += sector {
		at, got := off/pageSize, data[off:off+sector]
		version := binary.LittleEndian.Uint64(got)
		if version < p.oldest[at] || version > p.newest[at] {
			complain("sector %d of page %d has version %d; %d to %d may be there", off%pageSize/sector, at, version, p.oldest[at], p.newest[at])
		} else if version > 0 && !bytes.Equal(got, page(at, version)[:sector]) {
			complain("sector %d of page %d holds what nobody has written", off%pageSize/sector, at)
		}
	}
	p.checkWhole(dir, complain)
	for name, must := range p.names {
		_, err := os.Stat(filepath.Join(dir, name))
		if must == there && err != nil {
			complain("%v, and its making was acknowledged as durable", err)
		}
		if must == gone && !errors.Is(err, os.ErrNotExist) {
			complain("%s is there (%v), and its removal was acknowledged as durable", name, err)
		}
	}
	return wrong
}

func (p *promises) checkWhole(dir string, complain func(string, ...any)) {
	got, err := os.ReadFile(filepath.Join(dir, "whole"))
	if errors.Is(err, os.ErrNotExist) && p.firm == 0 {
		return
	}
	if err != nil {
		complain("%v, and version %d was acknowledged as durable", err, p.firm)
		return
	}
	for v := max(p.firm, 1); v <= p.whole; v++ {
		if bytes.Equal(got, whole(v)) {
			return
		}
	}
	complain("whole begins with %q and has %d bytes: not a version from %d to %d", got[:min(len(got), 20)], len(got), p.firm, p.whole)
}
