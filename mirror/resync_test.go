package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

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

// TestResyncOfMarks makes changes that the mirror does not hear of, and gives
// the resync just their regions while others are made. That is enough.
func TestResyncOfMarks(t *testing.T) {
	for round := range 30 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %#x", seed)
			r := newPair(t)
			c := &changes{Rand: rand.New(rand.NewPCG(seed, 0))}
			c.seed(r)
			var marks []region.Mark
			for range 1 + c.IntN(60) {
				o, m := c.next(r)
				if err := r.do(o); err != nil {
					t.Fatalf("%v: %v", o, err)
				}
				marks = append(marks, m...)
			}
			r.resync(marks, func() {
				for range c.IntN(100) {
					o, _ := c.next(r)
					if err := r.live(o); err != nil {
						t.Errorf("%v: %v", o, err)
						return
					}
				}
			})
			r.equal()
		})
	}
}

// TestNothingElseIsSent changes one region in each of some files among many:
// what goes over the wire is about these.
func TestNothingElseIsSent(t *testing.T) {
	r := newPair(t)
	create := func(path string, n int) {
		r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
		r.both(&op.Op{Kind: op.Write, Path: path, Data: bytes.Repeat([]byte("same"), n/4), Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}})
	}
	for i := range 20 {
		create(fmt.Sprintf("f%d", i), 30*op.RegionSize)
	}
	r.both(&op.Op{Kind: op.SetAttr, Path: ".", Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}})
	write := &op.Op{Kind: op.Write, Path: "f7", Off: 17*op.RegionSize + 5, Data: []byte("changed"), Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 2e9}}}
	if err := r.do(write); err != nil {
		t.Fatal(err)
	}
	got := r.resync([]region.Mark{{Path: "f7", From: write.Off, To: write.Off + 7}}, nil)
	r.equal()
	if got.Total != op.RegionSize || got.Done != op.RegionSize || got.Paths == 0 {
		t.Errorf("progress %+v: want just one region", got)
	}
	if got.Sent > op.RegionSize+1000 {
		t.Errorf("%d bytes sent for one region", got.Sent)
	}
	for _, o := range r.sent {
		if o.Path != "f7" || o.Kind == op.Write && (o.Off != 17*op.RegionSize) {
			t.Errorf("%v was sent", o)
		}
	}
}

// TestNewFileIsSentOnce has a large file that the mirror has nothing of.
func TestNewFileIsSentOnce(t *testing.T) {
	const size = 100 * op.RegionSize
	for _, m := range []region.Mark{{Path: ".", Scope: region.Entries}, {Path: ".", Scope: region.Children}, {Path: "f", From: 5, To: region.End}} {
		r := newPair(t)
		for _, o := range []*op.Op{
			{Kind: op.Create, Path: "f", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}},
			{Kind: op.Write, Path: "f", Data: bytes.Repeat([]byte("data"), size/4)},
		} {
			if err := r.do(o); err != nil {
				t.Fatal(err)
			}
		}
		r.both(&op.Op{Kind: op.SetAttr, Path: ".", Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}})
		got := r.resync([]region.Mark{m}, nil)
		r.equal()
		if got.Sent > size+10_000 {
			t.Errorf("%v: %d bytes sent for %d", m, got.Sent, size)
		}
	}
}

// TestManySmallFiles compares a directory of equal small files, a few of which
// differ: an equal one costs its name and one digest.
func TestManySmallFiles(t *testing.T) {
	const files = 1000
	time := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
	for _, m := range []region.Mark{{Path: "d", Scope: region.Entries}, {Path: "d", Scope: region.Children}, region.Everything} {
		r := newPair(t)
		r.both(&op.Op{Kind: op.Mkdir, Path: "d", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
		for i := range files {
			path := fmt.Sprintf("d/name%04d", i)
			r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
			r.both(&op.Op{Kind: op.Write, Path: path, Data: []byte(path), Attr: time})
		}
		for _, dir := range []string{"d", "."} {
			r.both(&op.Op{Kind: op.SetAttr, Path: dir, Attr: time})
		}
		for _, path := range []string{"d/name0000", "d/name0127", "d/name0128", "d/name0999"} {
			if err := r.do(&op.Op{Kind: op.Write, Path: path, Data: []byte("X"), Attr: time}); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range []*op.Op{
			{Kind: op.Unlink, Path: "d/name0500", Dir: time.Mtime},
			{Kind: op.Symlink, Path: "d/name0500", Data: []byte("elsewhere"), Attr: time, Dir: time.Mtime},
			{Kind: op.Unlink, Path: "d/name0600", Dir: time.Mtime},
		} {
			if err := r.do(o); err != nil {
				t.Fatal(err)
			}
		}
		got := r.resync([]region.Mark{m}, nil)
		r.equal()
		// Its name is in the list of names, too.
		if most := uint64(files*(2*11+tree.SurveySize) + 6*700); got.Sent > most {
			t.Errorf("%v: %d bytes sent, at most %d are needed", m, got.Sent, most)
		}
		if got.Paths > 20 {
			t.Errorf("%v: %d paths looked at by themselves", m, got.Paths)
		}
	}
}

// TestForgottenRegion is a test of TestResyncOfMarks: without the mark of a
// change the resync does not find it.
func TestForgottenRegion(t *testing.T) {
	r := newPair(t)
	c := &changes{Rand: rand.New(rand.NewPCG(1, 2))}
	c.seed(r)
	forgotten := 0
	for range 40 {
		o, marks := c.next(r)
		if err := r.do(o); err != nil {
			t.Fatalf("%v: %v", o, err)
		}
		changed := len(r.differences()) > 0
		r.resync(nil, nil)
		if changed && len(r.differences()) == 0 {
			t.Errorf("%v was found without its marks", o)
		}
		if changed {
			forgotten++
		}
		r.resync(marks, nil)
		r.equal()
	}
	if forgotten < 20 {
		t.Errorf("just %d changes made a difference", forgotten)
	}
}

// TestNotThereAtAll marks a part of what the mirror has nothing of, or nothing
// that it can keep: it gets all of it, and what is around it.
func TestNotThereAtAll(t *testing.T) {
	r := newPair(t)
	make := func(tr interface{ Apply(*op.Op) error }, o *op.Op) {
		t.Helper()
		if err := tr.Apply(o); err != nil {
			t.Fatal(err)
		}
	}
	dir := op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}
	file := op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}
	for _, path := range []string{"d", "d/e", "other"} {
		make(r.a, &op.Op{Kind: op.Mkdir, Path: path, Attr: dir})
	}
	for _, path := range []string{"d/e/f", "d/g", "file", "other/x"} {
		make(r.a, &op.Op{Kind: op.Create, Path: path, Attr: file})
		make(r.a, &op.Op{Kind: op.Write, Path: path, Data: bytes.Repeat([]byte(path), 1<<17)})
	}
	make(r.b, &op.Op{Kind: op.Mkdir, Path: "file", Attr: dir})
	make(r.b, &op.Op{Kind: op.Create, Path: "other", Attr: file})
	make(r.b, &op.Op{Kind: op.Mkdir, Path: "gone", Attr: dir})
	make(r.b, &op.Op{Kind: op.Create, Path: "gone/f", Attr: file})
	// On the primary a link where the mirror has a directory.
	make(r.a, &op.Op{Kind: op.Symlink, Path: "link", Data: []byte("other"), Attr: op.Attr{}})
	make(r.b, &op.Op{Kind: op.Mkdir, Path: "link", Attr: dir})
	make(r.b, &op.Op{Kind: op.Mkdir, Path: "link/d", Attr: dir})
	make(r.b, &op.Op{Kind: op.Create, Path: "link/d/f", Attr: file})
	r.resync([]region.Mark{
		{Path: "."}, {Path: "link"}, {Path: "link/d/f"}, {Path: "d/e/f", From: 5, To: 6}, {Path: "file", From: 3, To: 4}, {Path: "other", Scope: region.Entries},
		{Path: "gone/f"}, {Path: "gone/g/h", From: 1, To: 2},
	}, nil)
	r.equal()
}

// TestResyncBelowLink: what is pending lies below a name that is a symbolic link
// by now. It is gone, like what lies below a file.
func TestResyncBelowLink(t *testing.T) {
	r := newPair(t)
	when := op.Time{Sec: 1e9}
	for _, o := range []*op.Op{
		{Kind: op.Mkdir, Path: "d", Attr: op.Attr{Valid: op.AttrMtime, Mtime: when}, Dir: when},
		{Kind: op.Create, Path: "d/f", Attr: op.Attr{Valid: op.AttrMtime, Mtime: when}, Dir: when},
	} {
		r.both(o)
	}
	for _, o := range []*op.Op{
		{Kind: op.Unlink, Path: "d/f"},
		{Kind: op.Rmdir, Path: "d"},
		{Kind: op.Symlink, Path: "d", Data: []byte("nowhere"), Attr: op.Attr{Valid: op.AttrMtime, Mtime: when}, Dir: when},
	} {
		if err := r.do(o); err != nil {
			t.Fatal(err)
		}
	}
	r.resync([]region.Mark{{Path: "d/f"}, {Path: "d/f/g"}, {Path: op.Root, Scope: region.Entries}}, nil)
	r.equal()
}
