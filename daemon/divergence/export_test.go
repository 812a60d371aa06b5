package divergence

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

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
