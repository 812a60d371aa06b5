package tree

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Whatever happened to a name, a write goes to the file that has it now. Each
// case begins with the files f and d/f, whose descriptors are kept, and writes
// "new" to f or d/f at the end.
func TestWritesHitTheNewFile(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []*op.Op
		to   string
		want string
	}{
		{"unlinked and made again", []*op.Op{remove(op.Unlink, "f"), create("f")}, "f", `
			d/f file 0644 @2 "d/f"
			f file 0644 @2 "new"`},
		{"renamed and made again", []*op.Op{rename("f", "g", 0), create("f")}, "f", `
			d/f file 0644 @2 "d/f"
			f file 0644 @2 "new"
			g file 0644 @2 "f"`},
		{"renamed over", []*op.Op{create("g"), write("g", 0, "ggggg"), rename("g", "f", 0)}, "f", `
			d/f file 0644 @2 "d/f"
			f file 0644 @2 "newgg"`},
		{"exchanged", []*op.Op{rename("f", "d/f", unix.RENAME_EXCHANGE)}, "d/f", `
			d/f file 0644 @2 "new"
			f file 0644 @2 "d/f"`},
		{"the directory was renamed and made again", []*op.Op{rename("d", "e", 0), mkdir("d"), create("d/f")}, "d/f", `
			d/f file 0644 @2 "new"
			e directory 0755 @1
			e/f file 0644 @2 "d/f"
			f file 0644 @2 "f"`},
		{"the directory was exchanged", []*op.Op{mkdir("e"), create("e/f"), rename("d", "e", unix.RENAME_EXCHANGE)}, "d/f", `
			d/f file 0644 @2 "new"
			e directory 0755 @1
			e/f file 0644 @2 "d/f"
			f file 0644 @2 "f"`},
		{"the directory was removed and made again", []*op.Op{remove(op.Unlink, "d/f"), remove(op.Rmdir, "d"), mkdir("d"), create("d/f")}, "d/f", `
			d/f file 0644 @2 "new"
			f file 0644 @2 "f"`},
		{"put anew", []*op.Op{link("f", "g"), with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Flags = op.Fresh })}, "f", `
			d/f file 0644 @2 "d/f"
			f file 0600 @2 "new"
			g file 0644 @2 "f"`},
		{"put as a link", []*op.Op{putLink("d/f", "f")}, "f", `
			d/f file 0644 @2 "new"
			f file 0644 @2 "new" is d/f`},
		{"no name of the directory's any more", []*op.Op{{Kind: op.PutNames, Path: "d"}, create("d/f")}, "d/f", `
			d/f file 0644 @2 "new"
			f file 0644 @2 "f"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			apply(t, tr, mkdir("d"), create("f"), create("d/f"), write("f", 0, "f"), write("d/f", 0, "d/f"))
			apply(t, tr, c.ops...)
			apply(t, tr, write(c.to, 0, "new"), touch("d", 1))
			expect(t, tr, root+"1\nd directory 0755 @1"+c.want)
		})
	}
}

// Leniently made way drops descriptors as well.
func TestMakingWayForgets(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), create("d/f"), write("d/f", 0, "old"))
	lenient(t, tr, mkdir("d"), create("d/f"), write("d/f", 0, "new"), create("d/f"), write("d/f", 1, "er"), touch("d", 1))
	expect(t, tr, root+`1
		d directory 0755 @1
		d/f file 0644 @2 "\x00er"`)
}

// openFiles counts the descriptors of this process below dir.
func openFiles(t testing.TB, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

func TestDescriptorsAreBounded(t *testing.T) {
	tr, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * cachedDirs {
		dir := fmt.Sprintf("d%d", i)
		apply(t, tr, mkdir(dir), create(dir+"/f"), write(dir+"/f", 0, "x"))
		for name, err := range map[string]error{
			"make again":  tr.Apply(create(dir + "/f")),
			"write a dir": tr.Apply(write(dir, 0, "x")),
			"find":        func() error { _, _, err := tr.Describe(dir + "/none"); return err }(),
			"list a file": func() error { _, err := tr.Names(dir + "/f"); return err }(),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	if _, err := Diff(tr, tr); err != nil {
		t.Error(err)
	}
	if n, most := openFiles(t, tr.Dir()), 1+cachedDirs+cachedFiles; n > most {
		t.Errorf("%d descriptors are open, want %d at most", n, most)
	}
	for i := range 2 * cachedDirs {
		lenient(t, tr, remove(op.Rmdir, fmt.Sprintf("d%d", i)))
	}
	if n := openFiles(t, tr.Dir()); n != 1 {
		t.Errorf("%d descriptors are open of an empty tree, want its root's", n)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if n := openFiles(t, tr.Dir()); n != 0 {
		t.Errorf("%d descriptors are open of a closed tree", n)
	}
}

// A descriptor that was opened while its directory moved stands for the old
// path, and is not kept for whoever asks for that next.
func TestMovedWhileItWasOpened(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), create("d/old"))
	_, drops := tr.dirs.get("d")
	fd, err := walk(int(tr.root.Fd()), "d")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, tr, rename("d", "e", 0), mkdir("d"), touch("d", 1))
	tr.dirs.put("d", fd, drops).release()
	apply(t, tr, create("d/new"))
	expect(t, tr, root+`1
		d directory 0755 @1
		d/new file 0644 @2 ""
		e directory 0755 @1
		e/old file 0644 @2 ""`)
}

// The same as a race: readers look while directories change places.
func TestReadersBesideRenames(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("a"), mkdir("b"), create("a/a"), create("b/b"))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, path := range []string{"a/a", "a/b", "b/a", "b/b"} {
					if _, _, err := tr.Describe(path); err != nil && !missing(err) {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
		})
	}
	names := [2]string{"a", "b"} // what is in directories a and b
	for range 500 {
		apply(t, tr, rename("a", "b", unix.RENAME_EXCHANGE))
		names[0], names[1] = names[1], names[0]
		for i, dir := range []string{"a", "b"} {
			if _, _, err := tr.Describe(dir + "/" + names[i]); err != nil {
				t.Fatalf("a descriptor of %s is another directory's: %v", dir, err)
			}
		}
	}
	close(done)
	readers.Wait()
}

// Names have any bytes, and paths any length.
func TestNamesAndDepth(t *testing.T) {
	tr := newTree(t)
	for _, name := range []string{"\xff\xfe", "\n", "a\tb", "...", "-rf", " ", "\\", `"`, "é", strings.Repeat("x", 255)} {
		apply(t, tr, create(name), write(name, 0, name), remove(op.Unlink, name))
	}
	for _, long := range []string{strings.Repeat("d", 255), "not so long a name"} {
		deep := op.Root
		for len(deep) < 5000 {
			deep = op.JoinPath(deep, long)
			apply(t, tr, mkdir(deep))
		}
		file, moved := op.JoinPath(deep, "f"), op.JoinPath(deep, "g")
		apply(t, tr, create(file), write(file, 0, "x"), rename(file, moved, 0), link(moved, file),
			&op.Op{Kind: op.SetXattr, Path: file, Name: "user.x", Data: []byte("v")})
		put, id, err := tr.Describe(moved)
		if err != nil || put.Attr.Size != 1 || len(put.Xattrs) != 1 || id.Nlink != 2 {
			t.Errorf("at a depth of %d bytes: %v, %+v, error %v", len(file), put, id, err)
		}
		other := newTree(t)
		if err := tr.State(long, func(o *op.Op) error { return other.Apply(o) }); err != nil {
			t.Fatal(err)
		}
		apply(t, other, touch(op.Root, 1))
		same(t, tr, other)
		lenient(t, tr, remove(op.Rmdir, long))
		lenient(t, other, remove(op.Rmdir, long)) // the test's own cleaning up gives in to such a path
	}
	expect(t, tr, root+"1")
	if _, err := tr.At(strings.Repeat("x", 5000) + "/f"); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name of 5000 bytes: error %v", err)
	}
}
