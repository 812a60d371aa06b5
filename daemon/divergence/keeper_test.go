package divergence

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
)

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
			synced := 0
			n.keep(func(cfg *Config) {
				cfg.Sync = func(f *os.File) error { synced++; return f.Sync() }
			})
			n.do(write("f", 0, "new"))
			if n.wantBack("f", "old"); synced != 2 {
				t.Errorf("%d files were synced: what a sync has failed for counts as kept", synced)
			}
		})
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

// A rename that does nothing, of two names of one file, moves no name.
func TestRenameOfOneFile(t *testing.T) {
	n := newNode(t)
	n.has(create("c"), write("c", 0, "old"))
	n.keep()
	n.do(&op.Op{Kind: op.Link, Path: "c", Path2: "b"})
	n.do(&op.Op{Kind: op.Rename, Path: "b", Path2: "c", Arg: unix.RENAME_WHITEOUT})
	n.do(write("b", 0, "new"))
	n.wantBack("c", "old")
}
