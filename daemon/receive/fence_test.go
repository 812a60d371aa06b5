package receive

import (
	"errors"
	"testing"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

func TestFence(t *testing.T) {
	higher := op.Epoch{Number: 2, Owner: otherNode}
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)

	no := errors.New("not with this set")
	if err := g.recv.Fence(t.Context(), higher, func(s state.State) error {
		if g.recv.mayForget() {
			t.Error("regions may be forgotten meanwhile")
		}
		g.recv.mu.Lock()
		defer g.recv.mu.Unlock()
		if g.recv.current != nil || !s.InSync {
			t.Error("asked while the session still runs")
		}
		return no
	}); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	p.ended()
	h := hello()
	h.Next = 3
	self := g.store.Get().Node
	q := g.start(h, true, self)
	if !g.recv.mayForget() {
		t.Error("nothing is forgotten after a claim that was refused")
	}

	if err := g.recv.Fence(t.Context(), higher, nil); err != nil {
		t.Fatal(err)
	}
	q.ended()
	if st := g.store.Get(); st.Epoch != higher || !st.InSync || !st.ArchiveUntilJoined {
		t.Errorf("fenced: %+v", st)
	}
	if g.recv.mayForget() {
		t.Error("a fenced mirror forgets regions")
	}
	if a := g.connect().greet(h); a.Refusal == nil || a.Refusal.Code != wire.CodeHigherEpoch || a.Refusal.Epoch != higher {
		t.Errorf("the deposed primary hears %+v", a.Refusal)
	}
	var refusal *wire.Refusal
	if err := g.recv.Fence(t.Context(), higher, nil); !errors.As(err, &refusal) || refusal.Code != wire.CodeHigherEpoch {
		t.Errorf("a second claim of the same epoch: %v", err)
	}
}
