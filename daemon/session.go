package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// greetTimeout bounds everything up to Begun. In it the primary may have to
// record an expulsion, and this node waits for the end of its last session.
const greetTimeout = 30 * time.Second

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
		return &RefusedError{Hello: s.hello, Refusal: refusal}
	}
	var begin wire.Begin
	if err := s.control.expect(wire.KindBegin, &begin); err != nil {
		return fmt.Errorf("begin of %s: %w", s.hello.Name, err)
	}
	if err := s.begin(ctx, level, &begin); err != nil {
		_ = s.control.send(wire.KindGoodbye, wire.Goodbye{Reason: err.Error()}) // a courtesy
		return fmt.Errorf("begin with %s: %w", s.hello.Name, err)
	}
	if err := s.control.send(wire.KindBegun, wire.Begun{}); err != nil {
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
		InSync: st.InSync, Fresh: st.Volume == "" && !st.Adopts,
		Knows: s.r.cfg.Store.Regions().Known(s.hello.Node),
	}
	if at := s.resume(level, &st); refusal == nil && at != nil {
		a.Resume = &op.Position{Line: at.line, LSN: at.applied}
	}
	return a
}

// resume returns where this mirror, which has come to level, can go on in the
// primary's line; nil: nowhere. The line must be the very same: LSNs of two lines
// are never compared (RULES.md 11, NewLine).
//
// But for one case, which the model leaves out. A primary that was stopped
// cleanly had drained its line: its last op is known, nothing was changed behind
// it, and its record of that is gone before anything is. A mirror that was in
// sync and stands at just that op is equal, so it stands at the beginning of the
// next line.
func (s *session) resume(level *progress, st *State) *progress {
	switch follows := s.hello.Follows; {
	case level == nil:
		return nil
	case level.line == s.hello.Line:
		return level
	case follows != nil && *follows == op.Position{Line: level.line, LSN: level.applied} &&
		(st.InSync || st.Stopped != nil && st.Stopped.Member):
		return &progress{line: s.hello.Line, strict: true}
	}
	return nil
}

// begin records what has to be durable before the first frame. For a resync
// that is one transaction: the epoch, 'not in sync' and what goes with them
// (RULES.md 7, EpochPersist, MemberFirst, ArchiveDurable).
func (s *session) begin(ctx context.Context, level *progress, b *wire.Begin) error {
	h, r := &s.hello, s.r
	st := r.cfg.Store.Get()
	from := s.resume(level, &st)
	if b.Resume && from == nil {
		return protocolError("it resumes a session that was not offered")
	}
	var was bool
	err := r.cfg.Store.Update(func(st *State) error {
		epoch := h.Line.Epoch
		if epoch.Compare(st.Epoch) < 0 {
			return higherEpoch(st, h.Name)
		}
		was = st.InSync
		st.Policy, st.Set = b.Policy, b.Policy.Set
		st.PrimaryName, st.PrimaryHeard = h.Name, time.Now().UTC()
		st.Stopped = nil
		if b.Resume {
			// It is known now; the entry itself comes in the stream.
			if st.InSync && !slices.Contains(b.Policy.Set, st.Node) {
				st.InSync, st.Reason = false, "expelled by "+h.Name
			}
			return nil
		}
		st.Volume, st.Role, st.Adopts = h.Volume, Mirror, false
		st.InSync, st.Reason = false, "resync with "+h.Name
		st.See(epoch, h.Next, time.Now().UTC())
		return nil
	})
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

// settle prepares the replica for a resync, which may change anything in it.
func (s *session) settle(ctx context.Context) error {
	if err := s.r.cfg.Tree.Settle(); err != nil {
		return err
	}
	if err := s.r.cfg.Store.believe(s.r.cfg.Tree); err != nil {
		return err
	}
	return s.r.cfg.Keep(ctx)
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
			// Answered, since the primary may be configured to expect signs of
			// life more often than this node gives them by itself.
			err = s.control.send(wire.KindHeartbeat, wire.Heartbeat{Sent: time.Now()})
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

// policy records what the primary says of itself. The set that counts on a
// mirror is the one of the stream: it is exact at the position applied.
func (s *session) policy(payload []byte) error {
	var p wire.Policy
	if err := wire.DecodeMessage(payload, &p); err != nil {
		return err
	}
	return s.r.cfg.Store.Update(func(st *State) error { st.Policy = p; return nil })
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
		if err := s.control.send(wire.KindHeartbeat, wire.Heartbeat{Sent: time.Now()}); err != nil {
			return fmt.Errorf("heartbeat to %s: %w", s.hello.Name, err)
		}
		if time.Since(noted) > time.Minute {
			noted = time.Now()
			s.noteHeard()
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
// process is gone.
func (s *session) noteHeard() {
	strict := s.applier.progress().strict
	if err := s.r.cfg.Store.Update(func(st *State) error {
		st.PrimaryHeard = s.heard.last().UTC()
		if strict && !st.Mixed {
			st.AsOf = st.PrimaryHeard
		}
		return nil
	}); err != nil {
		s.r.cfg.Logger.Warn("time of the primary's last message not recorded", "error", err)
	}
}

// control is the session's control stream.
type control struct {
	conn    net.Conn
	reader  *wire.Reader // owned by session.run
	timeout time.Duration
	mu      sync.Mutex // serialises writes
}

// next returns the next message. The payload is valid until the next call.
func (c *control) next() (wire.Kind, []byte, error) {
	h, payload, err := c.reader.Next()
	return h.Kind, payload, err
}

// expect reads a message that has to be of the kind.
func (c *control) expect(kind wire.Kind, v any) error {
	got, payload, err := c.next()
	if err != nil {
		return err
	}
	if got != kind {
		return protocolError("message of kind %d where %d is due", got, kind)
	}
	return wire.DecodeMessage(payload, v)
}

func (c *control) send(kind wire.Kind, v any) error {
	frame, err := wire.AppendMessage(nil, kind, v)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err = c.conn.Write(frame)
	return err
}

// lifeSign remembers when the primary was last heard: any byte counts.
type lifeSign struct {
	start time.Time
	since atomic.Int64 // nanoseconds from start
}

func (l *lifeSign) now() { l.since.Store(int64(time.Since(l.start))) }

func (l *lifeSign) last() time.Time { return l.start.Add(time.Duration(l.since.Load())) }

// alive reports whether the primary was heard within the last d.
func (l *lifeSign) alive(d time.Duration) bool { return time.Since(l.last()) < d }

// hearing is a stream whose bytes are signs of life.
type hearing struct {
	net.Conn
	sign *lifeSign
}

// Read reads from the stream.
func (h hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.sign.now()
	}
	return n, err
}

// errProtocol is in every error that is the primary's fault.
var errProtocol = errors.New("the primary broke the protocol")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}
