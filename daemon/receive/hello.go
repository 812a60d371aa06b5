package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// greetTimeout bounds everything up to Begun. In it the primary may have to
// record an expulsion, and this node waits for the end of its last session.
const greetTimeout = 30 * time.Second

// greet takes the session from Hello to Begun.
func (s *session) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := s.control.conn.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("greet %s: %w", s.wire.PeerName(), err)
	}
	if err := s.control.expect(wire.KindHello, &s.hello); err != nil {
		return fmt.Errorf("hello of %s: %w", s.wire.PeerName(), err)
	}
	level, refusal := s.r.admit(ctx, s)
	answer := s.answer(level, refusal)
	if err := s.control.send(wire.KindAnswer, answer); err != nil {
		return fmt.Errorf("answer %s: %w", s.hello.Name, err)
	}
	if refusal != nil {
		s.r.cfg.Logger.Warn("refused a session", "primary", s.hello.Name, "from", s.wire.PeerName(), "code", refusal.Code, "reason", refusal.Message)
		return &refusedError{Hello: s.hello, Refusal: refusal}
	}
	var begin wire.Begin
	if err := s.control.expect(wire.KindBegin, &begin); err != nil {
		return fmt.Errorf("begin of %s: %w", s.hello.Name, err)
	}
	if err := s.begin(ctx, level, &begin); err != nil {
		_ = s.control.send(wire.KindGoodbye, wire.Goodbye{Reason: err.Error()}) // a courtesy
		return fmt.Errorf("begin with %s: %w", s.hello.Name, err)
	}
	if err := s.control.send(wire.KindBegun, wire.Begun{Met: s.r.cfg.Store.Met(s.hello.Node)}); err != nil {
		return fmt.Errorf("answer %s: %w", s.hello.Name, err)
	}
	if !begin.Resume && answer.Knows {
		if err := s.tellRegions(); err != nil {
			return fmt.Errorf("tell %s what to compare: %w", s.hello.Name, err)
		}
	}
	return s.control.conn.SetReadDeadline(time.Time{})
}

func (s *session) answer(level *progress, refusal *wire.Refusal) *wire.Answer {
	st := s.r.cfg.Store.Get()
	a := &wire.Answer{
		Refusal: refusal, Protocol: wire.Protocol,
		Volume: st.Volume, Node: st.Node, Name: s.r.name(), Epoch: st.Epoch,
		Met: st.Met[s.hello.Node], InSync: st.InSync, Fresh: st.Volume == "" && !st.Adopts,
		Knows: s.r.cfg.Store.Regions().Known(s.hello.Node),
	}
	if at := s.resume(level, &st); refusal == nil && at != nil {
		a.Resume = &op.Position{Line: at.line, LSN: at.applied}
	}
	return a
}

// begin makes this node ready for the first frame: for a resumed session from
// where it stopped, for any other by a resync.
func (s *session) begin(ctx context.Context, level *progress, b *wire.Begin) error {
	h, r := &s.hello, s.r
	st := r.cfg.Store.Get()
	from := s.resume(level, &st)
	if b.Resume && from == nil {
		return protocolError("it resumes a session that was not offered")
	}
	if b.Whole {
		if err := r.distrust(); err != nil {
			return err
		}
	}
	was, err := s.record(b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if !b.Resume {
		r.settled = false
	}
	r.unrecorded = ""
	r.level = nil
	r.mu.Unlock()
	st = r.cfg.Store.Get()
	if was && !st.InSync {
		r.degraded(st.Reason)
	}
	at := progress{line: h.Line, applied: h.Next - 1}
	if b.Resume {
		at = *from
		if from != level && level.line != h.Line {
			// All up to the end of the last line is committed.
			r.cfg.Store.Regions().Restart(0)
		}
	} else if err := s.settle(ctx); err != nil {
		return err // after the record: this mirror is not in sync, whatever it was
	}
	a := newApplier(s, at, b.Resume)
	if a.archive, err = r.archiveFor(st); err != nil {
		leave := archiveError(err)
		r.cannotArchive(leave.reason)
		return errors.Join(leave, r.leave(leave))
	}
	r.mu.Lock()
	s.applier = a
	r.mu.Unlock()
	if b.Resume {
		r.cfg.Logger.Info("session resumed", "primary", h.Name, "at", at.applied)
	} else {
		r.event("resync", fmt.Sprintf("resync with %s, line %s", h.Name, h.Line))
	}
	r.cfg.Changed()
	return nil
}

// distrust takes down that this node's records say too little of any other node: it
// has gone back to an older state.
func (r *Receiver) distrust() error {
	if err := r.cfg.Store.Regions().Distrust(); err != nil {
		return err
	}
	r.event("restored", "this node's state is older than its primary knows it, so it was restored from a backup or is a copy: it is compared in full")
	return nil
}

// record takes down what has to be durable before the first frame. For a resync
// that is one transaction: the epoch, 'not in sync' and what goes with them
// (RULES.md 7, EpochPersist, MemberFirst, ArchiveDurable). It returns whether this
// mirror was in sync until then.
func (s *session) record(b *wire.Begin) (was bool, err error) {
	h := &s.hello
	err = s.r.cfg.Store.Update(func(st *state.State) error {
		epoch := h.Line.Epoch
		if epoch.Compare(st.Epoch) < 0 {
			return higherEpoch(st, h.Name)
		}
		was = st.InSync
		st.Policy, st.Set = b.Policy, b.Policy.Set
		st.PrimaryName, st.PrimaryHeard = h.Name, time.Now().UTC()
		st.Stopped = nil
		st.Meet(h.Node, b.Met+1)
		if b.Resume {
			// It is known now; the entry itself comes in the stream.
			if st.InSync && !slices.Contains(b.Policy.Set, st.Node) {
				st.InSync, st.Reason = false, "expelled by "+h.Name
			}
			return nil
		}
		st.Volume, st.Role, st.Adopts = h.Volume, state.Mirror, false
		st.InSync, st.Reason = false, "resync with "+h.Name
		st.See(epoch, h.Next, time.Now().UTC())
		return nil
	})
	return was, err
}

// settle prepares the replica for a resync, which may change anything in it.
func (s *session) settle(ctx context.Context) error {
	if err := s.r.cfg.Tree.Settle(); err != nil {
		return err
	}
	if err := s.r.cfg.Store.Believe(s.r.cfg.Tree); err != nil {
		return err
	}
	return s.r.cfg.Keep(ctx)
}

// regionsPerMessage bounds a Regions: paths can be long.
const regionsPerMessage = 100

// tellRegions sends this node's half of what has to be compared: its hot set and
// its map of the primary (RULES.md 8, CmpPeerHot, CmpPeerStale).
func (s *session) tellRegions() error {
	marks := s.r.cfg.Store.Regions().Suspect(s.hello.Node)
	for {
		var part wire.Regions
		n := min(len(marks), regionsPerMessage)
		for _, m := range marks[:n] {
			part.Regions = append(part.Regions, wire.Region{Path: []byte(m.Path), Scope: uint8(m.Scope), From: m.From, To: m.To})
		}
		marks = marks[n:]
		part.More = len(marks) > 0
		if err := s.control.send(wire.KindRegions, part); err != nil || !part.More {
			return err
		}
	}
}
