package tree_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/tests/harness"
	"golang.org/x/sys/unix"
)

// populate puts an object of each kind below dir, with all that one can have.
func populate(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(path string) string { return filepath.Join(dir, path) }
	must(os.Mkdir(at("dir"), 0o2751))
	must(os.Chmod(at("dir"), 0o2751|os.ModeSetgid))
	must(os.Mkdir(at("dir/empty"), 0o700))
	must(os.WriteFile(at("dir/file"), []byte(strings.Repeat("text ", 50_000)), 0o640))
	must(os.WriteFile(at("none"), nil, 0o600))
	must(os.Link(at("dir/file"), at("second")))
	must(os.Link(at("dir/file"), at("dir/empty/third")))
	must(os.WriteFile(at("sparse"), []byte("start"), 0o600))
	f, err := os.OpenFile(at("sparse"), os.O_WRONLY, 0)
	must(err)
	_, err = f.WriteAt([]byte("middle"), 5<<20)
	must(err)
	must(f.Truncate(9 << 20))
	must(f.Close())
	must(os.WriteFile(at("owned"), []byte("x"), 0o600))
	must(os.Chown(at("owned"), 1234, 4321))
	must(os.Chmod(at("owned"), 0o755|os.ModeSetuid))
	must(unix.Setxattr(at("owned"), "user.colour", []byte("blue"), 0))
	must(unix.Setxattr(at("owned"), "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(os.Symlink(strings.Repeat("../x", 40), at("link")))
	must(unix.Lsetxattr(at("link"), "trusted.note", []byte("of a link"), 0))
	must(unix.Mkfifo(at("fifo"), 0o622))
	must(unix.Mknod(at("device"), unix.S_IFCHR|0o600, 259<<8|7))
	must(os.WriteFile(at("a name\nof \xff two lines"), []byte("y"), 0o600))
	must(os.Mkdir(at("many"), 0o755))
	for i := range 3_000 {
		must(os.WriteFile(at(fmt.Sprintf("many/%d-%s", i, strings.Repeat("n", 40))), nil, 0o644))
	}
	deep := at("deep")
	for range 30 {
		must(os.Mkdir(deep, 0o755))
		deep += "/" + strings.Repeat("d", 100)
	}
	must(os.WriteFile(at("locked"), []byte("for good"), 0o644))
	must(os.Link(at("locked"), at("locked too")))
	must(os.Mkdir(at("closed"), 0o755))
	must(os.WriteFile(at("closed/in"), []byte("in"), 0o644))
	for path, flags := range map[string]uint32{"locked": op.InodeImmutable, "closed": op.InodeAppend} {
		f, err := os.Open(at(path))
		must(err)
		must(tree.SetInodeFlags(int(f.Fd()), flags))
		must(f.Close())
	}
	for i, path := range []string{"dir/empty", "dir", "sparse", "owned", "deep", "many", "."} {
		when := unix.NsecToTimespec(int64(i+1)*1e18 + 7)
		must(unix.UtimesNanoAt(unix.AT_FDCWD, at(path), []unix.Timespec{when, when}, 0))
	}
}

// openTree opens a tree until the test ends.
func openTree(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// go on: what Clone, MoveAll and Clear are given where nothing shall end them.
func goOn() error { return nil }

func TestClone(t *testing.T) {
	for _, kind := range harness.ReflinkDisks {
		t.Run(kind, func(t *testing.T) {
			disk := harness.NewReflinkDisk(t, filepath.Join(t.TempDir(), "disk"), kind, 400<<20).Dir
			from, to, moved := filepath.Join(disk, "from"), filepath.Join(disk, "to"), filepath.Join(disk, "moved")
			for _, dir := range []string{from, to, moved} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			populate(t, from)
			big := filepath.Join(from, "big")
			if err := os.WriteFile(big, make([]byte, 30<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			fill(t, big)
			tr := openTree(t, from)
			if err := tr.CanClone(to); err != nil {
				t.Fatal(err)
			}
			if err := tr.Sync(); err != nil {
				t.Fatal(err)
			}
			before := used(t, disk)
			objects := 0
			if err := tr.Clone(to, func() error { objects++; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := tr.Sync(); err != nil {
				t.Fatal(err)
			}
			if grown := used(t, disk) - before; grown > 20<<20 {
				t.Errorf("the copy takes %d bytes: it shares nothing", grown)
			}
			copied := filepath.Join(to, "tree")
			if differ := harness.DifferentReplicas(t, from, copied); len(differ) > 0 {
				t.Errorf("the copy differs:\n%s", strings.Join(differ, "\n"))
			}
			if objects < 3_000 {
				t.Errorf("it says that it copied %d objects", objects)
			}
			if names, err := harness.ReadNames(to); err != nil || len(names) != 1 {
				t.Errorf("beside the copy there are %q, %v", names, err)
			}
			want, err := harness.ReadSnapshot(copied)
			if err != nil {
				t.Fatal(err)
			}

			// It is moved in two goes.
			into, enough, n := openTree(t, moved), errors.New("enough"), 0
			copiedTree := openTree(t, copied)
			err = copiedTree.MoveAll(into, func() error {
				if n++; n == 5 {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Errorf("ended after 5 names, MoveAll says %v", err)
			}
			if err := copiedTree.MoveAll(into, goOn); err != nil {
				t.Fatal(err)
			}
			if err := tr.Clear(goOn); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{from, copied} {
				if names, err := harness.ReadNames(dir); err != nil || len(names) > 0 {
					t.Errorf("%s still has %q, %v", dir, names, err)
				}
			}
			got, err := harness.ReadSnapshot(moved)
			if err != nil {
				t.Fatal(err)
			}
			delete(want, ".") // a root's own attributes do not move
			delete(got, ".")
			for _, d := range harness.Differences(want, got, harness.Aspects{}) {
				t.Error(d)
			}
			if err := into.Clear(goOn); err != nil {
				t.Error(err) // nobody else could remove what is locked
			}
		})
	}
}

// TestCannotClone tries what has no reflinks, and two file systems.
func TestCannotClone(t *testing.T) {
	dir := t.TempDir()
	plain := harness.NewDisk(t, filepath.Join(dir, "ext4"), 16<<20).Dir
	other := harness.NewDisk(t, filepath.Join(dir, "other"), 16<<20).Dir
	for to, want := range map[string]string{plain: "the file system has none", other: "different file systems"} {
		err := openTree(t, plain).CanClone(to)
		if !errors.Is(err, tree.ErrNoClone) || !strings.Contains(err.Error(), want) {
			t.Errorf("CanClone(%s) = %v, want %q", to, err, want)
		}
		if names, err := harness.ReadNames(to); err != nil || len(names) > 0 {
			t.Errorf("it left %q, %v", names, err)
		}
	}
}

// fill writes bytes that no file system stores as holes.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(0); off < 30<<20; off += 1 << 20 {
		if _, err := f.WriteAt([]byte(strings.Repeat(fmt.Sprintf("%08d", off), 1<<17)), off); err != nil {
			t.Fatal(err)
		}
	}
}

// used is how many bytes of a file system are taken.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}
