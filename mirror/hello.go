package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// hello agrees with the mirror on where the stream begins. Nothing that the
// mirror may have to forget is sent before the primary's own decision is
// durable (RULES.md 7, HelloExpels).
func (p *peer) hello(ctx context.Context, s *wire.Session, r *wire.Reader) error {
	l := p.log
	control := s.Control()
	deadline, _ := ctx.Deadline()
	if err := control.SetDeadline(deadline); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	l.mu.Lock()
	hello := wire.Hello{
		Protocol: wire.Protocol, MinProtocol: wire.MinProtocol, Software: l.cfg.Software,
		Volume: l.cfg.Volume, Node: l.cfg.Self, Name: l.cfg.Name, Line: l.cfg.Line,
		Oldest: l.ring.oldest(), Next: l.ring.next, Follows: l.cfg.Follows,
	}
	l.mu.Unlock()
	if err := tell(control, wire.KindHello, hello); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var a wire.Answer
	if err := hear(r, wire.KindAnswer, &a); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if err := p.meet(&a); err != nil {
		return err
	}
	restored, err := p.compareNotes(&a)
	if err != nil {
		return err
	}
	resume := !restored && a.Resume != nil && a.Resume.Line == l.cfg.Line && p.resumeAt(a.Resume.LSN)
	why := ""
	switch {
	case restored:
		why = "its state is older than it was"
	case !resume:
		why = "it came back without its session"
	case !a.InSync:
		why = "it has left the set by itself" // and its goodbye was not heard
	case p.cfg.Async:
		why = "it is asynchronous now" // and counts for no call (RULES.md 14)
	}
	if why != "" {
		if err := l.expel(ctx, a.Node, why); err != nil {
			return err
		}
	}
	if !resume {
		l.mu.Lock()
		p.begins = true
		l.mu.Unlock()
	}
	if err := tell(control, wire.KindBegin, wire.Begin{Resume: resume, Met: l.met(a.Node), Whole: restored, Policy: l.policy()}); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var begun wire.Begun
	if err := hear(r, wire.KindBegun, &begun); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	p.meeting(a.Node, begun.Met)
	if !resume {
		var theirs []region.Mark
		if a.Knows {
			if theirs, err = hearRegions(r); err != nil {
				return fmt.Errorf("hello: %w", err)
			}
		}
		if err := l.source.HoldAll(func() error { p.startOver(&a, theirs); return nil }); err != nil {
			return fmt.Errorf("hello: %w", err)
		}
	}
	if err := control.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.session, p.heard, p.prepared, p.away = s, time.Now(), nil, false
	if p.pending == nil && !l.sync.has(p.node) {
		p.pending = newPending() // expelled while it was away: it is lenient from there on, and reports
	}
	p.leeway()
	switch {
	case p.pending != nil:
		p.state = StateResync
	case p.cfg.Async:
		p.state = StateAsync
	case l.sync.has(p.node):
		p.state, p.reason = StateInSync, ""
	default:
		p.state = StateCatchingUp
	}
	return nil
}

// meet takes down who answered, and refuses to go on with the wrong node.
func (p *peer) meet(a *wire.Answer) error {
	l := p.log
	if r := a.Refusal; r != nil {
		l.Fence(r.Epoch, "the mirror at "+p.cfg.Addr)
		return r
	}
	if a.Epoch.Compare(l.cfg.Line.Epoch) > 0 {
		l.Fence(a.Epoch, "the mirror at "+p.cfg.Addr)
		return fmt.Errorf("%s has seen epoch %s: %w", a.Name, a.Epoch, op.ErrFenced)
	}
	if a.Node == l.cfg.Self {
		return fmt.Errorf("%s is this node itself: take it out of the mirrors", p.cfg.Addr)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.peers {
		if other != p && other.node == a.Node && other.session != nil {
			return fmt.Errorf("%s and %s are the same node (%s): take one of them out of the mirrors", p.cfg.Addr, other.cfg.Addr, a.Name)
		}
	}
	if p.node != a.Node {
		p.applied, p.durable, p.pending = 0, 0, nil // another node than last time
	}
	p.node, p.name, p.heard = a.Node, a.Name, time.Now()
	return nil
}

// resumeAt sets the cursor behind lsn, if the ring still holds what follows.
func (p *peer) resumeAt(lsn op.LSN) bool {
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case lsn+1 < l.ring.oldest() || lsn >= l.ring.next:
		return false
	case p.begins:
		// The last session ended before startOver. The mirror offers to resume what has
		// not begun here: it would join with nothing compared.
		return false
	case lsn < p.applied:
		// It has not taken one op of the resync that has begun: of what comes before
		// that nothing is to be sent, not even its own expulsion.
		return false
	}
	if p.pending != nil && !p.doubt(lsn) {
		return false
	}
	p.cursor, p.sent = lsn+1, lsn
	p.meets()
	p.resumes++
	return true
}

// doubt makes pending again what the mirror may have reported on when the last
// session broke: all that it applied beyond its last ack that arrived. What
// repair ops were about is pending still, but not that of an object which was made
// anew all is. It reports false if the ring does not hold that any more. The
// caller holds mu.
func (p *peer) doubt(applied op.LSN) bool {
	p.pending.requeue()
	p.differ = nil
	for from := p.applied + 1; from <= applied; {
		run, next, ok := p.log.ring.read(from, p.bit, largestChunk)
		if !ok {
			return false
		}
		for o := range opsIn(run.frames) {
			switch {
			case o.Kind == op.Put && o.Flags&op.Partial != 0 && o.Path != op.Root:
				for _, path := range append(o.Names, o.Path) {
					p.pending.mark(path)
				}
				continue
			case o.Kind.Repair():
				continue
			}
			p.pending.mark(o.Path)
			if o.Kind.TwoPaths() {
				p.pending.mark(o.Path2)
			}
		}
		run.unpin()
		if next == from {
			break
		}
		from = next
	}
	return true
}

// startOver begins a resync from the end of the ring on. What has to be compared
// is this node's hot set and its map of the mirror, read once nothing but the
// stream can add to what the mirror lacks, and theirs, what the mirror itself says
// (RULES.md 8, CmpPrimaryHot, CmpPrimaryStale, CmpPeerHot, CmpPeerStale). Both stay
// as they are until it joins (RULES.md 9, StaleUntilJoin). If either does not know
// the other it is everything.
//
// An op that travels carries along what is pending (follow, heirs), so all of that
// has to be known before the first one that does. No op is under way meanwhile:
// what it does to a pending path is asked before it has its place.
func (p *peer) startOver(a *wire.Answer, theirs []region.Mark) {
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	p.pending, p.fresh, p.differ, p.suspects = newPending(), a.Fresh, nil, 0
	marks := []region.Mark{region.Everything}
	if l.cfg.Regions != nil && a.Knows && !a.Fresh {
		marks = l.cfg.Regions.Suspect(a.Node)
	}
	p.pending.add(marks...)
	p.pending.add(theirs...)
	p.begins = false
	p.cursor = l.ring.next
	p.sent, p.applied, p.durable = p.cursor-1, p.cursor-1, 0
	p.meets()
	p.hints = l.cfg.Regions != nil && a.Knows && !a.Fresh && a.Protocol >= wire.ProtocolHints
	p.ackedOff, p.flight = l.ring.offset, flight{}
	p.resyncs++
	p.losses = l.losses
}

// hearRegions takes the mirror's half of what has to be compared (RULES.md 8,
// CmpPeerHot, CmpPeerStale).
func hearRegions(r *wire.Reader) (marks []region.Mark, err error) {
	for {
		var part wire.Regions
		if err := hear(r, wire.KindRegions, &part); err != nil {
			return nil, err
		}
		for _, m := range part.Regions {
			if err := op.CheckPath(string(m.Path)); err != nil || m.From < 0 || m.To < m.From || m.Scope > uint8(region.Tree) {
				return nil, fmt.Errorf("%w: region %+v", errProto, m)
			}
			marks = append(marks, region.Mark{Path: string(m.Path), Scope: region.Scope(m.Scope), From: m.From, To: m.To})
		}
		if !part.More {
			return marks, nil
		}
	}
}

// opsIn yields the ops of a run of frames, as long as they can be decoded.
func opsIn(run []byte) func(yield func(*op.Op) bool) {
	return func(yield func(*op.Op) bool) {
		r := wire.NewReader(bytes.NewReader(run))
		for {
			h, payload, err := r.Next()
			if err != nil {
				return
			}
			var o op.Op
			if wire.DecodeOp(h, payload, &o) == nil && !yield(&o) {
				return
			}
		}
	}
}

// policy is what a mirror has to know to be promoted by the rules (RULES.md 14).
func (l *Log) policy() wire.Policy {
	p := wire.Policy{MinInSync: l.cfg.MinInSync, OnShortage: string(l.cfg.OnShortage), Set: l.sync.set(), Heartbeat: l.cfg.Heartbeat, Border: Border(l.cfg.Rules)}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, peer := range l.peers {
		mode := wire.ModeSync
		if peer.cfg.Async {
			mode = wire.ModeAsync
		}
		p.Members = append(p.Members, wire.Member{Node: peer.node, Name: peer.name, Addr: peer.cfg.Addr, Mode: mode})
	}
	return p
}

// tell writes one message.
func tell(w io.Writer, k wire.Kind, v any) error {
	m, err := wire.AppendMessage(nil, k, v)
	if err != nil {
		return err
	}
	_, err = w.Write(m)
	return err
}

// hear reads one message, which must be of kind k, or a goodbye.
func hear(r *wire.Reader, k wire.Kind, v any) error {
	h, payload, err := r.Next()
	if err != nil {
		return closedAsEOF(err)
	}
	if h.Kind == wire.KindGoodbye && k != wire.KindGoodbye {
		var bye wire.Goodbye
		if err := wire.DecodeMessage(payload, &bye); err != nil {
			return err
		}
		return errors.New(bye.Reason)
	}
	if h.Kind != k {
		return fmt.Errorf("%w: frame of kind %d where %d was due", errProto, h.Kind, k)
	}
	return wire.DecodeMessage(payload, v)
}

// closedAsEOF says in words that the other end is gone.
func closedAsEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the connection was closed by the other end")
	}
	return err
}
