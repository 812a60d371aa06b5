package tree

import (
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

func TestCompare(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), create("d/a"), create("d/c"), create("f"), write("f", 0, "data"), write("f", 3*region, "x"), link("f", "g"),
		symlink("l", "x"), &op.Op{Kind: op.SetXattr, Path: "f", Name: "user.a", Data: []byte("1")}, &op.Op{Kind: op.SetXattr, Path: "f", Name: "user.c", Data: []byte("3")})
	describe := func(path string, change func(o *op.Op)) *op.Op {
		o, _, err := tr.Describe(path)
		if err != nil {
			t.Fatal(err)
		}
		change(o)
		return o
	}
	digests := func(change func(d []byte)) *op.Op {
		d, err := tr.Digests("f", 0, 4*region)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		return &op.Op{Kind: op.Check, Path: "f", Data: d}
	}
	before := render(t, tr)
	for _, c := range []struct {
		name string
		o    *op.Op
		want []string
	}{
		{"equal", describe("f", func(*op.Op) {}), nil},
		{"equal link", describe("l", func(*op.Op) {}), nil},
		{"missing", put("none", unix.S_IFREG), []string{"is missing"}},
		{"missing below a file", put("f/none", unix.S_IFREG), []string{"is missing"}},
		{"missing below a link", put("l/none/none", unix.S_IFREG), []string{"is missing"}},
		{"type", put("f", unix.S_IFDIR|0o755), []string{"is a file, the primary has a directory"}},
		{"attributes", describe("f", func(o *op.Op) {
			o.Attr.Mode, o.Attr.UID, o.Attr.GID, o.Attr.Size, o.Attr.Mtime = unix.S_IFREG|0o4600, 1, 2, 3, op.Time{Sec: 3, Nsec: 5e8}
		}), []string{
			"mode is 0644, the primary has 4600", "owner is 0, the primary has 1", "group is 0, the primary has 2",
			"size is 196609, the primary has 3", "mtime is 1970-01-01T00:00:02Z, the primary has 1970-01-01T00:00:03.5Z"}},
		{"link text", describe("l", func(o *op.Op) { o.Data = []byte("y\n") }), []string{`link text is "x", the primary has "y\n"`}},
		{"xattrs", describe("f", func(o *op.Op) {
			o.Xattrs = []op.Xattr{{Name: "user.a", Value: []byte("2")}, {Name: "user.b", Value: []byte("2")}}
		}), []string{`xattr "user.a" is "1", the primary has "2"`, `xattr "user.c" is there, the primary has none`, `xattr "user.b" is missing`}},
		{"names of the file", describe("f", func(o *op.Op) { o.Arg = 1 }), []string{"has 2 names, the primary has just this one"}},
		{"tied", putLink("f", "g"), nil},
		{"not tied", putLink("f", "d/a"), []string{`and "d/a" are not names of one file`}},
		{"tied to nothing", putLink("f", "none"), []string{`and "none" are not names of one file`}},
		{"nothing tied", putLink("none", "f"), []string{"is missing"}},
		{"names", &op.Op{Kind: op.PutNames, Path: "d", Names: []string{"a", "b"}}, []string{`extra name "c"`, `name "b" is missing`}},
		{"names in a range", &op.Op{Kind: op.PutNames, Path: "d", Path2: "a", Name: "b"}, nil},
		{"names of no directory", &op.Op{Kind: op.PutNames, Path: "f"}, []string{"is missing, or no directory"}},
		{"names of nothing", &op.Op{Kind: op.PutNames, Path: "none"}, []string{"is missing, or no directory"}},
		{"content", digests(func([]byte) {}), nil},
		{"other content", digests(func(d []byte) { d[0]++; d[DigestSize]++; d[3*DigestSize]++ }),
			[]string{"content differs in bytes 0-131071", "content differs in bytes 196608-262143"}},
		{"other holes", digests(func(d []byte) { d[contentSize]++ }), nil},
	} {
		got, err := words(tr.Compare(c.o))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, error %v, want %q", c.name, got, err, c.want)
		}
	}
	if got, err := words(tr.Compare(write("f", 0, "x"))); err == nil {
		t.Errorf("a write was compared: %q", got)
	}
	if after := render(t, tr); after != before {
		t.Errorf("a comparison made\n%sof\n%s", after, before)
	}
}

// words are those of differences.
func words(found []Difference, err error) ([]string, error) {
	var what []string
	for _, d := range found {
		what = append(what, d.What)
	}
	return what, err
}

func TestDiff(t *testing.T) {
	a, b := newTree(t), newTree(t)
	ext4(t, a)
	both := []*op.Op{mkdir("d"), create("d/x"), create("f"), create("g"), create("h"), create("holes"), create("same"), create("size"), symlink("l", "x"), link("g", "j")}
	apply(t, a, both...)
	apply(t, b, both...)
	apply(t, a, create("d/a"), create("d/only"), link("f", "i"), write("h", region, "a"), write("holes", 0, string(make([]byte, region))), write("size", 0, "x"), touch("d", 8), touch("l", 3))
	apply(t, b, create("d/b"), create("i"), write("h", region, "b"), size("holes", region), &op.Op{Kind: op.SetXattr, Path: "same", Name: "user.x"}, touch("d", 9),
		remove(op.Unlink, "l"), mkdir("l"), remove(op.Unlink, "j"), link("f", "j"))
	got, err := Diff(a, b)
	want := []string{
		`"d": mtime is 1970-01-01T00:00:08Z, the other has 1970-01-01T00:00:09Z`,
		`"d/a": the other has it not`,
		`"d/b": only the other has it`,
		`"d/only": the other has it not`,
		`"g": has 2 names, the other has 1`,
		`"h": content differs in bytes 65536-131071`,
		`"holes": holes differ in bytes 0-65535`,
		`"i": has 2 names, the other has 1`,
		`"i": is not tied to the same names`,
		`"j": is not tied to the same names`,
		`"l": is a symbolic link, the other has a directory`,
		`"same": xattr "user.x" is missing`,
		`"size": size is 1, the other has 0`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("error %v, found", err)
		for _, s := range got {
			t.Log(s)
		}
	}
	if got, err := Diff(a, a); err != nil || got != nil {
		t.Errorf("a tree differs from itself: %q, error %v", got, err)
	}
}

// Comparing is no access: a user's files are not newer for it.
func TestDiffLeavesAccessTimes(t *testing.T) {
	a, b := newTree(t), newTree(t)
	for _, tr := range []*Tree{a, b} {
		apply(t, tr, mkdir("d"), create("d/f"), write("d/f", 0, "data"))
	}
	past := []unix.Timespec{{Sec: 1}, {Sec: 2}} // so old that any access would show
	for _, path := range []string{"d/f", "d"} {
		for _, tr := range []*Tree{a, b} {
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, tr.Dir()+"/"+path, past, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if differ, err := Diff(a, b); err != nil || len(differ) != 0 {
		t.Fatalf("%q, %v", differ, err)
	}
	for _, path := range []string{"d/f", "d"} {
		var st unix.Stat_t
		if err := unix.Stat(a.Dir()+"/"+path, &st); err != nil || st.Atim != past[0] {
			t.Errorf("%s was accessed at %v, %v", path, st.Atim, err)
		}
	}
}
