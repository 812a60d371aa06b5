package divergence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

const region = op.RegionSize

func create(path string) *op.Op {
	return &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o100644}}
}

func mkdir(path string) *op.Op {
	return &op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o40755}}
}

func write(path string, off int64, data string) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte(data)}
}

func unlink(path string) *op.Op { return &op.Op{Kind: op.Unlink, Path: path} }

func rename(path, path2 string) *op.Op { return &op.Op{Kind: op.Rename, Path: path, Path2: path2} }

// has puts objects into the replica as they were before the divergence.
func (n *node) has(ops ...*op.Op) {
	n.t.Helper()
	for _, o := range ops {
		if err := n.tree.Apply(o); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) put(path string, change func(*op.Op)) *op.Op {
	n.t.Helper()
	o, _, err := n.tree.Describe(path)
	if err != nil {
		n.t.Fatal(err)
	}
	change(o)
	return o
}

// kept lists what is kept, in short.
func (n *node) kept() []string {
	n.t.Helper()
	all, err := List(n.state)
	if err != nil {
		n.t.Fatal(err)
	}
	var text []string
	for _, a := range all {
		for _, r := range a.Objects {
			var paths []string
			for _, p := range r.Paths {
				paths = append(paths, p.String())
			}
			line := strings.Join(paths, "=")
			for _, s := range r.Ranges {
				line += fmt.Sprintf(" %d+%d", s.Off, s.Len)
				if s.Hole {
					line += "h"
				}
			}
			if r.Gone {
				line += " gone"
			}
			text = append(text, line+" by "+r.Why)
		}
	}
	return text
}

// What each kind of op takes is kept, and nothing else.
func TestKinds(t *testing.T) {
	punch := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	for _, c := range []struct {
		name string
		do   func(n *node) []*op.Op
		want []string
	}{
		{"create", func(*node) []*op.Op { return []*op.Op{create("new"), write("new", 0, "x"), write("new", 0, "y")} }, nil},
		{"create in its way", func(*node) []*op.Op { return []*op.Op{create("small")} }, []string{"small 0+5 gone by create"}},
		{"mkdir in its way", func(*node) []*op.Op { return []*op.Op{mkdir("link")} }, []string{"link gone by mkdir"}},
		{"unlink", func(*node) []*op.Op { return []*op.Op{unlink("large")} }, []string{"large 0+4096 4096+61440h 65536+65536 131072+65536h 196608+4 gone by unlink"}},
		{"rmdir of a tree", func(*node) []*op.Op { return []*op.Op{{Kind: op.Rmdir, Path: "d"}} }, []string{`d gone by rmdir`, `d/\xff 0+2 gone by rmdir`, "d/e gone by rmdir"}},
		{"one of two names", func(*node) []*op.Op { return []*op.Op{unlink("one")} }, []string{"one by unlink"}},
		{"both names", func(*node) []*op.Op { return []*op.Op{unlink("one"), unlink("two")} }, []string{"one=two 0+4 gone by unlink"}},
		{"both at once", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.PutNames, Path: ".", Path2: "d", Names: []string{"large", "link", "small"}}}
		}, []string{"one=two 0+4 gone by putnames"}},
		{"rename over", func(*node) []*op.Op { return []*op.Op{rename("small", "link")} }, []string{"link gone by rename"}},
		{"rename, then write", func(*node) []*op.Op { return []*op.Op{rename("small", "x"), write("x", 1, "y")} }, []string{"small 0+5 by write"}},
		{"rename above, then write", func(*node) []*op.Op { return []*op.Op{rename("d", "x"), write("x/\xff", 1, "y")} }, []string{`d/\xff 0+2 by write`}},
		{"put a name more, then write", func(n *node) []*op.Op {
			return []*op.Op{n.put("one", func(o *op.Op) { o.Path, o.Names = "other", []string{"one", "two"} }), write("other", 0, "x")}
		}, []string{"one 0+4 by write"}},
		{"exchange, then write", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.Rename, Path: "small", Path2: "d/\xff", Arg: unix.RENAME_EXCHANGE}, write("small", 0, "x"), write("d/\xff", 0, "x")}
		}, []string{`d/\xff 0+2 by write`, "small 0+5 by write"}},
		{"link over", func(*node) []*op.Op { return []*op.Op{{Kind: op.Link, Path: "one", Path2: "small"}} }, []string{"small 0+5 gone by link"}},
		{"write a bit of a large file", func(*node) []*op.Op { return []*op.Op{write("large", region+5, "x")} }, []string{"large 65536+65536 by write"}},
		{"write across regions", func(*node) []*op.Op { return []*op.Op{write("large", 2*region-1, "xy")} }, []string{"large 65536+65536 131072+65536h by write"}},
		{"write twice", func(*node) []*op.Op { return []*op.Op{write("large", region, "x"), write("large", region+9, "x")} }, []string{"large 65536+65536 by write"}},
		{"append", func(*node) []*op.Op { return []*op.Op{write("large", 4*region, "x"), write("large", 4*region, "y")} }, []string{"large by write"}},
		{"truncate", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.Truncate, Path: "large", Attr: op.Attr{Valid: op.AttrSize, Size: 3*region + 1}}}
		}, []string{"large 196608+4 by truncate"}},
		{"punch", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.Fallocate, Path: "large", Off: region, Len: region, Arg: punch}}
		}, []string{"large 65536+65536 by fallocate"}},
		{"copy", func(*node) []*op.Op { return []*op.Op{{Kind: op.CopyRange, Path: "large", Path2: "small", Len: 2}} }, []string{"small 0+5 by copyrange"}},
		{"mode", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.SetAttr, Path: "d", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o40700}}}
		}, []string{"d by setattr"}},
		{"the mode it has", func(*node) []*op.Op {
			return []*op.Op{{Kind: op.SetAttr, Path: "d", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o40755}}}
		}, nil},
		{"xattr", func(*node) []*op.Op { return []*op.Op{{Kind: op.SetXattr, Path: "small", Name: "user.a"}} }, []string{"small by setxattr"}},
		{"put other attributes", func(n *node) []*op.Op { return []*op.Op{n.put("small", func(o *op.Op) { o.Attr.UID++ })} }, []string{"small by put"}},
		{"put shorter", func(n *node) []*op.Op { return []*op.Op{n.put("small", func(o *op.Op) { o.Attr.Size = 1 })} }, []string{"small 0+5 by put"}},
		{"put another type", func(n *node) []*op.Op { return []*op.Op{n.put("small", func(o *op.Op) { o.Path = "d/e" })} }, []string{"d/e gone by put"}},
		{"put anew", func(n *node) []*op.Op {
			return []*op.Op{n.put("small", func(o *op.Op) { o.Flags |= op.Fresh }), write("small", 0, "new")}
		}, []string{"small 0+5 gone by put"}},
		{"put a link", func(*node) []*op.Op { return []*op.Op{{Kind: op.PutLink, Path: "one", Path2: "small"}} }, []string{"small 0+5 gone by putlink"}},
		{"compare", func(n *node) []*op.Op {
			return []*op.Op{n.put("small", func(o *op.Op) { o.Path, o.Flags = "d/e", op.Compare })}
		}, nil},
		{"put what is there, then change it", func(n *node) []*op.Op {
			return []*op.Op{n.put("small", func(*op.Op) {}), {Kind: op.SetXattr, Path: "small", Name: "user.a"}}
		}, nil},
		{"put what is there, then write", func(n *node) []*op.Op {
			return []*op.Op{n.put("small", func(*op.Op) {}), write("small", 0, "x")}
		}, []string{"small 0+5 by write"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.has(create("small"), write("small", 0, "small"), mkdir("d"), create("d/\xff"), write("d/\xff", 0, "ff"),
				&op.Op{Kind: op.Mknod, Path: "d/e", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFIFO | 0o600}},
				&op.Op{Kind: op.Symlink, Path: "link", Data: []byte("to")}, create("one"), write("one", 0, "both"), &op.Op{Kind: op.Link, Path: "one", Path2: "two"},
				create("large"), write("large", 1, "abc"), write("large", region, strings.Repeat("d", region)), write("large", 3*region, "tail"))
			n.keep()
			n.do(c.do(n)...)
			got := n.kept()
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("kept\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
			if left, err := os.ReadDir(filepath.Join(n.state, folder)); len(c.want) == 0 && len(left) > 0 {
				t.Errorf("nothing was to be kept, and there is %v, %v", left, err)
			}
		})
	}
}

// Of regions that a comparison found equal nothing is kept.
func TestEqualIsNotKept(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, strings.Repeat("x", 3*region+10)))
	digests, err := n.tree.Digests("f", 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	n.keep()
	check := &op.Op{Kind: op.Check, Path: "f", Data: digests}
	n.do(n.put("f", func(*op.Op) {}), check)
	n.k.Compared(check, []int64{region})
	n.do(write("f", 0, "live"), write("f", 3*region, "live"), write("f", 3*region+5, "longer"))
	if got := n.kept(); len(got) > 0 {
		t.Errorf("kept %q", got)
	}
	// A comparison of holes says nothing of content.
	n.k.Compared(&op.Op{Kind: op.Check, Path: "f", Len: 4 * region, Arg: 1}, nil)
	n.do(write("f", region, "other"))
	if got := n.kept(); !slices.Equal(got, []string{"f 65536+65536 by write"}) {
		t.Errorf("kept %q", got)
	}
}

// What an op takes is on stable storage before the op may be applied, the data
// before the line that names it, and a sync does for all that was received.
func TestSyncedFirst(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "old"), create("g"), write("g", 0, "old too"))
	var synced []string
	n.keep(func(cfg *Config) {
		cfg.Sync = func(f *os.File) error {
			for path, want := range map[string]string{"f": "old", "g": "old too"} {
				if got, err := os.ReadFile(filepath.Join(n.dir, path)); err != nil || string(got) != want {
					t.Errorf("while %s is synced %s holds %q, %v", f.Name(), path, got, err)
				}
			}
			lines, err := os.ReadFile(filepath.Join(filepath.Dir(f.Name()), manifestFile))
			if err != nil || (len(lines) > 0) != (filepath.Base(f.Name()) == manifestFile) {
				t.Errorf("while %s is synced the manifest has %q, %v", f.Name(), lines, err)
			}
			synced = append(synced, filepath.Base(f.Name()))
			return f.Sync()
		}
	})
	n.do(write("f", 0, "new"), write("g", 0, "new"), write("f", 1, "new"))
	if !slices.Equal(synced, []string{dataFile, manifestFile}) {
		t.Errorf("synced %q: want each file once", synced)
	}
}

// A sync that fails lets nothing be applied; the next keeper goes on.
func TestSyncFails(t *testing.T) {
	for _, name := range []string{dataFile, manifestFile} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.has(create("f"), write("f", 0, "old"))
			n.keep(func(cfg *Config) {
				cfg.Sync = func(f *os.File) error {
					if filepath.Base(f.Name()) == name {
						return unix.EIO
					}
					return f.Sync()
				}
			})
			if err := n.k.Before(write("f", 0, "new"), slices.Values[[]*op.Op](nil)); !errors.Is(err, unix.EIO) {
				t.Fatalf("got %v", err)
			}
			n.keep()
			n.do(write("f", 0, "new"))
			n.wantBack("f", "old")
		})
	}
}

// wantBack exports and reads one file.
func (n *node) wantBack(path, want string) {
	n.t.Helper()
	dir, _ := n.export()
	if got, err := os.ReadFile(filepath.Join(dir, FilesDir, path)); err != nil || string(got) != want {
		n.t.Errorf("%s comes back as %.40q, %v; want %.40q", path, got, err, want)
	}
}

// A kill between keeping and applying: the next process finds it kept, and does
// not take what is there by then for the divergent content.
func TestKilledBeforeItIsApplied(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "old"))
	n.keep()
	if err := n.k.Before(write("f", 0, "new"), slices.Values[[]*op.Op](nil)); err != nil {
		t.Fatal(err)
	}
	before := n.kept()
	n.keep()
	n.do(write("f", 0, "new"))
	n.keep()
	n.do(write("f", 0, "newer"))
	if after := n.kept(); !slices.Equal(before, after) {
		t.Errorf("kept %q, and after restarts %q", before, after)
	}
	n.wantBack("f", "old")
}

// A power loss anywhere in the last line: it was never applied, and is kept anew.
func TestTornManifest(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"), create("g"), write("g", 0, "second"))
	n.keep()
	n.do(write("f", 0, "x"))
	manifest, data := n.file(manifestFile), n.file(dataFile)
	good := n.read(manifest)
	if err := n.k.Before(write("g", 0, "x"), slices.Values[[]*op.Op](nil)); err != nil {
		t.Fatal(err)
	}
	whole, bytes := n.read(manifest), n.read(data)
	// Objects stand before their data, so a line may be whole and the next not.
	for cut := len(good) + 1; cut < len(whole); cut += 23 {
		if err := errors.Join(os.WriteFile(manifest, whole[:cut], 0o600), os.WriteFile(data, bytes, 0o600)); err != nil {
			t.Fatal(err)
		}
		a := n.only()
		if atEnd := whole[cut-1] == '\n'; a.Torn == atEnd || a.Damaged != 0 {
			t.Fatalf("cut at %d: torn %v, %d damaged", cut, a.Torn, a.Damaged)
		}
		n.keep()
		if err := n.k.Before(write("g", 0, "x"), slices.Values[[]*op.Op](nil)); err != nil {
			t.Fatal(err)
		}
		if a := n.only(); a.Torn || a.Damaged != 0 {
			t.Fatalf("cut at %d, kept anew: torn %v, %d damaged", cut, a.Torn, a.Damaged)
		}
		n.wantBack("f", "first")
		n.wantBack("g", "second")
	}
}

func (n *node) file(name string) string {
	return filepath.Join(n.state, folder, n.only().ID, name)
}

func (n *node) read(path string) []byte {
	n.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

// Damage is said, and what is whole is read all the same.
func TestDamage(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"), create("g"), write("g", 0, "second"))
	n.keep()
	n.do(write("f", 0, "x"), write("g", 0, "x"))
	manifest, data := n.file(manifestFile), n.file(dataFile)
	lines := n.read(manifest)
	lines[10] ^= 1
	if err := os.WriteFile(manifest, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := n.only(); a.Damaged != 1 || a.Torn {
		t.Errorf("%d lines damaged, torn %v; want one", a.Damaged, a.Torn)
	}
	_, made := n.export()
	if made[0].Whole || !strings.Contains(made[0].Text, "damaged") {
		t.Errorf("without its description: %+v", made[0])
	}
	n.wantBack("f", "first")
	bytes := n.read(data)
	bytes[0] ^= 1
	if err := os.WriteFile(data, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.only().Export(n.tree, filepath.Join(t.TempDir(), "x")); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), `"f", bytes 0-4`) {
		t.Errorf("export of damaged data: %v", err)
	}
}

// Beyond the limit nothing is overwritten until there is room.
func TestLimit(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, strings.Repeat("x", 3*region)), create("g"), write("g", 0, strings.Repeat("y", 3*region)))
	limit := func(cfg *Config) { cfg.Limit = 4 * region }
	n.keep(limit)
	n.do(unlink("f"))
	var over *LimitError
	err := n.try(unlink("g"))
	if !errors.As(err, &over) {
		t.Fatalf("over the limit: %v", err)
	}
	for _, part := range []string{"divergence_limit", `"g"`, "raise", "export and drop", "standbyfs divergence list " + n.dir} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if _, _, err := n.tree.Describe("g"); err != nil {
		t.Fatalf("g was taken away: %v", err)
	}
	if _, used, err := Kept(n.state); err != nil || used > 4*region {
		t.Errorf("%d bytes are kept, %v; the limit is %d", used, err, 4*region)
	}
	// An older one is dropped while the node runs.
	first := n.only().ID
	higher := func(cfg *Config) { limit(cfg); cfg.Epoch.Number++ }
	n.keep(higher)
	if _, err := Drop(n.state, first, false); err != nil {
		t.Fatal(err)
	}
	n.do(unlink("g"))
	n.wantBack("g", strings.Repeat("y", 3*region))
}

// A full disk is as good as a limit.
func TestDiskFull(t *testing.T) {
	n := newNode(t)
	if err := unix.Mount("none", n.state, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(n.state, 0)
	n.has(create("f"), write("f", 0, strings.Repeat("x", 10*region)))
	n.keep()
	if err := n.try(unlink("f")); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if put, _, err := n.tree.Describe("f"); err != nil || put.Attr.Size != 10*region {
		t.Fatalf("f was taken away: %v, %v", put, err)
	}
	// What was written is taken back, so that other ops may find room.
	n.has(create("g"), write("g", 0, "small"))
	n.keep()
	n.do(unlink("g"))
	n.wantBack("g", "small")
}

// Each epoch has a divergence of its own, and each ends once.
func TestTwoDivergences(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"))
	n.keep()
	n.do(write("f", 0, "epoch"))
	if err := CloseAll(n.state, op.Epoch{}, Closed{Joined: true, How: "joined"}); err != nil {
		t.Fatal(err)
	}
	higher := func(cfg *Config) { cfg.Epoch.Number, cfg.Before = 5, epoch }
	n.keep(higher)
	n.do(write("f", 0, "other"))
	n.keep(func(cfg *Config) { cfg.Epoch.Number = 6 })
	all, err := List(n.state)
	if err != nil || len(all) != 2 || all[0].ID == all[1].ID {
		t.Fatalf("%v, %v", all, err)
	}
	if c := all[0].Closed; c == nil || !c.Joined {
		t.Errorf("the first: %+v", c)
	}
	if c := all[1].Closed; c == nil || c.Joined || c.When.IsZero() || !strings.Contains(c.How, "epoch 6/") {
		t.Errorf("the second: %+v", c)
	}
	if h := all[1].Header; h.Epoch.Number != 5 || h.Before != epoch {
		t.Errorf("header %+v", h)
	}
	for i, want := range []string{"first", "epoch"} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := all[i].Export(n.tree, dir); err != nil {
			t.Fatal(err)
		}
		if got := n.read(filepath.Join(dir, FilesDir, "f")); string(got) != want {
			t.Errorf("divergence %d has %q, want %q", i, got, want)
		}
	}
}

func TestDrop(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, strings.Repeat("first", region)))
	n.keep()
	n.do(write("f", 0, "x"))
	id := n.only().ID
	for _, bad := range []string{"", "x", id + "x"} {
		if _, err := Drop(n.state, bad, true); !errors.Is(err, ErrNone) {
			t.Errorf("drop of %q: %v", bad, err)
		}
	}
	if _, err := Drop(n.state, id, false); err == nil || !strings.Contains(err.Error(), "is open") {
		t.Errorf("drop of an open one: %v", err)
	}
	// By force under a running keeper, which begins another one.
	if dropped, err := Drop(n.state, id[:8], true); err != nil || dropped != id {
		t.Fatalf("%q, %v", dropped, err)
	}
	if got := n.kept(); len(got) > 0 {
		t.Errorf("after the drop there is %q", got)
	}
	n.has(create("g"), write("g", 0, "second"))
	n.do(write("g", 0, "x"), write("f", region, "y"))
	n.wantBack("g", "second")
	if _, made := n.export(); len(made) != 2 || !made[1].Whole {
		t.Errorf("made %+v", made) // with a description of its own
	}
	// A kill in the middle of a drop: the rest goes at the next start.
	if err := os.Mkdir(filepath.Join(n.state, folder, hidden+id), 0o700); err != nil {
		t.Fatal(err)
	}
	n.keep()
	if left, err := os.ReadDir(filepath.Join(n.state, folder)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A large file comes back as the ranges that were kept over that of today, also
// where that has moved; what is not there any more is said.
func TestExportOfRanges(t *testing.T) {
	old := strings.Repeat("a", region) + strings.Repeat("b", region) + strings.Repeat("c", region)
	for _, c := range []struct {
		name  string
		since *op.Op
		want  string
		says  string
		whole bool
	}{
		{"in its place", create("other"), old, "today", true},
		{"moved", rename("f", "g"), old, `now "g"`, true},
		{"gone", unlink("f"), strings.Repeat("\x00", region) + strings.Repeat("b", region) + strings.Repeat("\x00", region), "not there any more", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.has(create("f"), write("f", 0, old))
			n.keep()
			n.do(write("f", region+100, "live"))
			n.has(c.since) // after the join nothing is kept
			_, made := n.export()
			if len(made) != 1 || made[0].Whole != c.whole || !strings.Contains(made[0].Text, c.says) {
				t.Errorf("made %+v", made)
			}
			n.wantBack("f", c.want)
		})
	}
}

func TestExportKeepsAttributes(t *testing.T) {
	n := newNode(t)
	n.has(mkdir("d"), create("d/f"), write("d/f", 0, "text"), &op.Op{Kind: op.SetXattr, Path: "d/f", Name: "user.a", Data: []byte{0, 255}},
		&op.Op{Kind: op.Link, Path: "d/f", Path2: "d/g"}, &op.Op{Kind: op.Symlink, Path: "d/l", Data: []byte("\xff")},
		&op.Op{Kind: op.Mknod, Path: "d/null", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFCHR | 0o666, Rdev: uint32(unix.Mkdev(1, 3))}},
		&op.Op{Kind: op.SetAttr, Path: "d/f", Attr: op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: 0o104711, UID: 7, GID: 8, Mtime: op.Time{Sec: 9, Nsec: 10}}},
		&op.Op{Kind: op.SetAttr, Path: "d", Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: 0o40700, Mtime: op.Time{Sec: 11}}})
	dir, copied := newTree(t)
	if err := n.tree.State("d", copied.ApplyLenient); err != nil {
		t.Fatal(err)
	}
	n.keep()
	n.do(&op.Op{Kind: op.Rmdir, Path: "d"})
	to, _ := n.export()
	back, err := tree.Open(filepath.Join(to, FilesDir))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	differ, err := tree.Diff(copied, back)
	differ = slices.DeleteFunc(differ, func(d string) bool { return strings.HasPrefix(d, `".": `) })
	if err != nil || len(differ) > 0 {
		t.Errorf("%s comes back different: %q, %v", dir, differ, err)
	}
	if _, err := n.only().Export(n.tree, to); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a second export: %v", err)
	}
	if !slices.Equal(n.read(filepath.Join(to, manifestFile)), n.read(n.file(manifestFile))) {
		t.Error("the manifest is not the same")
	}
}

func TestSpans(t *testing.T) {
	var s spans
	for _, c := range []struct {
		add  span
		want spans
	}{
		{span{10, 20}, spans{{10, 20}}}, {span{30, 40}, spans{{10, 20}, {30, 40}}}, {span{5, 5}, spans{{10, 20}, {30, 40}}},
		{span{20, 25}, spans{{10, 25}, {30, 40}}}, {span{0, 1}, spans{{0, 1}, {10, 25}, {30, 40}}}, {span{24, 31}, spans{{0, 1}, {10, 40}}},
		{span{12, 13}, spans{{0, 1}, {10, 40}}}, {span{1, 10}, spans{{0, 40}}},
	} {
		if s.add(c.add); !reflect.DeepEqual(s, c.want) {
			t.Errorf("after %v: %v, want %v", c.add, s, c.want)
		}
	}
	s = spans{{10, 20}, {30, 40}}
	for _, c := range []struct {
		x    span
		want []span
	}{
		{span{0, 50}, []span{{0, 10}, {20, 30}, {40, 50}}}, {span{12, 18}, nil}, {span{15, 35}, []span{{20, 30}}}, {span{20, 30}, []span{{20, 30}}}, {span{3, 3}, nil},
	} {
		if got := s.without(c.x); !slices.Equal(got, c.want) {
			t.Errorf("%v without: %v, want %v", c.x, got, c.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	line, err := appendLine(nil, &Item{What: WhatObject, Path: "a\xff\n\"\\", Inode: 1, Object: &Object{Mode: 0o100644, Xattr: []Xattr{{"user.a", []byte{0}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(append(line, line[:20]...))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := new(Archive)
		if err := a.read(strings.NewReader(string(text))); err != nil {
			t.Fatal(err)
		}
		if a.whole > int64(len(text)) {
			t.Errorf("whole up to %d of %d", a.whole, len(text))
		}
		item, err := parseLine(text)
		if err != nil {
			return
		}
		again, err := appendLine(nil, item)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseLine(again); err != nil || !reflect.DeepEqual(back, item) {
			t.Errorf("%+v came back as %+v, %v", item, back, err)
		}
	})
}
