package divergence

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/tree"
)

// Archive is what is kept of one divergence.
type Archive struct {
	Header
	Closed *Closed `json:"closed,omitempty"` // nil while it is open
	// Torn: the last line is not whole. It belongs to an op that was never
	// applied. Damaged counts other lines that cannot be read.
	Torn    bool     `json:"torn,omitempty"`
	Damaged int      `json:"damaged,omitempty"`
	Objects []*Relic `json:"objects"` // in the order in which they were first kept

	dir   string
	whole int64 // where the last line that can be read ends
	end   int64 // where the data that lines name ends
}

// Relic is all that is kept of one object.
type Relic struct {
	Paths  []Path  `json:"paths"`
	Inode  uint64  `json:"inode"`
	Device uint64  `json:"device,omitempty"`
	Object *Object `json:"object,omitempty"` // nil if its line is damaged
	// Ranges are in the order in which they were kept: of bytes that are in two
	// of them the first counts.
	Ranges []Stored  `json:"ranges,omitempty"`
	Gone   bool      `json:"gone"` // all of it was about to go
	Why    string    `json:"why"`
	When   time.Time `json:"when"`
}

// Stored is a range of a file that is kept.
type Stored struct {
	Off  int64  `json:"off"`
	Len  int64  `json:"len"`
	Hole bool   `json:"hole,omitempty"`
	At   int64  `json:"at,omitempty"`
	CRC  uint32 `json:"crc,omitempty"`
}

// Kept says in words what of the object is kept.
func (r *Relic) Kept() string {
	if r.Object != nil && !r.Object.Regular() {
		return "all"
	}
	var bytes, holes int64
	for _, s := range r.Ranges {
		if s.Hole {
			holes += s.Len
		} else {
			bytes += s.Len
		}
	}
	switch {
	case len(r.missing()) == 0:
		return "all"
	case bytes+holes == 0:
		return "attributes"
	}
	return fmt.Sprintf("%d bytes in %d ranges", bytes+holes, len(r.Ranges))
}

// Regular reports whether it is a regular file.
func (o *Object) Regular() bool { return o.Mode&unix.S_IFMT == unix.S_IFREG }

// Directory reports whether it is a directory.
func (o *Object) Directory() bool { return o.Mode&unix.S_IFMT == unix.S_IFDIR }

// Size is the file's, as far as is known.
func (r *Relic) Size() int64 {
	if r.Object != nil {
		return r.Object.Size
	}
	var size int64
	for _, s := range r.Ranges {
		size = max(size, s.Off+s.Len)
	}
	return size
}

// missing returns the parts of the file that are not kept.
func (r *Relic) missing() []span {
	if r.Object != nil && !r.Object.Regular() {
		return nil
	}
	var have spans
	for _, s := range r.Ranges {
		have.add(span{s.Off, s.Off + s.Len})
	}
	return have.without(span{0, r.Size()})
}

var (
	// ErrNone says that there is no such divergence.
	ErrNone = errors.New("there is no such divergence")
	// ErrOpen says that something may still be added to a divergence.
	ErrOpen = errors.New("is open")
)

// List returns the divergences of a node in which something is kept, oldest
// first.
func List(stateDir string) ([]*Archive, error) {
	all, err := ids(stateDir)
	if err != nil {
		return nil, err
	}
	var found []*Archive
	for _, id := range all {
		dir := filepath.Join(homeOf(stateDir), id)
		a, err := readDir(dir)
		if err != nil && vanished(dir) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(a.Objects) > 0 || a.Damaged > 0 {
			found = append(found, a)
		}
	}
	return found, nil
}

// Read returns the divergence with an ID, of which the beginning is enough
// where only one begins so. The error wraps ErrNone if there is none.
func Read(stateDir, id string) (*Archive, error) {
	id, err := complete(stateDir, id)
	if err != nil {
		return nil, err
	}
	return readDir(filepath.Join(homeOf(stateDir), id))
}

func complete(stateDir, id string) (string, error) {
	all, err := ids(stateDir)
	if err != nil {
		return "", err
	}
	var like []string
	for _, one := range all {
		if one == id {
			return id, nil
		}
		if id != "" && strings.HasPrefix(one, id) {
			like = append(like, one)
		}
	}
	switch len(like) {
	case 0:
		return "", fmt.Errorf("divergence %q: %w: `standbyfs divergence list` has all", id, ErrNone)
	case 1:
		return like[0], nil
	}
	return "", fmt.Errorf("divergence %q: %w: %s begin so: give one in full", id, ErrNone, strings.Join(like, " and "))
}

// Drop removes a divergence. One that is open is refused unless forced: it may
// be all that is left of what the node is about to lose.
func Drop(stateDir, id string, force bool) (string, error) {
	id, err := complete(stateDir, id)
	if err != nil {
		return "", err
	}
	home := homeOf(stateDir)
	dir := filepath.Join(home, id)
	if _, closed, err := readHead(dir); !force && (err != nil || closed == nil) {
		if err == nil {
			err = fmt.Errorf("divergence %s %w: the node has not joined again and may keep more; export it first, and then give --force", id, ErrOpen)
		}
		return "", err
	}
	away := filepath.Join(home, hidden+id)
	if err := os.RemoveAll(away); err != nil {
		return "", fmt.Errorf("drop divergence %s: %w", id, err)
	}
	if err := os.Rename(dir, away); err != nil {
		return "", fmt.Errorf("drop divergence %s: %w", id, err)
	}
	if err := errors.Join(os.RemoveAll(away), tree.SyncDir(home)); err != nil {
		return "", fmt.Errorf("drop divergence %s: %w", id, err)
	}
	return id, nil
}

func readDir(dir string) (*Archive, error) {
	a := &Archive{dir: dir}
	var err error
	if a.Header, a.Closed, err = readHead(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, manifestFile))
	if err == nil {
		err = a.read(f)
		f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("read divergence %s: %w", a.ID, err)
	}
	return a, nil
}

// read takes the lines of the manifest. What cannot be read at the end is torn.
func (a *Archive) read(manifest io.Reader) error {
	type inode struct{ device, number uint64 }
	objects := make(map[inode]*Relic)
	lines := bufio.NewReaderSize(manifest, 64<<10)
	at, unread := int64(0), 0
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if len(line) == 0 {
			a.Torn = unread > 0
			return nil
		}
		at += int64(len(line))
		item, bad := parseLine(line)
		if bad != nil {
			unread++
			continue
		}
		a.Damaged, unread = a.Damaged+unread, 0
		a.whole = at
		key := inode{item.Device, item.Inode}
		r := objects[key]
		if r == nil {
			r = &Relic{Paths: []Path{item.Path}, Inode: item.Inode, Device: item.Device, Why: item.Why, When: item.When}
			objects[key] = r
			a.Objects = append(a.Objects, r)
		}
		if item.What == WhatData {
			a.end = max(a.end, item.At+item.Len)
		}
		if r.take(item); r.Gone {
			delete(objects, key) // its number may become another one's
		}
	}
}

// take adds an item of the object.
func (r *Relic) take(item *Item) {
	switch item.What {
	case WhatObject:
		if r.Object == nil {
			r.Object = item.Object
		}
		for _, path := range r.Paths {
			if path == item.Path {
				return
			}
		}
		r.Paths = append(r.Paths, item.Path)
	case WhatData, WhatHole:
		r.Ranges = append(r.Ranges, Stored{Off: item.Off, Len: item.Len, Hole: item.What == WhatHole, At: item.At, CRC: item.CRC})
	case WhatGone:
		r.Gone = true
	}
}

// contents calls fn with each range of a file, the first one last, since it
// counts where two have the same bytes. content is nil for a hole, and valid
// until fn returns.
func (a *Archive) contents(r *Relic, fn func(s Stored, content []byte) error) error {
	f, err := os.Open(filepath.Join(a.dir, dataFile))
	if err != nil {
		return fmt.Errorf("read divergence %s: %w", a.ID, err)
	}
	defer f.Close()
	var buf []byte
	for i := len(r.Ranges) - 1; i >= 0; i-- {
		s := r.Ranges[i]
		if s.Hole {
			if err := fn(s, nil); err != nil {
				return err
			}
			continue
		}
		if int64(len(buf)) < s.Len {
			buf = make([]byte, s.Len)
		}
		content := buf[:s.Len]
		_, err := f.ReadAt(content, s.At)
		if err == nil && crc32.Checksum(content, castagnoli) != s.CRC {
			err = errDamaged
		}
		if err != nil {
			return fmt.Errorf("read divergence %s: %q, bytes %d-%d: %w", a.ID, string(r.Paths[0]), s.Off, s.Off+s.Len-1, err)
		}
		if err := fn(s, content); err != nil {
			return err
		}
	}
	return nil
}

// Totals of what is kept.
type Totals struct {
	Files       int   `json:"files"` // all but directories
	Directories int   `json:"directories"`
	Bytes       int64 `json:"bytes"` // of contents
}

// Totals counts.
func (a *Archive) Totals() Totals {
	var t Totals
	for _, r := range a.Objects {
		if r.Object != nil && r.Object.Directory() {
			t.Directories++
		} else {
			t.Files++
		}
		for _, s := range r.Ranges {
			if !s.Hole {
				t.Bytes += s.Len
			}
		}
	}
	return t
}
