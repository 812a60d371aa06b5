package daemon

import (
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// A mirror that was stopped, and once more without a session in between, offers
// to go on where it was: in its line, and in the next one, if that follows just
// there. Not where it would lack something, or have too much.
func TestGoesOnAfterStop(t *testing.T) {
	next := line
	next.Incarnation++
	for _, c := range []struct {
		name    string
		line    op.Line
		follows func(at op.LSN) *op.Position
		want    func(at op.LSN) *op.Position
	}{
		{"the same line", line, none, func(at op.LSN) *op.Position { return &op.Position{Line: line, LSN: at} }},
		{"the next line", next, func(at op.LSN) *op.Position { return &op.Position{Line: line, LSN: at} },
			func(op.LSN) *op.Position { return &op.Position{Line: next} }},
		{"the next line after a kill", next, none, none},
		{"the next line, further on", next, func(at op.LSN) *op.Position { return &op.Position{Line: line, LSN: at + 1} }, none},
		{"the next line, further back", next, func(at op.LSN) *op.Position { return &op.Position{Line: line, LSN: at - 1} }, none},
		{"another line", next, func(at op.LSN) *op.Position { return &op.Position{Line: next, LSN: at} }, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			p := g.start(hello(), false)
			p.send(create("f"))
			p.join(g)
			at := g.recv.Status().Position.LSN
			for range 2 {
				if err := g.recv.Stop(t.Context(), "stopped"); err != nil {
					t.Fatal(err)
				}
				g.recv = NewReceiver(g.recv.cfg)
			}
			h := hello()
			h.Line, h.Follows, h.Next = c.line, c.follows(at), at+1
			a := g.connect().greet(h)
			want := c.want(at)
			if (a.Resume == nil) != (want == nil) || want != nil && *a.Resume != *want {
				t.Errorf("it offers to resume at %v, want %v", a.Resume, want)
			}
			if a.InSync {
				t.Error("it says that it is in sync, and has recorded otherwise")
			}
		})
	}
}

func none(op.LSN) *op.Position { return nil }

// The record of a stop is gone before anything is changed.
func TestStopIsForgotten(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	if err := g.recv.Stop(t.Context(), "stopped"); err != nil {
		t.Fatal(err)
	}
	if g.store.Get().Stopped == nil {
		t.Fatal("a clean stop is not recorded")
	}
	g.recv = NewReceiver(g.recv.cfg)
	p = g.connect()
	a := p.greet(hello())
	p.tell(wire.KindBegin, wire.Begin{Resume: a.Resume != nil})
	p.hear(wire.KindBegun, &wire.Begun{})
	if s := g.store.Get().Stopped; s != nil {
		t.Errorf("%+v is still recorded", s)
	}
}
