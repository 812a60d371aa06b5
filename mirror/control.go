package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/standbyfs/standbyfs/wire"
)

// 4. talk is the one writer of the control stream. It ends the session when the
// mirror has been silent for too long, and it closes it, which ends the stages
// that read, when any stage has failed or the log stops.
func (p *peer) talk(session, log context.Context, s *wire.Session, out <-chan []byte) error {
	defer s.Close()
	l := p.log
	beat := time.NewTicker(l.cfg.Heartbeat)
	defer beat.Stop()
	w := s.Control()
	for {
		var message []byte
		select {
		case message = <-out:
		case <-beat.C:
			l.mu.Lock()
			silent := time.Since(p.heard)
			l.mu.Unlock()
			if silent > l.cfg.AckTimeout {
				return fmt.Errorf("%w for %v", errSilent, silent.Round(time.Millisecond))
			}
			var err error
			if message, err = wire.AppendMessage(nil, wire.KindHeartbeat, wire.Heartbeat{Sent: time.Now(), Met: l.met(p.node)}); err != nil {
				return err
			}
		case <-session.Done():
			if log.Err() != nil || l.fence.check() != nil {
				p.farewell(w)
			}
			return session.Err()
		}
		if err := w.SetWriteDeadline(time.Now().Add(l.cfg.AckTimeout)); err != nil {
			return fmt.Errorf("control: %w", err)
		}
		if _, err := w.Write(message); err != nil {
			return fmt.Errorf("control: %w", err)
		}
	}
}

// farewell tells the mirror that this end is meant: the end of a log is an
// explicit goodbye, never EOF. A deposed primary says which epoch it yields to.
// A mirror that cannot hear it any more finds out by the silence.
func (p *peer) farewell(w net.Conn) {
	bye := wire.Goodbye{Reason: "the primary stops"}
	if r := p.log.fence.raised.Load(); r != nil {
		bye.Reason, bye.Epoch = "the primary was deposed", &r.epoch
	}
	err := w.SetWriteDeadline(time.Now().Add(time.Second))
	if err == nil {
		err = tell(w, wire.KindGoodbye, bye)
	}
	if err != nil {
		p.log.cfg.Logger.Debug("goodbye not delivered", "peer", p.cfg.Addr, "error", err)
	}
}

// 5. listen takes the mirror's messages until the session is closed.
func (p *peer) listen(r *wire.Reader) error {
	l := p.log
	for {
		h, payload, err := r.Next()
		if err != nil {
			return fmt.Errorf("control: %w", closedAsEOF(err))
		}
		l.mu.Lock()
		p.heard = time.Now()
		l.mu.Unlock()
		switch h.Kind {
		case wire.KindHeartbeat:
			var beat wire.Heartbeat
			if err := wire.DecodeMessage(payload, &beat); err != nil {
				return err
			}
			p.meeting(p.node, beat.Met)
		case wire.KindPrepared:
			var m wire.Prepared
			if err := wire.DecodeMessage(payload, &m); err != nil {
				return err
			}
			l.mu.Lock()
			p.prepared = &m
			l.mu.Unlock()
			signal(p.news)
		case wire.KindGoodbye:
			var bye wire.Goodbye
			if err := wire.DecodeMessage(payload, &bye); err != nil {
				return err
			}
			return p.left(bye)
		default:
			return fmt.Errorf("%w: frame of kind %d on the control stream", errProto, h.Kind)
		}
	}
}

// left handles a mirror's goodbye: it recorded what it says before it said so.
func (p *peer) left(bye wire.Goodbye) error {
	l := p.log
	if bye.Epoch != nil {
		l.Fence(*bye.Epoch, p.name)
	}
	l.mu.Lock()
	node := p.node
	p.said = bye.Reason
	l.mu.Unlock()
	if bye.NotInSync {
		if err := l.expel(context.Background(), node, bye.Reason); err != nil {
			l.cfg.Logger.Error("in-sync set cannot be recorded: calls wait", "error", err)
		}
	}
	return errors.New(bye.Reason)
}

// post hands a message to talk.
func (p *peer) post(ctx context.Context, k wire.Kind, v any) error {
	m, err := wire.AppendMessage(nil, k, v)
	if err != nil {
		return err
	}
	p.outMu.Lock()
	out := p.out
	p.outMu.Unlock()
	select {
	case out <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
