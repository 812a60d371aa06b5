package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"golang.org/x/sys/unix"
)

// TestMend changes things past a mount that knows them, and looks at them through
// it.
func TestMend(t *testing.T) {
	r := &recorder{}
	m := mount(t, r, fs.Options{IdleTimes: time.Hour})
	must(t, os.Mkdir(m.Dir+"/d", 0o755))
	for _, name := range []string{"f", "d/gone", "d/other", "d/mode"} {
		write(t, m.Dir+"/"+name, "before")
	}
	below := func(name string) string { return filepath.Join(m.Backing, name) }
	// The kernel knows all of it, also what is not there.
	open, err := os.OpenFile(m.Dir+"/d/gone", os.O_RDWR, 0)
	must(t, err)
	defer open.Close()
	for _, name := range []string{"f", "d/gone", "d/other", "d/mode"} {
		read(t, m.Dir+"/"+name)
	}
	for _, name := range []string{"new", "d/new"} {
		if _, err := os.Stat(m.Dir + "/" + name); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	list(t, m.Dir+"/d")
	before := len(r.taken())

	for _, tc := range []struct {
		path   string
		change func() error
	}{
		{"f", func() error { return os.WriteFile(below("f"), []byte("after!"), 0o644) }},
		{"d/mode", func() error { return os.Chmod(below("d/mode"), 0o600) }},
		{"d/gone", func() error { return os.Remove(below("d/gone")) }},
		{"d/other", func() error {
			return errors.Join(os.WriteFile(below("d/swap"), []byte("another"), 0o644), os.Rename(below("d/swap"), below("d/other")))
		}},
		{"d/new", func() error { return os.WriteFile(below("d/new"), []byte("new"), 0o644) }},
		{"new", func() error { return os.Mkdir(below("new"), 0o755) }},
		{"new/below", func() error { return os.Symlink("x", below("new/below")) }},
	} {
		done := make(chan error, 1)
		must(t, m.fs.Mend(tc.path, func() error {
			go func() { done <- os.Chmod(m.Dir+"/f", 0o640) }()
			select {
			case err := <-done:
				t.Errorf("mend %s: a change came through (%v)", tc.path, err)
				done <- err
			case <-time.After(20 * time.Millisecond): // it stays away: nothing to await
			}
			return tc.change()
		}))
		must(t, <-done)
	}
	for name, want := range map[string]string{"f": "after!", "d/other": "another", "d/new": "new", "d/mode": "before"} {
		if got := read(t, m.Dir+"/"+name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	var st unix.Stat_t
	must(t, unix.Lstat(m.Dir+"/d/mode", &st))
	if st.Mode&0o777 != 0o600 {
		t.Errorf("the mode is %o", st.Mode)
	}
	if text, err := os.Readlink(m.Dir + "/new/below"); err != nil || text != "x" {
		t.Errorf("the new link is %q, %v", text, err)
	}
	if _, err := os.Stat(m.Dir + "/d/gone"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is gone: %v", err)
	}
	if got := list(t, m.Dir+"/d"); !slices.Equal(got, []string{"mode", "new", "other"}) {
		t.Errorf("the listing is %q", got)
	}

	// Mending is no op, and what is open has no name any more.
	after := r.taken()
	for _, o := range after[before:] {
		if o.Path != "f" {
			t.Errorf("an op of its own: %v", o)
		}
	}
	_, err = open.WriteAt([]byte("B"), 0)
	must(t, err)
	b := make([]byte, 6)
	if _, err := open.ReadAt(b, 0); err != nil || string(b) != "Before" {
		t.Errorf("what is open holds %q, %v", b, err)
	}
	must(t, open.Sync())
	for _, o := range r.taken()[len(after):] {
		if o.Path != "" {
			t.Errorf("a change of what has no name has one: %v", o)
		}
	}
	if err := m.fs.Mend("f", func() error { return unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("an error of what mends: %v", err)
	}
}
