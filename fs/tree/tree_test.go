package tree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// newTree opens an empty tree whose root has mtime 1.
func newTree(t testing.TB) *Tree {
	t.Helper()
	tr, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	apply(t, tr, touch(op.Root, 1))
	return tr
}

// apply applies ops that must succeed.
func apply(t testing.TB, tr *Tree, ops ...*op.Op) {
	t.Helper()
	for _, o := range ops {
		if err := tr.Apply(o); err != nil {
			t.Fatalf("%v: %v", o, err)
		}
	}
}

// lenient applies ops that must succeed, leniently.
func lenient(t testing.TB, tr *Tree, ops ...*op.Op) {
	t.Helper()
	for _, o := range ops {
		if err := tr.ApplyLenient(o); err != nil {
			t.Fatalf("leniently %v: %v", o, err)
		}
	}
}

// at is the time sec seconds after 1970.
func at(sec int64) op.Time { return op.Time{Sec: sec} }

// attrs are all that a name-space op carries, with an mtime.
func attrs(mode uint32, sec int64) op.Attr {
	return op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: mode, Mtime: at(sec)}
}

func touch(path string, sec int64) *op.Op {
	return &op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(sec)}}
}

func mkdir(path string) *op.Op {
	return &op.Op{Kind: op.Mkdir, Path: path, Attr: attrs(0o755, 2), Dir: at(1)}
}

func create(path string) *op.Op {
	return &op.Op{Kind: op.Create, Path: path, Attr: attrs(0o644, 2), Dir: at(1)}
}

// write carries an mtime, as a test needs it; the primary sends it later.
func write(path string, off int64, data string) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte(data), Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(2)}}
}

func symlink(path, text string) *op.Op {
	return &op.Op{Kind: op.Symlink, Path: path, Data: []byte(text), Attr: attrs(unix.S_IFLNK|0o777, 2), Dir: at(1)}
}

func link(path, path2 string) *op.Op {
	return &op.Op{Kind: op.Link, Path: path, Path2: path2, Dir2: at(1)}
}

func rename(path, path2 string, flags uint32) *op.Op {
	return &op.Op{Kind: op.Rename, Path: path, Path2: path2, Arg: flags, Dir: at(1), Dir2: at(1)}
}

func remove(kind op.Kind, path string) *op.Op { return &op.Op{Kind: kind, Path: path, Dir: at(1)} }

// render prints a tree, one object a line: type, mode, owner, mtime, and what
// its type has.
func render(t testing.TB, tr *Tree) string {
	t.Helper()
	var b strings.Builder
	first := map[Inode]string{}
	err := tr.Walk(func(path string, put *op.Op, id Inode) error {
		a := put.Attr
		fmt.Fprintf(&b, "%s %s %04o", path, TypeName(a.Mode), a.Mode&0o7777)
		if a.UID != 0 || a.GID != 0 {
			fmt.Fprintf(&b, " %d:%d", a.UID, a.GID)
		}
		fmt.Fprintf(&b, " @%s", clock(a.Mtime))
		switch a.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(filepath.Join(tr.Dir(), path))
			if err != nil {
				return err
			}
			if len(data) > 64 {
				fmt.Fprintf(&b, " %d bytes", len(data))
			} else {
				fmt.Fprintf(&b, " %q", data)
			}
		case unix.S_IFLNK:
			fmt.Fprintf(&b, " -> %s", put.Data)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " %#x", a.Rdev)
		}
		for _, x := range put.Xattrs {
			fmt.Fprintf(&b, " %s=%q", x.Name, x.Value)
		}
		if id.Nlink > 1 && a.Mode&unix.S_IFMT != unix.S_IFDIR {
			if was, ok := first[id.Key()]; ok {
				fmt.Fprintf(&b, " is %s", was)
			} else {
				first[id.Key()] = path
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// clock prints a time that a test has set as seconds, and one that the kernel
// has set as now.
func clock(m op.Time) string {
	switch {
	case m.Sec > 1e9 && m.Sec < 1<<32:
		return "now"
	case m.Nsec != 0:
		return fmt.Sprintf("%d+%dns", m.Sec, m.Nsec)
	}
	return fmt.Sprint(m.Sec)
}

// expect compares what render prints with lines, which may be indented.
func expect(t testing.TB, tr *Tree, want string) {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(want, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if got, want := render(t, tr), strings.Join(lines, "\n")+"\n"; got != want {
		t.Errorf("the tree is\n%swant\n%s", got, want)
	}
}

// same fails unless two trees are equal.
func same(t testing.TB, a, b *Tree) {
	t.Helper()
	found, err := Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range found {
		t.Error(s)
	}
}

// ext4 skips a test where the file system below the temporary directory is not
// the one whose holes the test knows.
func ext4(t testing.TB, tr *Tree) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(tr.Dir(), &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC {
		t.Skipf("holes of file system type %#x are not known here", st.Type)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{file: unix.ENOTDIR, filepath.Join(dir, "none"): unix.ENOENT} {
		if _, err := Open(path); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s: error %v, want %v", path, err, want)
		}
	}
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Dir() != dir {
		t.Errorf("directory %s, want %s", tr.Dir(), dir)
	}
	if err := errors.Join(tr.Sync(), tr.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenForSync(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), create("d/f"), create("d/w"), write("d/w", 0, "x"), symlink("d/l", "/etc/passwd"),
		&op.Op{Kind: op.Mknod, Path: "d/p", Attr: attrs(unix.S_IFIFO|0o600, 2)})
	for path, want := range map[string]string{op.Root: "", "d": "d", "d/f": "d/f", "d/w": "d/w", "d/l": "d", "d/p": "d"} {
		p, err := tr.OpenForSync(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if is := behind(t, p.FD()); is != filepath.Join(tr.Dir(), want) {
			t.Errorf("%s: opened %s, not %q", path, is, want)
		}
		if err := unix.Fsync(p.FD()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		p.Close()
	}
	if _, err := tr.OpenForSync("d/none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nothing there: error %v", err)
	}
}

// behind is the path of an open descriptor.
func behind(t *testing.T, fd int) string {
	t.Helper()
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// What is open for writing is synced by that descriptor, which outlives its
// place in the cache and the file's name for as long as it is pinned, and no
// longer. A name that another file has got stands for that one.
func TestPinnedForSync(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, create("f"), write("f", 0, "x"))
	open := openFiles(t, tr.Dir())
	p, err := tr.OpenForSync("f")
	if err != nil {
		t.Fatal(err)
	}
	if n := openFiles(t, tr.Dir()); n != open {
		t.Errorf("%d descriptors, %d before", n, open)
	}
	apply(t, tr, rename("f", "g", 0), create("f"), write("f", 0, "y"))
	q, err := tr.OpenForSync("f")
	if err != nil {
		t.Fatal(err)
	}
	for fd, want := range map[int]string{p.FD(): "g", q.FD(): "f"} {
		if is := behind(t, fd); is != filepath.Join(tr.Dir(), want) {
			t.Errorf("%s is synced, not %s", is, want)
		}
	}
	for i := range 2 * cachedFiles {
		name := fmt.Sprintf("other%d", i)
		apply(t, tr, create(name), write(name, 0, "z"))
	}
	for _, pin := range []Pinned{p, q} {
		if err := unix.Fsync(pin.FD()); err != nil {
			t.Errorf("fsync of what has left the cache: %v", err)
		}
		pin.Close()
	}
	tr.Forget(op.Root)
	if n := openFiles(t, tr.Dir()); n != 1 {
		t.Errorf("%d descriptors are left, the root's own is one", n)
	}
}

func TestWalkSorted(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("b"), create("b/z"), create("b/\xff"), create("b/\x01"), create("b-"), create("a"))
	var paths []string
	err := tr.Walk(func(path string, _ *op.Op, _ Inode) error {
		paths = append(paths, path)
		return nil
	})
	if want := []string{".", "a", "b", "b/\x01", "b/z", "b/\xff", "b-"}; err != nil || fmt.Sprintf("%q", paths) != fmt.Sprintf("%q", want) {
		t.Errorf("walked %q, want %q, error %v", paths, want, err)
	}
	stop := errors.New("stop")
	if err := tr.Walk(func(string, *op.Op, Inode) error { return stop }); err != stop {
		t.Errorf("error %v is not the function's own", err)
	}
}

func TestDescribe(t *testing.T) {
	tr := newTree(t)
	text := strings.Repeat("long/", 100)
	apply(t, tr, symlink("l", text), create("f"), link("f", "g"))
	put, id, err := tr.Describe("l")
	if err != nil || string(put.Data) != text || put.Arg != 1 || put.Attr.Valid&op.AttrSize != 0 {
		t.Errorf("link: %v, text of %d bytes, error %v", put, len(put.Data), err)
	}
	put, id2, err := tr.Describe("g")
	if err != nil || put.Arg != 2 || id2.Nlink != 2 || id2.Key() == id.Key() || put.Path != "g" || put.Kind != op.Put {
		t.Errorf("file: %v, %+v, error %v", put, id2, err)
	}
	large := bytes.Repeat([]byte("x"), 3000)
	apply(t, tr, &op.Op{Kind: op.SetXattr, Path: "f", Name: "user.large", Data: large}, &op.Op{Kind: op.SetXattr, Path: "f", Name: "user.empty"})
	put, _, err = tr.Describe("f")
	if err != nil || len(put.Xattrs) != 2 || put.Xattrs[0].Name != "user.empty" || !bytes.Equal(put.Xattrs[1].Value, large) {
		t.Errorf("xattrs %v, error %v", put.Xattrs, err)
	}
	if _, _, err := tr.Describe("none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nothing there: error %v", err)
	}
	if got := timeOf(timespec(op.Time{Sec: -3, Nsec: 5})); got != (op.Time{Sec: -3, Nsec: 5}) {
		t.Errorf("time %v", got)
	}
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
