package region

import (
	"errors"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// What is idle for a generation, stored and committed is forgotten, and only
// then.
func TestForget(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("idle", 0))
	f.do(write4K("busy", 0))
	f.checkpoint()
	f.hot(Mark{Path: "busy", To: Extent}, Mark{Path: "idle", To: Extent})
	f.do(write4K("busy", 0))
	f.checkpointAt(1) // "busy" was changed at 2 in the generation that is looked at
	f.hot(Mark{Path: "busy", To: Extent}, Mark{Path: "idle", To: Extent})
	f.do(write4K("busy", 0))
	f.checkpoint()
	f.hot(Mark{Path: "busy", To: Extent})
	f.crash()
	f.hot(Mark{Path: "busy", To: Extent})
}

// RULES.md 2, Fold: what is forgotten is in the maps of all that are outside.
func TestFold(t *testing.T) {
	f := newFixture(t)
	f.know(1, 2)
	f.do(write4K("f", 0))
	f.checkpoint(1)
	f.checkpoint(1)
	f.hot()
	f.crash()
	want := []Mark{{Path: "f", To: Extent}}
	if got := f.Suspect(1); !slices.Equal(got, want) {
		t.Errorf("of a node outside: %v", got)
	}
	if got := f.Suspect(2); len(got) > 0 {
		t.Errorf("of a member: %v", got)
	}
	if got := f.Suspect(3); !slices.Equal(got, []Mark{Everything}) {
		t.Errorf("of a stranger: %v", got)
	}
	f.know(1)
	f.crash()
	if got := f.Suspect(1); len(got) > 0 || !f.Known(1) {
		t.Errorf("once it is level: %v", got)
	}
}

// RULES.md 3, KeepPastJoin, and 11: positions of another line say nothing.
func TestRestart(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	f.Restart(100)
	for range 3 {
		f.checkpointAt(99)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpointAt(100)
	f.hot()
}

// A sync that failed is not made up for by one that did not, but by finding out
// what the disk has since the last one that failed.
func TestLostSync(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	var told error
	err := f.Checkpoint(Checkpoint{Allowed: func() bool { return true }, Sync: func() error { return unix.EIO }, Failed: func(err error) {
		told = err
		if f.losses != 1 {
			t.Error("it is told before it counts")
		}
	}})
	if !errors.Is(err, unix.EIO) || !errors.Is(told, unix.EIO) {
		t.Fatalf("error %v, told %v", err, told)
	}
	kept := func(what string) {
		t.Helper()
		for range 3 {
			f.checkpoint()
		}
		if got := f.Hot(); len(got) != 1 {
			t.Errorf("%s: hot are %v", what, got)
		}
	}
	kept("after a loss")
	n := f.Lost()
	f.Lost()
	f.Found(n)
	kept("found out before the newest loss")
	f.know(9)
	f.Found(f.Lost())
	f.checkpoint(9)
	f.checkpoint(9)
	f.hot()
	if got := f.Stale(9); len(got) != 1 {
		t.Errorf("a node outside lacks %v", got)
	}
}

// A sync that goes well because one beside it has taken the news of a loss.
func TestLossElsewhere(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { f.Found(f.Lost()); return nil },
		Committed: func(op.LSN) bool { return true },
		Outside:   func() []op.NodeID { return nil },
		Allowed:   func() bool { return true },
	}); err != nil {
		t.Fatal(err)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpoint()
	f.hot()
}

// Where what was put off could not be ordered nothing is forgotten.
func TestNotSettled(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	away := errors.New("no mirror")
	if err := f.Checkpoint(Checkpoint{Allowed: func() bool { return true }, Settle: func() error { return away }}); !errors.Is(err, away) {
		t.Fatalf("error %v", err)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpoint()
	f.hot()
}

// A checkpoint that is not allowed any more when it comes to forgetting does
// not.
func TestNotAllowed(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	allowed := true
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { allowed = false; return nil },
		Committed: func(op.LSN) bool { return true },
		Outside:   func() []op.NodeID { return nil },
		Allowed:   func() bool { return allowed },
	}); err != nil {
		t.Fatal(err)
	}
	if allowed {
		t.Error("it did not get so far")
	}
	f.hot(Mark{Path: "f", To: Extent})
}
