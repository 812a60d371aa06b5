package receive

import (
	"errors"
	"strings"
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
				g.recv = New(g.recv.cfg)
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
	g.recv = New(g.recv.cfg)
	p = g.connect()
	a := p.greet(hello())
	p.tell(wire.KindBegin, wire.Begin{Resume: a.Resume != nil})
	p.hear(wire.KindBegun, &wire.Begun{})
	if s := g.store.Get().Stopped; s != nil {
		t.Errorf("%+v is still recorded", s)
	}
}

func TestResume(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.applied(p.send(create("f"), write("f", 0, "one")))
	p.join(g)
	// The next op is on its way in half when the connection breaks: only whole
	// ones count.
	half := p.frame(write("f", 3, "lost"))
	p.raw(half[:len(half)-2])
	p.lose()

	h := hello()
	h.Next = 4
	q := g.connect()
	a := q.greet(h)
	if a.Resume == nil || *a.Resume != (op.Position{Line: line, LSN: 3}) || !a.InSync {
		t.Fatalf("answer %+v, want resume at 3", a)
	}
	q.tell(wire.KindBegin, wire.Begin{Resume: true, Policy: wire.Policy{Set: []op.NodeID{g.store.Get().Node}}})
	q.hear(wire.KindBegun, new(wire.Begun))
	if ack, _ := q.applied(3); ack.Durable != 3 {
		t.Errorf("a resumed session begins with ack %+v", ack)
	}
	q.lsn, q.offset = 3, p.offset
	q.applied(q.send(write("f", 3, " two")))
	g.content("f", "one two")
	if m := g.recv.Status(); !m.InSync || !m.Strict {
		t.Errorf("after a resume: %+v", m)
	}
	g.wantDegraded()
}

func TestNoResumeAcrossLines(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	h := hello()
	h.Line.Incarnation++
	g.start(h, false).lose()
	if st := g.store.Get(); st.InSync || st.ArchiveUntilJoined {
		t.Errorf("after the primary's restart: %+v", st)
	}
	g.wantDegraded("resync with a")
	// Nor for an epoch that is new to it, where the mirror may have what
	// nobody else has.
	h.Line.Epoch, h.Node = op.Epoch{Number: 2, Owner: otherNode}, otherNode
	g.start(h, false)
	if st := g.store.Get(); !st.ArchiveUntilJoined || st.Epoch != h.Line.Epoch || len(st.History) != 2 {
		t.Errorf("after a promotion: %+v", st)
	}
}

func TestResumeThatWasNotOffered(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	p.greet(hello())
	p.tell(wire.KindBegin, wire.Begin{Resume: true})
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	if err := p.ended(); !errors.Is(err, errProtocol) || !strings.Contains(bye.Reason, "not offered") {
		t.Errorf("got %v, goodbye %q", err, bye.Reason)
	}
}

// A mirror that missed its own expulsion hears of it at the resume.
func TestExpelledWhileAway(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	h := hello()
	h.Next = 3
	g.start(h, true)
	if st := g.store.Get(); st.InSync || st.Reason != "expelled by a" {
		t.Errorf("state %+v", st)
	}
	g.wantDegraded("expelled by a")
}
