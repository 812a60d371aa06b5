package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
)

// backup is what a node that does not run has, its state too.
type backup struct{ replica, state string }

func (m *machine) copyAway() backup {
	m.t.Helper()
	dir := m.t.TempDir()
	b := backup{filepath.Join(dir, "replica"), filepath.Join(dir, "state.db")}
	copyAll(m.t, m.replica, b.replica)
	copyAll(m.t, filepath.Join(DefaultStateDir(m.replica), "state.db"), b.state)
	return b
}

// restore puts it back in place: the directories themselves stay.
func (m *machine) restore(b backup) {
	m.t.Helper()
	names, err := os.ReadDir(m.replica)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range names {
		if err := os.RemoveAll(filepath.Join(m.replica, e.Name())); err != nil {
			m.t.Fatal(err)
		}
	}
	copyAll(m.t, b.replica+"/.", m.replica)
	copyAll(m.t, b.state, filepath.Join(DefaultStateDir(m.replica), "state.db"))
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

// TestRestored has a node go back to a backup, with its state, after all that was
// written since is forgotten everywhere: it is not taken for equal.
func TestRestored(t *testing.T) {
	begin := func(t *testing.T) (a, b *machine, start func(), write func(string)) {
		a, b = newMachine(t, "alpha"), newMachine(t, "beta")
		often := func(cfg Config) Config { cfg.Mirror.CheckpointEvery = 20 * time.Millisecond; return cfg }
		start = func() {
			t.Helper()
			if b.stop == nil {
				b.start(often(b.config(Mirror, 0)))
			}
			if a.stop == nil {
				a.start(often(a.config(Primary, 0, b)))
			}
		}
		write = func(text string) {
			t.Helper()
			a.inSync(1)
			if err := a.write("file", text); err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing is hot", func() bool { return a.status().Hot+b.status().Hot == 0 })
		}
		start()
		write("old")
		return a, b, start, write
	}
	t.Run("a mirror", func(t *testing.T) {
		a, b, start, write := begin(t)
		b.halt()
		old := b.copyAway()
		start()
		write("new")
		b.halt()
		start()
		write("newer")
		a.halt() // its next line is another one: nothing resumes
		b.halt()
		b.restore(old)
		start()
		a.inSync(1)
		b.holds(filepath.Join(b.replica, "file"), "newer")
		equal(t, a, b)
	})
	t.Run("the primary", func(t *testing.T) {
		a, b, start, write := begin(t)
		a.halt()
		old := a.copyAway()
		start()
		write("new")
		a.halt()
		start()
		write("newer")
		a.halt()
		a.restore(old)
		start()
		eventually(t, "it says so", func() bool { return strings.Contains(a.status().Mirroring.Peers[0].Reason, "restored from a backup") })
		b.holds(filepath.Join(b.replica, "file"), "newer")
		// What the refusal says.
		a.halt()
		if _, err := b.promote(admin.PromoteRequest{Mirrors: []string{a.addr}}); err != nil {
			t.Fatal(err)
		}
		a.start(a.config(Mirror, 0))
		b.inSync(1)
		a.holds(filepath.Join(a.replica, "file"), "newer")
		equal(t, a, b)
	})
}

// TestCopiesBeginOtherLines: two copies of a primary's state do not begin the same
// line, across which a mirror would resume (RULES.md 11, NewLine).
func TestCopiesBeginOtherLines(t *testing.T) {
	dir := t.TempDir()
	lines := make(map[op.Line]bool)
	begin := func(name string) {
		store, err := state.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		n := &node{store: store, log: quiet}
		term, err := n.begin()
		if err = errors.Join(err, store.Close()); err != nil {
			t.Fatal(err)
		}
		lines[term.line] = true
	}
	begin("first")
	copyAll(t, filepath.Join(dir, "first"), filepath.Join(dir, "second"))
	begin("first")
	begin("second")
	if len(lines) != 3 {
		t.Errorf("%d lines: %v, want 3", len(lines), lines)
	}
}
