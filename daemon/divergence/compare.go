package divergence

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// Comparison is what of one object is other in the replica today.
type Comparison struct {
	Path        Path     `json:"path"`
	Differences []string `json:"differences,omitempty"` // of attributes, or that it is not there
	Ranges      []Extent `json:"ranges,omitempty"`      // of the file, within what was kept, unless there is Text
	Text        string   `json:"text,omitempty"`        // of a text file: lines that were kept against those of today
}

// Extent is a range of a file.
type Extent struct {
	From int64 `json:"from"`
	To   int64 `json:"to"` // inclusive
}

// Equal reports whether nothing is other.
func (c *Comparison) Equal() bool {
	return len(c.Differences) == 0 && len(c.Ranges) == 0 && c.Text == ""
}

// maxText bounds a file that is compared line by line.
const maxText = 1 << 20

// Compare holds what was kept of the objects at path and below it against what
// stands in the replica under the same names.
func (a *Archive) Compare(replica *tree.Tree, path string) ([]Comparison, error) {
	var all []Comparison
	for _, r := range a.Objects {
		for _, p := range r.Paths {
			if !op.Within(string(p), path) {
				continue
			}
			c, err := a.compare(replica, r, p)
			if err != nil {
				return all, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func (a *Archive) compare(replica *tree.Tree, r *Relic, path Path) (Comparison, error) {
	c := Comparison{Path: path}
	now, _, err := replica.Describe(string(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		c.Differences = []string{"is not in the replica"}
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c.Differences = tree.Differences(r.put(string(path)), now, "the replica has")
	if len(r.Ranges) == 0 || now.Attr.Mode&unix.S_IFMT != unix.S_IFREG {
		return c, nil
	}
	if r.Size() <= maxText && now.Attr.Size <= maxText {
		old, err := a.before(replica, r, string(path))
		if err != nil {
			return c, err
		}
		is, err := content(replica, string(path), 0, now.Attr.Size)
		if err != nil {
			return c, err
		}
		if isText(old) && isText(is) {
			c.Text = unified(lines(old), lines(is))
			return c, nil
		}
	}
	c.Ranges, err = a.ranges(replica, r, string(path))
	return c, err
}

// before is a file as it was, with what was not kept as it is today.
func (a *Archive) before(replica *tree.Tree, r *Relic, path string) ([]byte, error) {
	old := make([]byte, r.Size())
	for _, gap := range r.missing() {
		is, err := content(replica, path, gap.from, gap.to-gap.from)
		if err != nil {
			return nil, err
		}
		copy(old[gap.from:gap.to], is)
	}
	err := a.contents(r, func(s Stored, content []byte) error {
		part := old[s.Off : s.Off+s.Len]
		clear(part)
		copy(part, content)
		return nil
	})
	return old, err
}

// content reads a range of a file of the replica, with zeros for its holes and
// behind its end.
func content(replica *tree.Tree, path string, off, n int64) ([]byte, error) {
	is := make([]byte, n)
	err := replica.PutRange(path, off, n, func(o *op.Op) error {
		if o.Kind == op.Write {
			copy(is[o.Off-off:], o.Data)
		}
		return nil
	})
	return is, err
}

// chunk is how much of a hole is compared at a time.
const chunk = 1 << 20

// ranges returns where what was kept is other today: of each range that was kept
// from the first such byte to the last.
func (a *Archive) ranges(replica *tree.Tree, r *Relic, path string) ([]Extent, error) {
	var found spans
	err := a.contents(r, func(s Stored, kept []byte) error {
		for at := s.Off; at < s.Off+s.Len; at += chunk {
			n := min(chunk, s.Off+s.Len-at)
			is, err := content(replica, path, at, n)
			if err != nil {
				return err
			}
			was := make([]byte, n)
			if kept != nil {
				was = kept[at-s.Off : at-s.Off+n]
			}
			if from, to := differ(was, is); from < to {
				found.add(span{at + from, at + to})
			}
		}
		return nil
	})
	var all []Extent
	for _, s := range found {
		all = append(all, Extent{s.from, s.to - 1})
	}
	return all, err
}

// differ returns from where to where two of the same length differ.
func differ(a, b []byte) (from, to int64) {
	if bytes.Equal(a, b) {
		return 0, 0
	}
	first, last := 0, len(a)
	for a[first] == b[first] {
		first++
	}
	for a[last-1] == b[last-1] {
		last--
	}
	return int64(first), int64(last)
}

// isText reports whether lines of b are something to look at.
func isText(b []byte) bool {
	const longest = 2000
	for line := range bytes.Lines(b) {
		if len(line) > longest {
			return false
		}
	}
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// lines splits a text. The last one lacks its end if the text does.
func lines(b []byte) []string { return strings.SplitAfter(string(b), "\n") }
