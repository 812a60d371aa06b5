package mirror

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// What a replica tells of a path: by that a file's other name is found.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for _, d := range []string{"d", "empty", "cache"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "d/a"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"d/b", "cache/c"} {
		if err := os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, other)); err != nil {
			t.Fatal(err)
		}
	}
	travels, err := Travels([]Rule{{Match: "cache", Sync: SyncLocal}})
	if err != nil {
		t.Fatal(err)
	}
	look := Look(tr, travels)
	a, err := look("d/a")
	if err != nil || a.Mode&unix.S_IFMT != unix.S_IFREG || a.Size != 5 || a.Links != 3 || a.Names != nil || a.Local {
		t.Errorf("of a file: %+v, %v", a, err)
	}
	if c, err := look("cache/c"); err != nil || !c.Local || c.Ino != a.Ino {
		t.Errorf("of a name that is not mirrored: %+v, %v", c, err)
	}
	if _, err := look("d/none"); err == nil {
		t.Error("there is something where nothing is")
	}
	for path, want := range map[string][]string{"d": {"a", "b"}, "empty": nil, ".": {"cache", "d", "empty"}} {
		st, err := look(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(slices.Values(st.Names(10))); !slices.Equal(got, want) {
			t.Errorf("in %q are %q, want %q", path, got, want)
		}
	}
	if st, _ := look("d"); len(st.Names(1)) != 1 {
		t.Errorf("of two names %q are one", st.Names(1))
	}
}
