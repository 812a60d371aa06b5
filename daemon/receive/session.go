package receive

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/wire"
)

// session is one session with the primary, seen from the mirror. Its goroutines
// belong to Receiver.Serve, which waits for them:
//
//	closer     closes the connection as soon as any of the others ends
//	run        greets, then reads the control stream
//	beat       heartbeats, and notices a silent primary
//	applier    reads the log stream and applies it (applier.go)
//	prepare    syncs the replica when the primary asks for it before a join
//
// Whatever ends the session, the applier comes last: it applies what was
// received before the connection closed, waits for running fsyncs, and, if this
// mirror leaves the in-sync set by itself, records that and says goodbye.
type session struct {
	r       *Receiver
	wire    *wire.Session
	g       *errgroup.Group
	heard   *lifeSign
	met     atomic.Uint64 // the number of this meeting that the primary has recorded; 0: not heard
	control *control

	hello   wire.Hello    // set before admit
	applier *applier      // set under r.mu once begun, never changed then
	done    chan struct{} // closed by Receiver.release: nothing of the session runs any more

	preparing atomic.Bool // a prepare runs
}

// errGoodbye is the end of a session that the primary announced.
var errGoodbye = errors.New("the primary said goodbye")

func newSession(r *Receiver, ws *wire.Session, g *errgroup.Group) *session {
	heard := &lifeSign{start: time.Now()}
	conn := hearing{ws.Control(), heard}
	return &session{
		r: r, wire: ws, g: g, heard: heard,
		control: &control{conn: conn, reader: wire.NewReader(conn), timeout: 3 * r.cfg.Heartbeat},
		done:    make(chan struct{}),
	}
}

func (s *session) run(ctx context.Context) error {
	if err := s.greet(ctx); err != nil {
		return err
	}
	s.g.Go(func() error { return s.finish(s.applier.run()) })
	s.g.Go(func() error { return s.beat(ctx) })
	return s.listen()
}

// listen reads the control stream to its end.
func (s *session) listen() error {
	for {
		kind, payload, err := s.control.next()
		if err != nil {
			return fmt.Errorf("control stream of %s: %w", s.hello.Name, err)
		}
		switch kind {
		case wire.KindHeartbeat:
			err = s.sign(payload)
		case wire.KindPolicy:
			err = s.policy(payload)
		case wire.KindPrepareJoin:
			if !s.preparing.CompareAndSwap(false, true) {
				return protocolError("a second PrepareJoin before the first was answered")
			}
			s.g.Go(s.prepare)
		case wire.KindGoodbye:
			var bye wire.Goodbye
			if err := wire.DecodeMessage(payload, &bye); err != nil {
				return err
			}
			s.r.cfg.Logger.Info("goodbye", "primary", s.hello.Name, "reason", bye.Reason)
			return errGoodbye
		default:
			err = protocolError("message of kind %d on the control stream", kind)
		}
		if err != nil {
			return err
		}
	}
}

// sign takes a sign of life. It is answered, since the primary may be configured to
// expect them more often than this node gives them by itself.
func (s *session) sign(payload []byte) error {
	var beat wire.Heartbeat
	if err := wire.DecodeMessage(payload, &beat); err != nil {
		return err
	}
	s.met.Store(beat.Met)
	return s.giveSign()
}

func (s *session) giveSign() error {
	return s.control.send(wire.KindHeartbeat, wire.Heartbeat{Sent: time.Now(), Met: s.r.cfg.Store.Met(s.hello.Node)})
}

// policy records what the primary says of itself. The set that counts on a
// mirror is the one of the stream: it is exact at the position applied.
func (s *session) policy(payload []byte) error {
	var p wire.Policy
	if err := wire.DecodeMessage(payload, &p); err != nil {
		return err
	}
	return s.r.cfg.Store.Update(func(st *state.State) error { st.Policy = p; return nil })
}

// prepare syncs the replica beside the stream and tells the primary so. From
// its beginning the applier is strict.
func (s *session) prepare() error {
	at, err := s.applier.prepare()
	if err != nil {
		return err
	}
	s.preparing.Store(false)
	s.r.cfg.Changed()
	return s.control.send(wire.KindPrepared, wire.Prepared{Applied: at})
}

// beat sends heartbeats and ends the session of a primary that is silent for
// three of them, this node's or its own, whichever are longer.
func (s *session) beat(ctx context.Context) error {
	s.heard.now() // what the greeting took on this side is not the primary's silence
	patience := 3 * max(s.r.cfg.Heartbeat, s.r.cfg.Store.Get().Policy.Heartbeat)
	tick := time.NewTicker(s.r.cfg.Heartbeat)
	defer tick.Stop()
	noted := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if silent := time.Since(s.heard.last()); silent > patience {
			return fmt.Errorf("%s has been silent for %v", s.hello.Name, silent.Round(time.Millisecond))
		}
		if err := s.giveSign(); err != nil {
			return fmt.Errorf("heartbeat to %s: %w", s.hello.Name, err)
		}
		if time.Since(noted) > time.Minute {
			noted = time.Now()
			s.noteHeard(true)
		}
	}
}

// finish is the last thing a session does, with nothing applying or syncing any
// more. The connection is still there unless it was what ended the session.
func (s *session) finish(err error) error {
	var leave *leaveError
	switch {
	case errors.As(err, &leave):
		// Recorded first, said afterwards (design, section 8). A failure to
		// record is logged and shown by Status; the primary hears it anyway.
		if leave.clean {
			at := s.applier.progress()
			leave.at = &at
		}
		_ = s.r.leave(leave)
		_ = s.control.send(wire.KindGoodbye, wire.Goodbye{Reason: leave.reason, NotInSync: true})
	case errors.Is(err, errProtocol), errors.Is(err, wire.ErrCorrupt):
		_ = s.control.send(wire.KindGoodbye, wire.Goodbye{Reason: err.Error()})
	}
	return err
}

// end ends the session from outside. Its owner waits for done. A mirror that
// leaves, or is fenced, applies nothing further; otherwise what was received is
// applied.
func (s *session) end(why error) {
	s.r.mu.Lock()
	a := s.applier
	s.r.mu.Unlock()
	var leave *leaveError
	// A promotion takes a replica as it is rather than begin to mix it.
	whole := a != nil && errors.Is(why, errDetached) && !a.progress().strict && !s.r.cfg.Store.Get().Mixed
	if a != nil && (errors.As(why, &leave) || errors.Is(why, errFenced) || whole) {
		a.halt(why)
		return
	}
	s.r.cfg.Logger.Info("session ends", "primary", s.hello.Name, "reason", why)
	s.wire.Close()
}

// noteHeard records when the primary was last heard, for a promotion after this
// process is gone. meets: it counts as another meeting.
func (s *session) noteHeard(meets bool) {
	strict := s.applier.progress().strict
	if err := s.r.cfg.Store.Update(func(st *state.State) error {
		st.PrimaryHeard = s.heard.last().UTC()
		if met := s.met.Load(); meets && met > 0 {
			st.Meet(s.hello.Node, met+1)
		}
		if strict && !st.Mixed {
			st.AsOf = st.PrimaryHeard
		}
		return nil
	}); err != nil {
		s.r.cfg.Logger.Warn("time of the primary's last message not recorded", "error", err)
	}
}
