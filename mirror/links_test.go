package mirror

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// TestLinks resyncs a part of the names of files that have several. All names
// are of the same files afterwards, none is cut off, and data that is level is
// not sent.
func TestLinks(t *testing.T) {
	time := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
	create := func(path string) *op.Op {
		return &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}, Dir: time.Mtime}
	}
	write := func(path string, what string) *op.Op {
		return &op.Op{Kind: op.Write, Path: path, Data: bytes.Repeat([]byte(what), 400_000/len(what)), Attr: time}
	}
	change := func(path string) *op.Op {
		return &op.Op{Kind: op.Write, Path: path, Data: []byte("changed"), Attr: time}
	}
	link := func(path, path2 string) *op.Op {
		return &op.Op{Kind: op.Link, Path: path, Path2: path2, Dir2: time.Mtime}
	}
	unlink := func(path string) *op.Op { return &op.Op{Kind: op.Unlink, Path: path, Dir: time.Mtime} }
	mkdir := func(path string) *op.Op {
		return &op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFDIR | 0o755, Mtime: time.Mtime}, Dir: time.Mtime}
	}
	entries := func(path string) region.Mark { return region.Mark{Path: path, Scope: region.Entries} }
	both := []*op.Op{mkdir("d"), mkdir("e"), create("a"), write("a", "same"), create("d/lone"), write("d/lone", "lone"), link("a", "d/b")}
	for _, c := range []struct {
		name           string
		primary, there []*op.Op // what only one of them has
		outside        string   // a name of this file outside of the primary's tree
		marks          []region.Mark
		live           []*op.Op
		sent           int // at most this many bytes of data
	}{
		{"a change of one name", []*op.Op{change("a")}, nil, "", []region.Mark{{Path: "a", To: 1}}, nil, op.RegionSize},
		{"a new name of a file with names elsewhere", []*op.Op{link("a", "e/c")}, nil, "", []region.Mark{entries("e")}, nil, 0},
		{"a new name while it is looked at", []*op.Op{change("a")}, nil, "", []region.Mark{{Path: "a", To: 1}}, []*op.Op{link("a", "e/c")}, 400_000},
		{"a new name that comes first", []*op.Op{link("d/lone", "aa")}, nil, "", []region.Mark{entries(".")}, nil, 0},
		{"a name less", nil, []*op.Op{link("a", "e/c")}, "", []region.Mark{entries("e")}, nil, 0},
		{"a name that is of another file here", []*op.Op{link("d/lone", "e/c")}, []*op.Op{link("a", "e/c")}, "", []region.Mark{entries("e")}, nil, 0},
		{"a file of its own here", []*op.Op{create("e/c"), write("e/c", "same")}, []*op.Op{link("a", "e/c")}, "", []region.Mark{entries("e")}, nil, 410_000},
		{
			// The numbers are right, and still the names are of the wrong files.
			"exchanged names of equal files",
			[]*op.Op{create("x"), create("y"), link("x", "e/x"), link("y", "e/y")},
			[]*op.Op{create("x"), create("y"), link("y", "e/x"), link("x", "e/y")}, "",
			[]region.Mark{entries("e"), {Path: "."}}, nil, 0,
		},
		{
			"a name too many that nobody marked",
			[]*op.Op{create("e/c"), write("e/c", "same"), change("d/b")}, []*op.Op{link("a", "e/c")}, "",
			[]region.Mark{{Path: "d/b", To: region.End}, entries("e")}, nil, 480_000,
		},
		{"a name outside", []*op.Op{change("d/b")}, nil, "a", []region.Mark{{Path: "a", To: 1}, entries("d")}, nil, op.RegionSize},
		{"a lone file with a name outside", []*op.Op{change("d/lone")}, nil, "d/lone", []region.Mark{{Path: "d/lone", To: 1}}, nil, op.RegionSize},
		{"everything", []*op.Op{change("a"), unlink("d/b"), link("d/lone", "d/b")}, nil, "", []region.Mark{region.Everything}, nil, 900_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			for _, o := range both {
				r.both(o)
			}
			for _, o := range []string{"d/lone", "a"} {
				r.both(&op.Op{Kind: op.SetAttr, Path: o, Attr: time})
			}
			r.both(&op.Op{Kind: op.SetAttr, Path: ".", Attr: time})
			for _, o := range c.primary {
				if err := r.a.Apply(o); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range c.there {
				if err := r.b.Apply(o); err != nil {
					t.Fatal(err)
				}
			}
			if c.outside != "" {
				if err := os.Link(filepath.Join(r.a.Dir(), c.outside), filepath.Join(t.TempDir(), "outside")); err != nil {
					t.Fatal(err)
				}
			}
			got := r.resync(c.marks, func() {
				for _, o := range c.live {
					if err := r.live(o); err != nil {
						t.Error(err)
					}
				}
			})
			differ := r.differences()
			if c.outside != "" { // a name that the mirror cannot have
				differ = slices.DeleteFunc(differ, func(d string) bool { return bytes.Contains([]byte(d), []byte(" names, the other has ")) })
			}
			if len(differ) > 0 {
				t.Errorf("after the resync: %q", differ)
			}
			if got.Sent > uint64(c.sent+20_000) {
				t.Errorf("%d bytes were sent", got.Sent)
			}
		})
	}
}
