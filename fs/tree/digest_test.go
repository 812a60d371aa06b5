package tree

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

func nothing(string) bool { return false }

func digestOf(t *testing.T, tr *Tree) string {
	t.Helper()
	d, err := tr.Digest(t.Context(), nothing, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sample fills a tree with one of each. Its order of inodes is not that of its
// names.
func sample(t *testing.T) *Tree {
	tr := newTree(t)
	apply(t, tr,
		create("z"), write("z", 0, "data"), mkdir("d"), link("z", "d/z"), create("a b\"\\\n\xff"), create("large"),
		write("large", 0, strings.Repeat("0123456789abcdef", 1<<16)), write("large", 3<<20, "end"), symlink("s", "to where"),
		&op.Op{Kind: op.Mknod, Path: "fifo", Attr: attrs(unix.S_IFIFO|0o600, 2), Dir: at(1)},
		&op.Op{Kind: op.Mknod, Path: "socket", Attr: attrs(unix.S_IFSOCK|0o600, 2), Dir: at(1)},
		&op.Op{Kind: op.Mknod, Path: "null", Attr: op.Attr{
			Valid: op.AttrMode | op.AttrOwner | op.AttrMtime | op.AttrRdev, Mode: unix.S_IFCHR | 0o666, Rdev: 0x103, Mtime: at(2)}, Dir: at(1)},
		&op.Op{Kind: op.SetXattr, Path: "z", Name: "user.b", Data: []byte("2")},
		&op.Op{Kind: op.SetXattr, Path: "z", Name: "user.a", Data: []byte("1")},
		touch("d", 5), touch("z", 2), touch(op.Root, 1))
	return tr
}

// The text is what the digest is defined by: a change here is another version.
func TestDigestText(t *testing.T) {
	block := xxh3.Hash128([]byte(strings.Repeat("0123456789abcdef", 1<<16))).Bytes()
	zeros := xxh3.Hash128(make([]byte, 1<<20)).Bytes()
	end := xxh3.Hash128([]byte("end")).Bytes()
	content := func(blocks ...[16]byte) string {
		var all []byte
		for _, b := range blocks {
			all = append(all, b[:]...)
		}
		sum := xxh3.Hash128(all).Bytes()
		return hex.EncodeToString(sum[:])
	}
	want := `standbyfs digest v1
"." dir 0700 0:0 1.000000000
"a b\x22\x5c\x0a\xff" file 0644 0:0 2.000000000 size=0 content=` + content() + `
"d" dir 0755 0:0 5.000000000
"d/z" file 0644 0:0 2.000000000 size=4 content=` + content(xxh3.Hash128([]byte("data")).Bytes()) + ` xattr "user.a"="1" xattr "user.b"="2"
"fifo" fifo 0600 0:0 2.000000000
"large" file 0644 0:0 2.000000000 size=3145731 content=` + content(block, zeros, zeros, end) + `
"null" char 0666 0:0 2.000000000 dev=0x103
"s" link 0777 0:0 2.000000000 to="to where"
"socket" socket 0600 0:0 2.000000000
"z" is "d/z"
`
	tr := sample(t)
	apply(t, tr, &op.Op{Kind: op.SetAttr, Path: op.Root, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFDIR | 0o700, Mtime: at(1)}})
	var got bytes.Buffer
	digest, err := tr.Digest(t.Context(), nothing, &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
	if sum := xxh3.HashString128(want).Bytes(); digest != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s, want that of the text, %x", digest, sum)
	}
}

// Each single difference makes another digest, and what makes no difference to
// a reader makes none.
func TestDigestDiffers(t *testing.T) {
	same := digestOf(t, sample(t))
	if other := digestOf(t, sample(t)); other != same {
		t.Fatalf("two trees that were made alike have the digests %s and %s", same, other)
	}
	for _, c := range []struct {
		name   string
		change func(path func(string) string) error
		equal  bool
	}{
		{"content", func(p func(string) string) error { return rewrite(p("z"), 1, "A") }, false},
		{"content behind a hole", func(p func(string) string) error { return rewrite(p("large"), 3<<20, "E") }, false},
		{"data in a hole", func(p func(string) string) error { return rewrite(p("large"), 2<<20, "x") }, false},
		{"zeros in a hole", func(p func(string) string) error { return rewrite(p("large"), 2<<20, strings.Repeat("\x00", 1<<16)) }, true},
		{"size", func(p func(string) string) error { return os.Truncate(p("large"), 4<<20) }, false},
		{"mode", func(p func(string) string) error { return os.Chmod(p("fifo"), 0o644) }, false},
		{"owner", func(p func(string) string) error { return os.Lchown(p("s"), 1, -1) }, false},
		{"group", func(p func(string) string) error { return os.Lchown(p("socket"), -1, 1) }, false},
		{"xattr", func(p func(string) string) error { return unix.Setxattr(p("z"), "user.b", []byte("3"), 0) }, false},
		{"new xattr", func(p func(string) string) error { return unix.Setxattr(p("d"), "user.b", []byte("3"), 0) }, false},
		{"inode flags", func(p func(string) string) error { return nodump(p("large")) }, false},
		{"new name", func(p func(string) string) error { return os.WriteFile(p("d/new"), nil, 0o644) }, false},
		{"missing name", func(p func(string) string) error { return os.Remove(p("fifo")) }, false},
		{"other name", func(p func(string) string) error { return os.Rename(p("fifo"), p("fife")) }, false},
		{"other place", func(p func(string) string) error { return os.Rename(p("fifo"), p("d/fifo")) }, false},
		{"link text", func(p func(string) string) error {
			return errors.Join(os.Remove(p("s")), os.Symlink("to there", p("s")))
		}, false},
		{"a copy instead of a link", func(p func(string) string) error {
			data, err := os.ReadFile(p("z"))
			return errors.Join(err, os.Remove(p("z")), os.WriteFile(p("z"), data, 0o644), unix.Setxattr(p("z"), "user.a", []byte("1"), 0), unix.Setxattr(p("z"), "user.b", []byte("2"), 0))
		}, false},
		{"device", func(p func(string) string) error {
			return errors.Join(os.Remove(p("null")), unix.Mknod(p("null"), unix.S_IFCHR|0o666, 0x104), os.Chmod(p("null"), 0o666))
		}, false},
		{"type", func(p func(string) string) error {
			return errors.Join(os.Remove(p("fifo")), unix.Mknod(p("fifo"), unix.S_IFSOCK|0o600, 0))
		}, false},
		{"access", func(p func(string) string) error { _, err := os.ReadFile(p("z")); return err }, true},
		{"a new inode", func(p func(string) string) error {
			return errors.Join(os.Remove(p("fifo")), unix.Mkfifo(p("fifo"), 0o600))
		}, true},
		{"a name outside", func(p func(string) string) error { return os.Link(p("large"), p("../outside")) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			// In a directory of its own, for the name outside.
			dir := filepath.Join(t.TempDir(), "tree")
			was := sample(t)
			if err := os.Rename(was.Dir(), dir); err != nil {
				t.Fatal(err)
			}
			tr, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			if err := c.change(func(path string) string { return filepath.Join(dir, path) }); err != nil {
				t.Fatal(err)
			}
			// The mtimes that the change has moved are not what it is about.
			err = tr.Walk(func(path string, put *op.Op, _ Inode) error {
				sec := map[string]int64{op.Root: 1, "d": 5}[path]
				if sec == 0 {
					sec = 2
				}
				if now := put.Attr.Mtime; now != at(sec) {
					return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, path),
						[]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec}}, unix.AT_SYMLINK_NOFOLLOW)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := digestOf(t, tr); got == same != c.equal {
				t.Errorf("digest %s, was %s", got, same)
			}
		})
	}
	t.Run("mtime", func(t *testing.T) {
		tr := sample(t)
		apply(t, tr, touch("s", 3))
		if digestOf(t, tr) == same {
			t.Error("another mtime is not seen")
		}
	})
}

func TestDigestSkips(t *testing.T) {
	tr := sample(t)
	var text bytes.Buffer
	if _, err := tr.Digest(t.Context(), func(path string) bool { return path == "d" }, &text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), `"d`) || !strings.Contains(text.String(), `"z" file`) {
		t.Errorf("with d skipped:\n%s", &text)
	}
}

func rewrite(path string, at int64, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(data), at)
	return err
}

func nodump(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return SetInodeFlags(int(f.Fd()), op.InodeNodump)
}
