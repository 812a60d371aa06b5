package receive

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		state  func(*state.State)
		hello  func(*wire.Hello)
		before func(*rig)
		code   wire.Code
		says   string
	}{
		{"newer protocol", nil, func(h *wire.Hello) { h.Protocol, h.MinProtocol = 9, 8 }, nil, wire.CodeProtocol, "a speaks protocols 8 to 9 (standbyfs test), mirror b speaks 4 to 5 (standbyfs test): install the same version on both"},
		{"older protocol", nil, func(h *wire.Hello) { h.Protocol, h.MinProtocol = 0, 0 }, nil, wire.CodeProtocol, "install the same version on both"},
		{"foreign volume", func(s *state.State) { s.Volume = "other" }, nil, nil, wire.CodeForeignVolume, "mirror b keeps volume other and a serves volume vol: connect the primary that this mirror belongs to"},
		{"lower epoch", func(s *state.State) { s.Epoch = op.Epoch{Number: 2, Owner: otherNode} }, nil, nil, wire.CodeHigherEpoch, "a is deposed: b has seen epoch 2/000000000000000c: start a again as a mirror"},
		{"lower owner of the same number", func(s *state.State) { s.Epoch = op.Epoch{Number: 1, Owner: otherNode} }, nil, nil, wire.CodeHigherEpoch, "a is deposed"},
		{"not the epoch's owner", nil, func(h *wire.Hello) { h.Node = otherNode }, nil, wire.CodeProtocol, "makes no sense"},
		{"no position", nil, func(h *wire.Hello) { h.Next = 0 }, nil, wire.CodeProtocol, "makes no sense"},
		{"its own node", func(s *state.State) { s.Node = primaryNode }, nil, nil, wire.CodeNotAMirror, "its state directory was copied"},
		{"a primary", func(s *state.State) { s.Role = state.Primary }, nil, nil, wire.CodeNotAMirror, "b is itself the primary"},
		{"not empty", nil, nil, func(g *rig) { os.Mkdir(filepath.Join(g.dir, "d"), 0o700) }, wire.CodeNotEmpty, `is not empty on first use (it holds "d")`},
		{"detached", nil, nil, func(g *rig) { g.recv.Detach(t.Context()) }, wire.CodeNotAMirror, "b is being promoted: it is no mirror any more"},
		{"stopped", nil, nil, func(g *rig) { g.recv.Stop(t.Context(), "stopped") }, wire.CodeBusy, "mirror b stops: start it again"},
		{"second primary", nil, func(h *wire.Hello) { h.Node, h.Line.Epoch.Owner = 9, 9 }, func(g *rig) { g.connect().greet(hello()) }, wire.CodeSecondPrimary, "mirror b has a session with primary a (epoch 1/000000000000000a): stop that one first"},
		{"second process of one primary", nil, func(h *wire.Hello) { h.Line.Incarnation++ }, func(g *rig) { g.connect().greet(hello()) }, wire.CodeSecondPrimary, "mirror b has a session with another process of primary a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			if c.state != nil {
				if err := g.store.Update(func(s *state.State) error { c.state(s); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if c.before != nil {
				c.before(g)
			}
			was := g.store.Get()
			h := hello()
			if c.hello != nil {
				c.hello(&h)
			}
			p := g.connect()
			a := p.greet(h)
			if a.Refusal == nil || a.Refusal.Code != c.code || !strings.Contains(a.Refusal.Message, c.says) {
				t.Fatalf("got %+v, want %s: %s", a.Refusal, c.code, c.says)
			}
			if c.code == wire.CodeHigherEpoch && a.Refusal.Epoch != was.Epoch {
				t.Errorf("refusal carries epoch %v, want %v", a.Refusal.Epoch, was.Epoch)
			}
			var refused *refusedError
			if err := p.ended(); !errors.As(err, &refused) || refused.Hello.Name != "a" {
				t.Errorf("Serve returned %v", err)
			}
			if now := g.store.Get(); now.Volume != was.Volume || now.Epoch != was.Epoch || now.Role != was.Role || now.InSync != was.InSync {
				t.Errorf("a refused hello left %+v", now)
			}
		})
	}
}
