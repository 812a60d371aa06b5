package receive

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

func TestFirstSession(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	a := p.greet(hello())
	want := wire.Answer{Protocol: wire.Protocol, Node: g.store.Get().Node, Name: "b", Fresh: true}
	if a != want {
		t.Errorf("answer %+v, want %+v", a, want)
	}
	if st := g.store.Get(); st.Volume != "" || st.Role != state.NoRole {
		t.Errorf("recorded before Begin: %+v", st)
	}
	p.tell(wire.KindBegin, wire.Begin{Policy: wire.Policy{MinInSync: 1, OnShortage: "fail", Set: []op.NodeID{otherNode}}})
	p.hear(wire.KindBegun, new(wire.Begun))
	st, _, err := readCopy(t, g.state)
	if err != nil {
		t.Fatal(err)
	}
	if st.Volume != "vol" || st.Role != state.Mirror || st.InSync || st.Epoch != line.Epoch || st.Policy.MinInSync != 1 ||
		len(st.Set) != 1 || st.ArchiveUntilJoined || st.PrimaryName != "a" || st.Reason != "resync with a" {
		t.Errorf("recorded before Begun: %+v", st)
	}
	p.send(create("f"), write("f", 0, "hello"), write("f", 5, " world"))
	ack, reports := p.applied(3)
	if ack.Durable != 3 || ack.Offset != p.offset || len(reports) != 0 {
		t.Errorf("ack %+v, reports %v; want durable 3, offset %d", ack, reports, p.offset)
	}
	g.content("f", "hello world")
	m := g.recv.Status()
	if !m.Connected || !m.Resyncing || m.InSync || m.Primary != "a" || m.PrimaryNode != primaryNode || m.Position != (op.Position{Line: line, LSN: 3}) {
		t.Errorf("status %+v", m)
	}
	p.tell(wire.KindGoodbye, wire.Goodbye{Reason: "unmounted"})
	if err := p.ended(); err != nil {
		t.Errorf("after a goodbye: %v", err)
	}
	if g.recv.Status().Connected {
		t.Error("connected after a goodbye")
	}
}

func TestNewerConnectionReplacesOlder(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.applied(1)
	q := g.start(hello(), true)
	if err := p.ended(); err == nil {
		t.Error("the older session ended without an error")
	}
	q.applied(q.send(write("f", 0, "x")))
	g.content("f", "x")
}

func TestSilentPrimary(t *testing.T) {
	g := rigIn(t, t.TempDir(), 200*time.Millisecond)
	p := g.start(hello(), false)
	p.hear(wire.KindHeartbeat, new(wire.Heartbeat))
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "a has been silent for") {
		t.Errorf("got %v", err)
	}
}

func TestGreetingOfNothing(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	p.tell(wire.KindBegun, wire.Begun{})
	if err := p.ended(); !errors.Is(err, errProtocol) {
		t.Errorf("got %v", err)
	}
	if err := g.connect().lose(); err == nil {
		t.Error("a session without a hello ended without an error")
	}
}

// Everything in memory is gone with the process: what is durable decides.
func TestKilledMirror(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	st, _, err := readCopy(t, g.state)
	if err != nil || !st.InSync {
		t.Fatalf("a kill leaves %+v, %v", st, err)
	}
	p.lose()
	g.recv = New(g.recv.cfg)
	if m := g.recv.Status(); !m.InSync || m.Connected {
		t.Errorf("started again: %+v", m)
	}
	h := hello()
	h.Next = 9
	g.start(h, false)
	if st := g.store.Get(); st.InSync {
		t.Error("in sync in a resync")
	}
}

func TestDetachAppliesWhatWasReceived(t *testing.T) {
	g := newRig(t)
	held, free := make(chan struct{}), make(chan struct{})
	g.withFsync(func(int, bool) error { close(held); <-free; return nil })
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	p.send(fsyncOf("f"))
	<-held
	detached := make(chan error, 1)
	go func() { detached <- g.recv.Detach(context.Background()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.recv.Detach(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a Detach that may not wait: %v", err)
	}
	close(free)
	if err := <-detached; err != nil {
		t.Error(err)
	}
	st := g.store.Get()
	if m := g.recv.Status(); !st.InSync || m.Connected || m.Position.LSN != 3 || m.Durable != 3 {
		t.Errorf("state %+v, status %+v", st, m)
	}
}
