package tree

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Describing a symbolic link leaves no trace.
func TestDescribeLinkQuietly(t *testing.T) {
	tr := newTree(t)
	if tr.quiet < 0 {
		t.Skip("a mount of our own is not allowed here")
	}
	apply(t, tr, mkdir("d"), mkdir("d/e"), symlink("l", "at the top"), symlink("d/e/l", "below"))
	long := []unix.Timespec{{Sec: 1}, {Sec: 2}} // so old that any reading moves it
	for _, name := range []string{"l", "d/e/l"} {
		path := filepath.Join(tr.Dir(), name)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, long, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		o, _, err := tr.Describe(name)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"l": "at the top", "d/e/l": "below"}[name]; string(o.Data) != want {
			t.Errorf("%s leads to %q, want %q", name, o.Data, want)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Atim != long[0] {
			t.Errorf("%s was read at %v", name, st.Atim)
		}
	}
}
