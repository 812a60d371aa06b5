package divergence

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Each epoch has a divergence of its own, and each ends once.
func TestTwoDivergences(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"))
	n.keep()
	n.do(write("f", 0, "epoch"))
	if err := CloseAll(n.state, op.Epoch{}, Closed{Joined: true, How: "joined"}); err != nil {
		t.Fatal(err)
	}
	higher := func(cfg *Config) { cfg.Epoch.Number, cfg.Before = 5, epoch }
	n.keep(higher)
	n.do(write("f", 0, "other"))
	n.keep(func(cfg *Config) { cfg.Epoch.Number = 6 })
	all, err := List(n.state)
	if err != nil || len(all) != 2 || all[0].ID == all[1].ID {
		t.Fatalf("%v, %v", all, err)
	}
	if c := all[0].Closed; c == nil || !c.Joined {
		t.Errorf("the first: %+v", c)
	}
	if c := all[1].Closed; c == nil || c.Joined || c.When.IsZero() || !strings.Contains(c.How, "epoch 6/") {
		t.Errorf("the second: %+v", c)
	}
	if h := all[1].Header; h.Epoch.Number != 5 || h.Before != epoch {
		t.Errorf("header %+v", h)
	}
	for i, want := range []string{"first", "epoch"} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := all[i].Export(n.tree, dir); err != nil {
			t.Fatal(err)
		}
		if got := n.read(filepath.Join(dir, FilesDir, "f")); string(got) != want {
			t.Errorf("divergence %d has %q, want %q", i, got, want)
		}
	}
}

func TestDrop(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, strings.Repeat("first", region)))
	n.keep()
	n.do(write("f", 0, "x"))
	id := n.only().ID
	for _, bad := range []string{"", "x", id + "x"} {
		if _, err := Drop(n.state, bad, true); !errors.Is(err, ErrNone) {
			t.Errorf("drop of %q: %v", bad, err)
		}
	}
	if _, err := Drop(n.state, id, false); err == nil || !strings.Contains(err.Error(), "is open") {
		t.Errorf("drop of an open one: %v", err)
	}
	// By force under a running keeper, which begins another one.
	if dropped, err := Drop(n.state, id[:8], true); err != nil || dropped != id {
		t.Fatalf("%q, %v", dropped, err)
	}
	if got := n.kept(); len(got) > 0 {
		t.Errorf("after the drop there is %q", got)
	}
	n.has(create("g"), write("g", 0, "second"))
	n.do(write("g", 0, "x"), write("f", region, "y"))
	n.wantBack("g", "second")
	if _, made := n.export(); len(made) != 2 || !made[1].Whole {
		t.Errorf("made %+v", made) // with a description of its own
	}
	// A kill in the middle of a drop: the rest goes at the next start.
	if err := os.Mkdir(filepath.Join(n.state, folder, hidden+id), 0o700); err != nil {
		t.Fatal(err)
	}
	n.keep()
	if left, err := os.ReadDir(filepath.Join(n.state, folder)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
