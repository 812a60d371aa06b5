package mirror

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

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

// A mirror that had to make a file anew says so. If that is lost with the session,
// the one that goes on from there sends all of it.
func TestMadeAnewAndNotHeardOf(t *testing.T) {
	for _, other := range []string{"", "g"} {
		r := newPair(t)
		for _, o := range movedFile("f") {
			must(t, r.do(o))
		}
		if other != "" {
			must(t, r.do(&op.Op{Kind: op.Link, Path: "f", Path2: other}))
		}
		r.lost = true
		r.resync([]region.Mark{{Path: "."}, {Path: "f", To: op.RegionSize}}, nil)
		for r.lost = false; r.wasCut; {
			r.wasCut = false
			r.Log.mu.Lock()
			applied := r.p.sent
			r.Log.mu.Unlock()
			if !r.p.resumeAt(applied) {
				t.Fatal("it cannot go on")
			}
			r.Log.mu.Lock()
			r.p.applied = applied
			r.Log.mu.Unlock()
			r.finish(&resync{p: r.p, log: r.Log, began: time.Now(), links: newLinks()}, nil)
		}
		r.equal()
	}
}
