package divergence

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LimitError says that what has to be kept does not fit: nothing is overwritten
// until there is room.
type LimitError struct {
	Path        string // of what did not fit
	Replica     string
	Limit, Used int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("divergence_limit: what only this node may have of %q does not fit: %d bytes are allowed and %d are kept; raise divergence_limit, or export and drop older divergences (`standbyfs divergence list %s`)",
		e.Path, e.Limit, e.Used, e.Replica)
}

// batch is what is being kept: written, and not yet synced. Its files are open
// from the first item to flush or abandon.
type batch struct {
	stateDir string
	head     Header
	limit    int64
	sync     func(*os.File) error
	begun    func(id string)

	dir   string // of the divergence; "" before there is anything in it
	data  *os.File
	start int64  // where data ended before this batch
	end   int64  // where it ends now
	lines []byte // of the manifest, not yet written
	used  int64  // by all divergences, as far as is known: others may drop some
}

// ready opens the files, and begins the divergence where there is none: a node
// that has nothing of its own leaves no trace.
func (b *batch) ready() error {
	if b.data != nil {
		return nil
	}
	if b.dir == "" {
		b.head.Began = time.Now().UTC()
		dir, err := makeHome(b.stateDir, b.head)
		if err != nil {
			return err
		}
		b.dir, b.end = dir, 0
		b.begun(filepath.Base(dir))
	}
	f, err := os.OpenFile(filepath.Join(b.dir, dataFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		b.dir, b.start, b.end = "", 0, 0
		return errDropped
	}
	if err != nil {
		return fmt.Errorf("keep in %s: %w", b.dir, err)
	}
	b.data, b.start = f, b.end
	return nil
}

var errDropped = errors.New("the divergence was dropped while the node kept something in it")

// reserve makes sure that n more bytes for path are within the limit.
func (b *batch) reserve(path string, n int64) error {
	if b.used+n > b.limit {
		_, used, err := Kept(b.stateDir)
		if err != nil {
			return err
		}
		if b.used = used + int64(len(b.lines)); b.used+n > b.limit {
			return &LimitError{Path: path, Limit: b.limit, Used: b.used}
		}
	}
	b.used += n
	return nil
}

// add notes an item.
func (b *batch) add(item *Item) error {
	if err := b.ready(); err != nil {
		return err
	}
	item.When = time.Now().UTC().Truncate(time.Millisecond)
	before := len(b.lines)
	lines, err := appendLine(b.lines, item)
	if err != nil {
		return err
	}
	if err := b.reserve(string(item.Path), int64(len(lines)-before)); err != nil {
		return err
	}
	b.lines = lines
	// A tree that goes may have more names than memory has room for.
	if len(b.lines) > 1<<20 {
		return b.flush()
	}
	return nil
}

// store writes a range's bytes and notes them.
func (b *batch) store(item Item, off int64, content []byte) error {
	if err := b.ready(); err != nil {
		return err
	}
	if err := b.reserve(string(item.Path), int64(len(content))); err != nil {
		return err
	}
	if _, err := b.data.WriteAt(content, b.end); err != nil {
		return fmt.Errorf("keep %q: %w", string(item.Path), err)
	}
	item.What, item.Off, item.Len, item.At = WhatData, off, int64(len(content)), b.end
	item.CRC = crc32.Checksum(content, castagnoli)
	b.end += item.Len
	return b.add(&item)
}

// pending reports whether there is something that is not on stable storage.
func (b *batch) pending() bool { return len(b.lines) > 0 || b.end > b.start }

// flush returns when all that was added is on stable storage: first the data,
// then the lines that say so.
func (b *batch) flush() error {
	if b.data == nil {
		return nil
	}
	err := b.sync(b.data)
	if err == nil {
		err = b.writeLines()
	}
	err = errors.Join(err, b.data.Close())
	b.data, b.start = nil, b.end
	if err != nil {
		return fmt.Errorf("keep in %s: %w", b.dir, err)
	}
	return nil
}

func (b *batch) writeLines() error {
	f, err := os.OpenFile(filepath.Join(b.dir, manifestFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		_, err = f.Write(b.lines)
	}
	if err == nil {
		err = b.sync(f)
	}
	if err != nil && st != nil {
		// They can be read, and are perhaps not on the disk: no later sync tells, and
		// the next keeper would take what they name for kept (guarantee 8).
		err = errors.Join(err, f.Truncate(st.Size()))
	}
	b.lines = b.lines[:0]
	return errors.Join(err, f.Close())
}

// abandon gives up what is not on stable storage. What of it has been written
// is taken back where that is possible, since a full disk is a likely reason;
// and it does no harm where it stays.
func (b *batch) abandon() {
	b.lines = b.lines[:0]
	if b.data != nil {
		_ = b.data.Truncate(b.start)
		b.data.Close()
		b.data = nil
	}
	b.end = b.start
}

// resume goes on with a divergence that is there already: what is torn at the
// end of its files belongs to ops that were never applied, and goes.
func (b *batch) resume(dir string, a *Archive) error {
	b.dir, b.end, b.start = dir, a.end, a.end
	for name, size := range map[string]int64{dataFile: a.end, manifestFile: a.whole} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("go on with divergence %s: %w", dir, err)
		}
		st, err := f.Stat()
		if err == nil && st.Size() > size {
			if err = f.Truncate(size); err == nil {
				err = f.Sync()
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("go on with divergence %s: %w", dir, err)
		}
	}
	return nil
}
