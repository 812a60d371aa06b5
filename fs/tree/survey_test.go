package tree

import (
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// A survey finds whatever differs in a child, but not what is deeper.
func TestSurvey(t *testing.T) {
	region := strings.Repeat("r", op.RegionSize)
	given := []*op.Op{
		mkdir("d"), mkdir("d/dir"), create("d/dir/f"), create("d/empty"), create("d/file"), write("d/file", 0, "data"),
		create("d/large"), write("d/large", 0, region+region), create("d/sparse"), write("d/sparse", op.RegionSize+7, "x"), symlink("d/link", "text"),
		{Kind: op.SetXattr, Path: "d/file", Name: "user.x", Data: []byte("v")},
	}
	names := []string{"dir", "empty", "file", "large", "link", "sparse"}
	time := func(path string) *op.Op { return touch(path, 2) }
	for _, c := range []struct {
		name   string
		do     []*op.Op
		differ []string
	}{
		{"nothing", nil, nil},
		{"zeros instead of a hole", []*op.Op{write("d/sparse", 0, strings.Repeat("\x00", 5000)), time("d/sparse")}, nil},
		{"below a child", []*op.Op{write("d/dir/f", 0, "x"), time("d/dir")}, nil},
		{"beyond the first region", []*op.Op{write("d/large", op.RegionSize, "x"), time("d/large")}, nil},
		{"content", []*op.Op{write("d/file", 3, "x"), time("d/file")}, []string{"file"}},
		{"the end of the first region", []*op.Op{write("d/large", op.RegionSize-1, "x"), time("d/large")}, []string{"large"}},
		{"size", []*op.Op{{Kind: op.Truncate, Path: "d/sparse", Attr: op.Attr{Valid: op.AttrSize, Size: 2 * op.RegionSize}}, time("d/sparse")}, []string{"sparse"}},
		{"mtime", []*op.Op{touch("d/empty", 3)}, []string{"empty"}},
		{"mode", []*op.Op{{Kind: op.SetAttr, Path: "d/dir", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o711}}}, []string{"dir"}},
		{"owner", []*op.Op{{Kind: op.SetAttr, Path: "d/link", Attr: op.Attr{Valid: op.AttrOwner, UID: 7, GID: 8}}}, []string{"link"}},
		{"xattr", []*op.Op{{Kind: op.SetXattr, Path: "d/file", Name: "user.x", Data: []byte("w")}}, []string{"file"}},
		{"one xattr less", []*op.Op{{Kind: op.RemoveXattr, Path: "d/file", Name: "user.x"}}, []string{"file"}},
		{"inode flags", []*op.Op{{Kind: op.SetAttr, Path: "d/file", Attr: op.Attr{Valid: op.AttrFlags, Flags: op.InodeNodump}}}, []string{"file"}},
		{"names", []*op.Op{link("d/file", "other"), time("d/file")}, []string{"file"}},
		{"link text", []*op.Op{remove(op.Unlink, "d/link"), symlink("d/link", "txet")}, []string{"link"}},
		{"type", []*op.Op{remove(op.Unlink, "d/empty"), mkdir("d/empty")}, []string{"empty"}},
		{"missing", []*op.Op{remove(op.Unlink, "d/empty"), remove(op.Unlink, "d/link")}, []string{"empty", "link"}},
		{"all missing", []*op.Op{rename("d", "e", 0), create("d")}, names},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newTree(t), newTree(t)
			if c.name == "inode flags" {
				ext4(t, a)
			}
			for _, tr := range []*Tree{a, b} {
				apply(t, tr, given...)
				for _, name := range names {
					apply(t, tr, time(op.JoinPath("d", name)))
				}
			}
			apply(t, b, c.do...)
			if err := a.ReadAhead("d", names, true); err != nil {
				t.Fatal(err)
			}
			digests, err := a.Survey("d", names)
			if err != nil {
				t.Fatal(err)
			}
			o := &op.Op{Kind: op.Survey, Path: "d", Names: names, Data: digests}
			differ, err := b.CheckSurvey(o)
			if err != nil || !slices.Equal(differ, c.differ) {
				t.Errorf("%q differ (%v), want %q", differ, err, c.differ)
			}
			o.Flags = op.Compare
			if differ, err := b.CheckSurvey(o); err != nil || !slices.Equal(differ, c.differ) {
				t.Errorf("from the disk %q differ (%v)", differ, err)
			}
		})
	}
	tr := newTree(t)
	for _, o := range []*op.Op{
		{Path: "../d", Names: []string{"a"}, Data: make([]byte, SurveySize)},
		{Path: "d", Names: []string{".."}, Data: make([]byte, SurveySize)},
		{Path: "d", Names: []string{"a"}, Data: make([]byte, SurveySize-1)},
		{Path: "d", Names: []string{"a"}},
	} {
		o.Kind = op.Survey
		if differ, err := tr.CheckSurvey(o); err == nil {
			t.Errorf("%v, %q: %q", o, o.Names, differ)
		}
	}
}
