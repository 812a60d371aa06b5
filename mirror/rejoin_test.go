package mirror

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// TestReportsOfOneThatWasExpelled: a mirror that was expelled while it was away
// resumes its session, is lenient from its expulsion on, and reports an op that it
// could not apply. That is repaired before it joins again.
func TestReportsOfOneThatWasExpelled(t *testing.T) {
	var sessions, resumes, last atomic.Uint64
	var once sync.Once
	leave, back, repaired := make(chan struct{}), make(chan struct{}), make(chan struct{})
	comes := sync.OnceFunc(func() { close(back) })
	resumed := func(s *scripted) error {
		var h wire.Hello
		var b wire.Begin
		err := errors.Join(
			s.hear(wire.KindHello, &h),
			s.say(wire.KindAnswer, wire.Answer{
				Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "liar", InSync: true,
				Resume: &op.Position{Line: h.Line, LSN: op.LSN(last.Load())},
			}),
			s.hear(wire.KindBegin, &b), s.say(wire.KindBegun, wire.Begun{}))
		if err != nil || !b.Resume {
			return errors.Join(err, errors.New("not resumed"))
		}
		for first := resumes.Add(1) == 1; first; {
			h, payload, err := s.log.Next()
			if err != nil {
				return err
			}
			last.Store(max(last.Load(), uint64(h.LSN)))
			var o op.Op
			if h.Kind == wire.KindCommit || wire.DecodeOp(h, payload, &o) != nil || o.Kind != op.SetAttr {
				continue // its expulsion: the ack comes with the next one
			}
			if err := tell(s.Log(), wire.KindReport, wire.Report{LSN: h.LSN, Kind: wire.ReportSuspect, Path: []byte("f"), What: "no"}); err != nil {
				return err
			}
			if err := s.ack(wire.Ack{Applied: h.LSN, Durable: h.LSN, Offset: h.Offset}); err != nil {
				return err
			}
			break
		}
		at := op.LSN(last.Load())
		if err := s.ack(wire.Ack{Applied: at, Durable: at}); err != nil {
			return err
		}
		s.heard = func(o *op.Op) {
			if o.Kind.Repair() && o.Path == "f" {
				once.Do(func() { close(repaired) })
			}
		}
		return s.rest()
	}
	r := newRig(t, nil, func(s *scripted) error {
		if sessions.Add(1) > 1 {
			<-back
			return resumed(s)
		}
		s.heard = func(*op.Op) { last.Add(1) }
		go func() { // ends the session
			<-leave
			s.Close()
		}()
		return errors.Join(s.greet(), s.rest())
	})
	t.Cleanup(comes) // before the rig waits for its sessions
	r.until("it is in sync", func(_ Status, p PeerStatus) bool { return p.InSync })
	close(leave)
	r.until("it is expelled", func(_ Status, p PeerStatus) bool { return !p.InSync })
	if _, err := r.change(); err != nil {
		t.Fatal(err)
	}
	comes()
	r.until("it is in sync again", func(_ Status, p PeerStatus) bool { return p.InSync })
	select {
	case <-repaired:
	default:
		t.Error("it joined without a repair of what it could not apply")
	}
}

// TestAsynchronousNow: a member of the last run's set that resumes, and is
// configured never to be waited for, is no member any more: a promotion does not
// count it among those that have every barrier (RULES.md 14).
func TestAsynchronousNow(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Set, c.AckTimeout = []op.NodeID{2}, time.Minute
		c.Peers[0].Async = true
	}, func(s *scripted) error {
		var h wire.Hello
		if err := s.hear(wire.KindHello, &h); err != nil {
			return err
		}
		a := wire.Answer{Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "liar", InSync: true, Resume: &op.Position{Line: h.Line}}
		var b wire.Begin
		return errors.Join(s.say(wire.KindAnswer, a), s.hear(wire.KindBegin, &b), s.say(wire.KindBegun, wire.Begun{}), s.rest())
	})
	r.until("it follows", func(_ Status, p PeerStatus) bool { return p.State == StateAsync })
	if s := r.Status(); len(s.Set) > 0 || s.Peers[0].Resumes != 1 {
		t.Errorf("the set is %v, and it has resumed %d times", s.Set, s.Peers[0].Resumes)
	}
}
