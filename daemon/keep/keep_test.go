package keep

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
)

var quiet = slog.New(slog.DiscardHandler)

func openStore(t *testing.T, dir string) *state.Store {
	t.Helper()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *state.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func makeDirs(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// newTestKeeper returns the keeper of a mirror that was level an hour ago, with a
// replica that has no reflinks.
func newTestKeeper(t *testing.T, mode Mode) (*Keeper, *[]string) {
	t.Helper()
	dir := t.TempDir()
	replica := filepath.Join(dir, "replica")
	makeDirs(t, replica)
	s := openStore(t, filepath.Join(dir, "state"))
	if err := s.Update(func(st *state.State) error { st.Level(time.Now().Add(-time.Hour)); return nil }); err != nil {
		t.Fatal(err)
	}
	var events []string
	k := New(mode, s, openedTree(t, replica), quiet, func(kind, text string) { events = append(events, kind+": "+text) })
	t.Cleanup(func() {
		k.Close()
		closeStore(t, s)
	})
	return k, &events
}

// keepNow is keep until the copy is made, or cannot be.
func keepNow(k *Keeper) error {
	for {
		if err := k.Keep(context.Background()); !errors.Is(err, errKeeping) {
			return err
		}
	}
}

// sharing reports whether files of the test's directory can share data; then
// there is something to keep.
func sharing(t *testing.T, k *Keeper) bool {
	t.Helper()
	return k.tree.CanClone(k.store.Dir()) == nil
}

func TestKeepWithoutReflinks(t *testing.T) {
	for mode, want := range map[Mode]string{Auto: "no reflinks", Off: "keep_consistent is off", On: ""} {
		t.Run(string(mode), func(t *testing.T) {
			k, events := newTestKeeper(t, mode)
			if sharing(t, k) {
				t.Skip("the test's directory has reflinks: tests/cluster sees to them")
			}
			for range 2 {
				err := keepNow(k)
				if (err != nil) != (mode == On) {
					t.Fatalf("keep: %v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), "keep_consistent is on") || !strings.Contains(err.Error(), "no reflinks")) {
					t.Errorf("keep: %v", err)
				}
			}
			if got := k.store.Get().NotKept; !strings.Contains(got, want) {
				t.Errorf("not kept because %q, want %q", got, want)
			}
			// What an operator has chosen is no news, and nothing is news twice.
			if n := len(*events); n > 1 || n == 1 != (mode == Auto) {
				t.Errorf("events %q", *events)
			}
		})
	}
}

// TestSweep finds what crashes have left.
func TestSweep(t *testing.T) {
	k, _ := newTestKeeper(t, Auto)
	for _, name := range []string{unfinished + "/tree/dir", unfinished + "/links", keptDir + "/dir", discardedDir + "/consistent-1/dir"} {
		makeDirs(t, k.path(name))
		if err := os.WriteFile(filepath.Join(k.path(name), "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := func() []string {
		t.Helper()
		var names []string
		for _, name := range []string{unfinished, keptDir, discardedDir} {
			if _, err := os.Lstat(k.path(name)); err == nil {
				names = append(names, name)
			}
		}
		return names
	}
	kept := func(to *state.Kept) {
		t.Helper()
		if err := k.store.Update(func(s *state.State) error { s.Kept = to; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	kept(&state.Kept{AsOf: time.Now()})
	k.Sweep()
	k.tasks.Wait()
	// Where it would go is there for it: a full disk may have no room to make that.
	if got := left(); !slices.Equal(got, []string{keptDir, discardedDir}) {
		t.Errorf("with a consistent state there are %q", got)
	}
	if names, err := os.ReadDir(k.path(discardedDir)); len(names) > 0 || err != nil {
		t.Errorf("what was discarded is still there: %v, %v", names, err)
	}
	kept(nil)
	k.Sweep()
	k.tasks.Wait()
	if got := left(); len(got) > 0 {
		t.Errorf("without one there are %q", got)
	}
	// An operator has removed it.
	kept(&state.Kept{AsOf: time.Now()})
	k.Sweep()
	if s := k.store.Get(); s.Kept != nil || !strings.Contains(s.NotKept, "was removed") {
		t.Errorf("of a state that is gone is recorded %+v, %q", s.Kept, s.NotKept)
	}
}
