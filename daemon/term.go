package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// term is what a reign begins with. It is durable: no other reign has this line.
type term struct {
	line       op.Line
	set        []op.NodeID // members that must come back or be expelled
	mountpoint string
	peers      []mirror.PeerConfig
	follows    *op.Position // the end of the line before, if that was a clean one
	// weaker is said to the operator where this reign's policy is weaker than the last
	// one's; "" otherwise.
	weaker string
	// begun is called once with nil when the mount answers, or with the error
	// that kept the reign from beginning. It must not block.
	begun func(error)
}

// begin makes the term of a primary that starts. A fresh state adopts the
// directory as it is: a new volume, epoch 1. Any other keeps its epoch and its
// set and starts a new line of positions (RULES.md 11, NewLine,
// RestartNotHigher).
func (n *node) begin() (term, error) {
	t := term{mountpoint: n.cfg.Mountpoint, peers: n.cfg.Mirror.Peers, begun: func(error) {}}
	adopted, ended := false, 0
	moved, err := n.moveBorder()
	if err != nil {
		return t, err
	}
	err = n.store.Update(func(s *state.State) error {
		if adopted = s.Role != Primary; adopted {
			s.Volume, s.Role, s.Adopts, s.ArchiveUntilJoined = newVolume(), Primary, false, false
			s.See(op.Epoch{Number: 1, Owner: s.Node}, 1, time.Now().UTC())
		}
		s.Name = n.cfg.Name
		if moved {
			s.Stopped = nil // nobody is equal
		}
		if s.Stopped != nil {
			t.follows, s.Stopped = &op.Position{Line: s.Stopped.Line, LSN: s.Stopped.LSN}, nil
		}
		if len(t.peers) == 0 {
			ended = len(s.Set)
		}
		t.enter(s, n)
		return nil
	})
	if err == nil && ended > 0 {
		text := fmt.Sprintf("started without mirrors: %s of the last run is behind from now on", plural(ended, "mirror"))
		n.log.Warn(text)
		n.event("expelled", text)
	}
	if err == nil && adopted {
		n.event("adopted", fmt.Sprintf("%s is the volume %s now", n.cfg.Replica, n.store.Get().Volume))
	}
	if err == nil && t.weaker != "" {
		n.log.Warn(t.weaker)
		n.event("policy", t.weaker)
	}
	return t, err
}

// moveBorder has every other node compared as a whole if this reign lets other
// paths travel than the one before, and reports that. What does not travel is in
// no record: where it begins to, nothing else tells that the others lack it. It
// comes before the record of the new border, so that a crash between repeats it.
func (n *node) moveBorder() (moved bool, err error) {
	s := n.store.Get()
	if s.Role == state.NoRole || slices.Equal(s.Policy.Border, mirror.Border(n.cfg.Mirror.Rules)) {
		return false, nil
	}
	if err := n.store.Regions().Distrust(); err != nil {
		return false, err
	}
	n.event("local", "other paths are local than before: every mirror is compared in full")
	return true, nil
}

// drawnStep is how much an incarnation is above the one before. It is drawn, since
// copies of a state must not begin the same line.
func drawnStep() uint64 {
	var step [4]byte
	rand.Read(step[:]) // never fails
	return 1 + uint64(binary.LittleEndian.Uint32(step[:]))
}

// enter makes s that of a primary in a new line of its epoch, and completes t
// from it. Without peers there is nobody to expel later: the set ends here,
// durably and before anything is acknowledged alone.
func (t *term) enter(s *state.State, n *node) {
	m, step := n.cfg.Mirror, n.step
	if step == nil {
		step = drawnStep
	}
	s.Incarnation += step()
	t.line = op.Line{Epoch: s.Epoch, Incarnation: s.Incarnation}
	if len(t.peers) == 0 {
		s.Set = nil
	}
	t.set = s.Set
	t.peers = slices.Clone(t.peers)
	for i := range t.peers {
		t.peers[i].Paused = slices.Contains(s.Paused, t.peers[i].Addr)
	}
	was := s.Policy
	s.Policy = wire.Policy{MinInSync: m.MinInSync, OnShortage: string(m.OnShortage), Set: s.Set, Border: mirror.Border(m.Rules)}
	for _, p := range t.peers {
		mode := wire.ModeSync
		if p.Async {
			mode = wire.ModeAsync
		}
		s.Policy.Members = append(s.Policy.Members, wire.Member{Addr: p.Addr, Mode: mode})
	}
	t.weaker = weaker(was, s.Policy)
}

// weaker says so if a barrier needs less by one policy than by the one before. A
// mirror that knows the old one only, and is promoted, asks too few others (RULES.md
// 14, AskOthers).
func weaker(was, is wire.Policy) string {
	if len(was.Members) == 0 || is.MinInSync >= was.MinInSync && is.Spare() <= was.Spare() {
		return ""
	}
	return fmt.Sprintf("min_in_sync was %d of %d mirrors and is %d of %d now: until a mirror has heard of that, its promotion promises more than it can know",
		was.MinInSync, was.Mirrors(), is.MinInSync, is.Mirrors())
}

// newVolume draws the UUID of a new volume (RFC 9562, version 4).
func newVolume() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
