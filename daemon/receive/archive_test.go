package receive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// diverged is a rig whose replica may hold what nobody else has.
func diverged(t *testing.T, files map[string]string) *rig {
	t.Helper()
	g := newRig(t)
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(g.dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.store.Update(func(s *state.State) error {
		s.Volume, s.Role = hello().Volume, state.Mirror
		s.See(op.Epoch{Number: 0, Owner: otherNode}, 1, s.PrimaryHeard)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return g
}

// divergences lists what is kept, as "ID-less epoch: path path, closed how".
func (g *rig) divergences() []string {
	g.t.Helper()
	all, err := divergence.List(g.state)
	if err != nil {
		g.t.Fatal(err)
	}
	var text []string
	for _, a := range all {
		line := a.Epoch.String() + ":"
		for _, o := range a.Objects {
			line += " " + o.Paths[0].String()
		}
		if a.Closed != nil {
			line += ", " + a.Closed.How
		}
		text = append(text, line)
	}
	return text
}

func (g *rig) wantDivergences(want ...string) {
	g.t.Helper()
	if got := g.divergences(); strings.Join(got, "|") != strings.Join(want, "|") {
		g.t.Errorf("kept %q, want %q", got, want)
	}
}

// RULES.md 9, Archive: what was there is on stable storage before it is
// overwritten.
func TestKeptBeforeApplied(t *testing.T) {
	g := diverged(t, map[string]string{"f": "old", "g": "old"})
	syncs := 0
	g.recv.syncArchive = func(f *os.File) error {
		if syncs++; syncs <= 2 {
			g.content("f", "old")
		}
		return f.Sync()
	}
	p := g.start(hello(), false)
	p.applied(p.send(write("f", 0, "new")))
	g.content("f", "new")
	if syncs != 2 {
		t.Errorf("%d syncs, want one of the data and one of the manifest", syncs)
	}
	g.wantDivergences("1/000000000000000a: f")

	// Until it has joined, and no longer; strict or not.
	p.tell(wire.KindPrepareJoin, wire.PrepareJoin{})
	p.hear(wire.KindPrepared, new(wire.Prepared))
	p.applied(p.send(&op.Op{Kind: op.Unlink, Path: "g"}))
	g.wantDivergences("1/000000000000000a: f g")
	p.join(g)
	p.applied(p.send(create("h"), write("h", 0, "x"), &op.Op{Kind: op.Unlink, Path: "h"}, &op.Op{Kind: op.Unlink, Path: "f"}))
	g.wantDivergences("1/000000000000000a: f g, joined a")
}

// What cannot be kept is not overwritten.
func TestNotKeptNotApplied(t *testing.T) {
	g := diverged(t, map[string]string{"f": "old"})
	g.recv.syncArchive = func(*os.File) error { return unix.EIO }
	p := g.start(hello(), false)
	p.send(write("f", 0, "new"))
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	if err := p.ended(); err == nil || !bye.NotInSync || !strings.HasPrefix(bye.Reason, "disk failing: ") || !strings.Contains(bye.Reason, "nothing is overwritten") {
		t.Errorf("goodbye %+v, Serve returned %v", bye, err)
	}
	g.content("f", "old")
	if st := g.store.Get(); st.InSync || st.Reason != bye.Reason || !st.ArchiveUntilJoined {
		t.Errorf("recorded: %+v", st)
	}
	events, err := g.store.Events(10)
	if err != nil || len(events) == 0 || events[len(events)-1].Kind != "divergence" || events[len(events)-1].Text != bye.Reason {
		t.Errorf("events %+v, %v", events, err)
	}

	// The next session goes on with it.
	g.recv.syncArchive = nil
	p = g.start(hello(), false)
	p.applied(p.send(write("f", 0, "new")))
	g.content("f", "new")
	g.wantDivergences("1/000000000000000a: f")
}

func TestDivergenceLimit(t *testing.T) {
	g := diverged(t, map[string]string{"f": strings.Repeat("x", 1<<20)})
	g.recv.cfg.DivergenceLimit = 1 << 20
	p := g.start(hello(), false)
	p.send(&op.Op{Kind: op.Unlink, Path: "f"})
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	if err := p.ended(); err == nil || !strings.Contains(bye.Reason, "raise divergence_limit, or export and drop") {
		t.Errorf("goodbye %+v, Serve returned %v", bye, err)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "f")); err != nil {
		t.Error(err)
	}
	g.recv.cfg.DivergenceLimit = 2 << 20
	p = g.start(hello(), false)
	p.applied(p.send(&op.Op{Kind: op.Unlink, Path: "f"}))
	g.wantDivergences("1/000000000000000a: f")
}

// Another session of the same epoch, and another process, go on with the same
// divergence; a higher epoch begins another.
func TestDivergenceGoesOn(t *testing.T) {
	g := diverged(t, map[string]string{"f": "old", "g": "old"})
	p := g.start(hello(), false)
	p.applied(p.send(write("f", 0, "new"), create("h"), write("h", 0, "x")))
	p.lose()
	next := hello()
	next.Line.Incarnation++
	p = g.start(next, false)
	p.applied(p.send(write("f", 0, "two"), write("h", 0, "the primary's")))
	g.wantDivergences("1/000000000000000a: f")
	p.lose()
	g.recv.archive = nil // as in another process
	next.Line.Incarnation++
	p = g.start(next, false)
	p.applied(p.send(write("f", 0, "six"), write("g", 0, "new")))
	g.wantDivergences("1/000000000000000a: f g")
	p.lose()
	next.Line.Epoch.Number++
	p = g.connect()
	if a := p.greet(next); a.Refusal != nil {
		t.Fatal(a.Refusal)
	}
	p.tell(wire.KindBegin, wire.Begin{Policy: wire.Policy{OnShortage: "block"}})
	p.hear(wire.KindBegun, new(wire.Begun))
	if got := g.divergences(); len(got) != 1 || !strings.Contains(got[0], "f g, epoch 2/000000000000000a took over") {
		t.Errorf("kept %q", got)
	}
}

// What only a node may have is not moved by a hint. Where nothing can be that is,
// with what a repair records before its first change.
func TestHintsMoveNothingThatIsKept(t *testing.T) {
	g := diverged(t, map[string]string{"f": "old"})
	hint := &op.Op{Kind: op.Hint, Path: "f", Path2: "g"}
	p := g.start(hello(), false)
	if _, reports := p.applied(p.send(hint)); len(reports) > 0 {
		t.Errorf("reports %+v", reports)
	}
	g.content("f", "old")
	if _, err := os.Stat(filepath.Join(g.dir, "g")); err == nil || g.store.Get().Mixed {
		t.Errorf("it was made, with what the node alone may have; mixed: %v", g.store.Get().Mixed)
	}
	g.wantDivergences()
	p.join(g)
	p.lose()
	h := hello()
	h.Line.Incarnation++
	p = g.start(h, false)
	p.applied(p.send(hint))
	g.content("g", "old")
	names := 0
	for _, m := range g.store.Regions().Hot() {
		if m.Path == op.Root && m.Scope == region.Entries {
			names++
		}
	}
	if names != 1 || !g.store.Get().Mixed {
		t.Errorf("hot are %v, mixed: %v", g.store.Regions().Hot(), g.store.Get().Mixed)
	}
}
