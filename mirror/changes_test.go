package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// changes makes random ops that can be applied, and says which regions they
// change.
type changes struct {
	*rand.Rand
	dirs, files []string
	n           int
}

func (c *changes) name() string {
	c.n++
	return op.JoinPath(pick(c.Rand, c.dirs), fmt.Sprintf("n%d", c.n))
}

// aliases marks all other names of a file that loses one: what was marked
// under that is not found there any more.
func (r *pair) aliases(path string) []region.Mark {
	st, err := r.a.Stat(path)
	if err != nil || st.Nlink < 2 {
		return nil
	}
	var marks []region.Mark
	err = r.a.Aliases(func(ino uint64) bool { return ino == st.Ino }, func(path string, _ uint64) error {
		marks = append(marks, region.Mark{Path: path, Scope: region.Tree})
		return nil
	})
	if err != nil {
		r.t.Error(err)
	}
	return marks
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// seed makes what both sides have to begin with.
func (c *changes) seed(r *pair) {
	c.dirs = []string{op.Root}
	for range 6 {
		path := c.name()
		r.both(&op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
		c.dirs = append(c.dirs, path)
	}
	for range 20 {
		path := c.name()
		r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
		r.both(&op.Op{Kind: op.Write, Path: path, Data: c.data(c.size())})
		c.files = append(c.files, path)
	}
	// The same times on both.
	for _, path := range slices.Concat(c.files, c.dirs) {
		r.both(&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}})
	}
	if differ := r.differences(); len(differ) > 0 {
		r.t.Fatalf("the trees differ to begin with: %q", differ)
	}
}

func (r *pair) both(o *op.Op) {
	r.t.Helper()
	if err := r.a.Apply(o); err != nil {
		r.t.Fatal(err)
	}
	if err := r.b.Apply(o); err != nil {
		r.t.Fatal(err)
	}
}

func (c *changes) size() int64 {
	return pick(c.Rand, []int64{0, 0, 1, 5000, op.RegionSize, op.RegionSize + 1, 5 * op.RegionSize, 40 * op.RegionSize})
}

func (c *changes) data(n int64) []byte {
	unit := binary.LittleEndian.AppendUint64(nil, c.Uint64())
	return bytes.Repeat(unit, int(n+7)/8)[:n]
}

// next returns a change and its regions. Times are the change's own, so that
// nothing that is forgotten is found by its time alone.
func (c *changes) next(r *pair) (*op.Op, []region.Mark) {
	size := r.size
	entries := func(path string) region.Mark {
		dir, _ := op.SplitPath(path)
		return region.Mark{Path: dir, Scope: region.Entries}
	}
	attr := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
	dirTime := op.Time{Sec: 1e9}
	switch c.IntN(12) {
	case 0:
		path := c.name()
		c.files = append(c.files, path)
		attr.Valid, attr.Mode = attr.Valid|op.AttrMode, unix.S_IFREG|0o600
		return &op.Op{Kind: op.Create, Path: path, Attr: attr, Dir: dirTime}, []region.Mark{entries(path)}
	case 1:
		path := c.name()
		c.dirs = append(c.dirs, path)
		attr.Valid, attr.Mode = attr.Valid|op.AttrMode, unix.S_IFDIR|0o700
		return &op.Op{Kind: op.Mkdir, Path: path, Attr: attr, Dir: dirTime}, []region.Mark{entries(path)}
	case 2:
		path := c.name()
		return &op.Op{Kind: op.Symlink, Path: path, Data: []byte(path), Attr: attr, Dir: dirTime}, []region.Mark{entries(path)}
	case 3:
		from, to := pick(c.Rand, c.files), c.name()
		if c.IntN(3) == 0 {
			to = pick(c.Rand, c.files)
		}
		if to != from {
			c.files = slices.DeleteFunc(c.files, func(f string) bool { return f == from })
		}
		if !slices.Contains(c.files, to) {
			c.files = append(c.files, to)
		}
		return &op.Op{Kind: op.Rename, Path: from, Path2: to, Dir: dirTime, Dir2: dirTime},
			append(append(r.aliases(from), r.aliases(to)...), entries(from), entries(to), region.Mark{Path: to, Scope: region.Tree})
	case 4:
		if len(c.files) < 5 {
			break
		}
		path := pick(c.Rand, c.files)
		c.files = slices.DeleteFunc(c.files, func(f string) bool { return f == path })
		return &op.Op{Kind: op.Unlink, Path: path, Dir: dirTime}, append(r.aliases(path), entries(path))
	case 5:
		path := pick(c.Rand, c.files)
		attr.Valid, attr.Mode, attr.Size = attr.Valid|op.AttrSize, 0, c.size()
		from := min(attr.Size, size(path))
		m := region.Mark{Path: path, From: from, To: region.End}
		if from <= op.RegionSize {
			m = entries(path) // what lies behind is a hole
		}
		return &op.Op{Kind: op.Truncate, Path: path, Attr: attr}, []region.Mark{m}
	case 6:
		path := pick(c.Rand, c.files)
		attr = op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | c.Uint32N(0o777)}
		return &op.Op{Kind: op.SetAttr, Path: path, Attr: attr}, []region.Mark{{Path: path}}
	case 7:
		path := pick(c.Rand, c.files)
		off, n := c.Int64N(20*op.RegionSize), 1+c.Int64N(2*op.RegionSize)
		return &op.Op{Kind: op.Fallocate, Path: path, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Off: off, Len: n, Attr: attr},
			[]region.Mark{{Path: path, From: off, To: off + n}}
	case 8:
		from, to := pick(c.Rand, c.files), c.name()
		c.files = append(c.files, to)
		return &op.Op{Kind: op.Link, Path: from, Path2: to, Dir2: dirTime}, []region.Mark{{Path: from}, entries(to)}
	case 9:
		from, to := pick(c.Rand, c.files), pick(c.Rand, c.files)
		n := size(from) / 2
		if from == to || n == 0 {
			break
		}
		st, err := r.a.Stat(from)
		if other, err2 := r.a.Stat(to); err != nil || err2 != nil || st.Ino == other.Ino {
			break
		}
		off := c.Int64N(4 * op.RegionSize)
		return &op.Op{Kind: op.CopyRange, Path: from, Path2: to, Off: n / 2, Off2: off, Len: n, Attr: attr},
			[]region.Mark{{Path: to, From: off, To: off + n}}
	}
	path := pick(c.Rand, c.files)
	off := c.Int64N(20 * op.RegionSize)
	o := &op.Op{Kind: op.Write, Path: path, Off: off, Data: c.data(1 + c.Int64N(op.RegionSize)), Attr: attr}
	m := region.Mark{Path: path, From: off, To: off + int64(len(o.Data))}
	if dir, _ := op.SplitPath(path); c.IntN(4) == 0 {
		m = region.Mark{Path: dir, Scope: region.Children}
	}
	return o, []region.Mark{m}
}

func (r *pair) size(path string) int64 {
	put, _, err := r.a.Describe(path)
	if err != nil {
		return 0
	}
	return put.Attr.Size
}
