package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// A peer is one mirror, served by one goroutine from the start of the log to
// its end. While a session lasts that goroutine waits for five others:
//
//  1. connect  dial and hello, which fixes the cursor        hello.go
//  2. send     ring -> log stream, from the cursor
//  3. receive  acks and reports <- log stream
//  4. talk     heartbeats and messages -> control stream    control.go
//  5. listen   control stream <- heartbeats and messages    control.go
//  6. repair   resync, join, and joining again              repair.go
//
// The order of a peer's ops is fixed by the ring and never changes. Catching up
// and live streaming are the same code: a cursor that is behind reads longer
// runs. When any stage fails the session is closed, all stages end, and the
// next session resumes from what the mirror says it has applied. Functions here
// stand in this order.
type peer struct {
	log  *Log
	cfg  PeerConfig
	bit  uint32        // its bit in a ring entry's address
	more chan struct{} // room for one: the log says that the ring grew
	news chan struct{} // room for one: receive and listen say that repair should look again

	// Guarded by log.mu.
	session  *wire.Session // nil while not connected
	node     op.NodeID     // 0 until the first hello
	name     string
	state    PeerState
	reason   string
	away     bool      // no session since its absence was reported
	said     string    // reason of the mirror's goodbye in this session
	heard    time.Time // when anything was last received
	cursor   op.LSN    // next to send
	sent     op.LSN    // last frame sent
	applied  op.LSN
	durable  op.LSN
	ackedOff uint64         // ring offset of applied
	flight   flight         // what a resync or a verify has on its way to it
	bound    uint64         // how far behind it may be before changes wait, in bytes
	nearing  bool           // bound comes down
	pending  *pending       // nil once the mirror is level and strict
	fresh    bool           // it began this resync with nothing
	begins   bool           // it was told to begin a resync, and what is pending is not known yet
	hints    bool           // in this resync no renames were replayed yet
	streams  bool           // what is ordered reaches it by the stream: there is a session, or a hello
	unproven []region.Move  // those that it has not acknowledged
	suspects int            // level paths that turned out not to be, since a file last became level
	differ   []wire.Report  // reports that repair has not looked at
	prepared *wire.Prepared // answer to the PrepareJoin of this session
	resync   *Progress      // nil while none runs
	paused   bool           // by the operator: nothing is sent to make it level
	pausedAt time.Time      // when that began, in this resync
	held     time.Duration  // how long this resync was paused
	verify   *verifying     // nil while none runs
	owed     []region.Mark  // where the mirror is known to differ, for repair to look at
	resyncs  uint64
	resumes  uint64
	losses   uint64 // Log.losses when what has to be compared was last read

	// out carries messages for the control stream to talk. It is made for each
	// session and never closed: senders give up when the session's context ends.
	outMu sync.Mutex // guards out
	out   chan []byte
}

func newPeer(l *Log, i int, cfg PeerConfig) *peer {
	p := &peer{
		log: l, cfg: cfg, bit: 1 << i, name: cfg.Addr, state: StateConnecting,
		more: make(chan struct{}, 1), news: make(chan struct{}, 1),
		paused: cfg.Paused, pausedAt: time.Now(),
	}
	p.leeway()
	return p
}

// maxSuspects is how many level paths may turn out not to be so while no file
// becomes level. Beyond that something keeps the mirror from being repaired
// that repeating does not cure.
const maxSuspects = 10_000

var (
	errFellOff = errors.New("fell off the ring: it is compared anew")
	errSilent  = errors.New("nothing was heard from it")
	errProto   = errors.New("protocol violation")
)

// nudge wakes send. It never blocks.
func (p *peer) nudge() { signal(p.more) }

// signal puts a token into a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run keeps a session with the mirror until ctx ends. Attempts that fail at
// once come further and further apart, up to a second.
func (p *peer) run(ctx context.Context) {
	const first, longest = 50 * time.Millisecond, time.Second
	pause := first
	for ctx.Err() == nil && p.log.fence.check() == nil {
		began := time.Now()
		err := p.connect(ctx)
		if ctx.Err() == nil {
			p.disconnected(err)
		}
		if pause = min(2*pause, longest); time.Since(began) > longest {
			pause = first
		}
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
		retry.Stop()
	}
}

// disconnected records why a session ended or none came about.
func (p *peer) disconnected(err error) {
	l := p.log
	l.mu.Lock()
	told, why := p.reason, err.Error()
	first := !p.away
	if p.said != "" {
		why = p.said // what broke afterwards says less
	}
	p.state, p.reason, p.said, p.away = StateConnecting, why, "", true
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		p.state, p.away = StateRefused, false // what it says is news each time that it changes
	}
	l.mu.Unlock()
	l.changed()
	// A peer that stays away is news once, however its errors differ.
	if first && told != why {
		l.event("disconnected", fmt.Sprintf("%s: %s", p.name, why))
	}
}

// 1. connect makes a session and waits for its end.
func (p *peer) connect(ctx context.Context) error {
	l := p.log
	dialing, cancel := context.WithTimeout(ctx, max(l.cfg.AckTimeout, time.Second))
	defer cancel()
	s, err := l.cfg.Dial(dialing, p.cfg.Addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer s.Close()
	// One reader for the whole session: it may have read beyond the hello.
	control := wire.NewReader(s.Control())
	defer p.parts()
	if err := p.hello(dialing, s, control); err != nil {
		return err
	}
	out := make(chan []byte, 16)
	p.outMu.Lock()
	p.out = out
	p.outMu.Unlock()
	defer func() {
		l.mu.Lock()
		p.session, p.resync = nil, nil
		if p.verify != nil {
			p.verify.lost("the session ended")
		}
		l.mu.Unlock()
		l.breathe() // nobody waits for this one to come nearer
		l.changed()
	}()
	l.changed()
	return gather(ctx,
		func(ctx context.Context) error { return p.send(ctx, s.Log()) },
		func(ctx context.Context) error { return p.receive(s) },
		func(session context.Context) error { return p.talk(session, ctx, s, out) },
		func(ctx context.Context) error { return p.listen(control) },
		p.repair)
}

// 2. send writes what the ring holds for this peer, in runs as long as they
// come, which is group commit: ops of many calls share one write.
func (p *peer) send(ctx context.Context, w io.Writer) error {
	const limit = 256 << 10
	l := p.log
	var last run // what was written; one whose write failed may still be read
	var told op.LSN
	beat := time.NewTicker(l.cfg.Heartbeat)
	defer beat.Stop()
	for {
		l.mu.Lock()
		last.unpin()
		got, next, ok := l.ring.read(p.cursor, p.bit, limit)
		passed := len(got.frames) == 0 && p.cursor < next
		if last = got; ok {
			p.cursor = next
			if len(got.frames) > 0 {
				p.sent = next - 1
			}
		}
		l.mu.Unlock()
		if !ok {
			return errFellOff
		}
		if passed { // without an ack it is not behind any more
			signal(p.news)
			l.breathe()
		}
		if len(got.frames) > 0 {
			if _, err := w.Write(got.frames); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			continue
		}
		select {
		case <-p.more:
		case <-beat.C:
			// Behind the changes of the set that it rests on (RULES.md 5, CommitInOrder).
			if commit, change := l.sync.committed(); commit > told && next > change {
				told = commit
				if _, err := w.Write(wire.AppendCommit(nil, l.cfg.Line.Epoch.Number, commit)); err != nil {
					return fmt.Errorf("send: %w", err)
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// 3. receive takes acks and reports until the session is closed.
func (p *peer) receive(s *wire.Session) error {
	l := p.log
	r := wire.NewReader(s.Log())
	for {
		h, payload, err := r.Next()
		if err != nil {
			return fmt.Errorf("receive: %w", closedAsEOF(err))
		}
		switch h.Kind {
		case wire.KindAck:
			err = p.acked(payload)
		case wire.KindReport:
			var report wire.Report
			if err = wire.DecodeMessage(payload, &report); err == nil {
				err = p.reported(report)
			}
		default:
			err = fmt.Errorf("%w: frame of kind %d on the log stream", errProto, h.Kind)
		}
		if err != nil {
			return err
		}
		signal(p.news)
		l.breathe()
	}
}

// acked takes one cumulative ack.
func (p *peer) acked(payload []byte) error {
	a, err := wire.DecodeAck(payload)
	if err != nil {
		return err
	}
	l := p.log
	l.mu.Lock()
	p.heard = time.Now()
	if sent := p.sent; a.Applied > sent || a.Durable > a.Applied || a.Offset > l.ring.offset {
		l.mu.Unlock()
		return fmt.Errorf("%w: ack of applied %d, durable %d when %d was the last op sent", errProto, a.Applied, a.Durable, sent)
	}
	p.applied, p.durable = max(p.applied, a.Applied), max(p.durable, a.Durable)
	p.took(a.Offset)
	p.proven()
	node, applied, durable := p.node, p.applied, p.durable
	l.mu.Unlock()
	l.sync.report(node, applied, durable)
	return nil
}

// reported takes one report. Those of a resync wait for repair.
func (p *peer) reported(r wire.Report) error {
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	p.heard = time.Now()
	for _, path := range []string{string(r.Path), string(r.Path2)} {
		if err := op.CheckPath(path); path != "" && err != nil {
			return fmt.Errorf("%w: report: %w", errProto, err)
		}
	}
	switch {
	case r.Kind == wire.ReportDifference && p.verify != nil:
		p.verify.add(r)
	case r.Kind == wire.ReportNames && p.verify != nil && p.pending == nil:
		return p.verify.survey(string(r.Path), r.Names)
	case r.Kind == wire.ReportDifference, r.Kind == wire.ReportNames && p.pending == nil: // of a verify that was given up
	case p.pending == nil:
		return fmt.Errorf("%w: report %q about %q outside of a resync", errProto, r.Kind, r.Path)
	case r.Kind == wire.ReportSuspect:
		return p.suspect(r)
	case r.Kind == wire.ReportNew:
		p.pending.mark(string(r.Path))
		p.differ = append(p.differ, r) // for the other names
	case r.Kind == wire.ReportNames:
		for _, name := range r.Names {
			path := op.JoinPath(string(r.Path), string(name))
			if err := op.CheckPath(path); err != nil {
				return fmt.Errorf("%w: report: %w", errProto, err)
			}
			// It may have grown since, over what the mirror has of an older one.
			p.pending.want(path, small)
		}
	case r.Kind == wire.ReportDiffer:
		p.differ = append(p.differ, r)
	default:
		return fmt.Errorf("%w: unknown report %q", errProto, r.Kind)
	}
	return nil
}

// suspect handles the report of an op that could not be applied. The caller
// holds mu.
func (p *peer) suspect(r wire.Report) error {
	for _, path := range []string{string(r.Path), string(r.Path2)} {
		if path == "" {
			continue
		}
		if !p.pending.covers(path) {
			p.suspects++ // of a pending path it is no news
		}
		p.pending.mark(path)
		// If it is the directory that the mirror lacks, a put of that says so.
		dir, _ := op.SplitPath(path)
		p.pending.add(region.Mark{Path: dir})
	}
	if p.suspects > maxSuspects {
		return fmt.Errorf("the mirror cannot be made equal: %q: %s", r.Path, r.What)
	}
	return nil
}

// breathe tells those who wait for room that some peer moved, or went away.
func (l *Log) breathe() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.room)
	l.room = make(chan struct{})
}

// lag is how many bytes of ops the mirror has not acknowledged. The caller
// holds mu.
func (p *peer) lag() uint64 {
	if p.applied >= p.sent && p.cursor == p.log.ring.next {
		return 0
	}
	return p.log.ring.offset - p.ackedOff
}

// status describes the peer. The caller holds mu.
func (p *peer) status() PeerStatus {
	s := PeerStatus{
		Node: p.node, Name: p.name, Addr: p.cfg.Addr, Async: p.cfg.Async,
		Connected: p.session != nil, State: p.state, Reason: p.reason,
		Applied: p.applied, Durable: p.durable, LastHeard: p.heard,
		Resyncs: p.resyncs, Resumes: p.resumes,
	}
	s.InSync = p.node != 0 && p.log.sync.has(p.node)
	if p.session != nil {
		s.LagBytes = p.lag()
	}
	s.Paused = p.paused
	if p.resync != nil {
		progress := *p.resync
		if p.paused {
			progress.Left = 0
		}
		s.Resync = &progress
	}
	return s
}
