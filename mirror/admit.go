package mirror

import (
	"context"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Admit waits until changes are allowed: the reign goes on, the set is large
// enough, and no peer that is to be kept in the ring is too far behind. The
// caller holds no lock, since a mirror may have to be brought level first, and
// that takes them. ctx ends the wait.
func (l *Log) Admit(ctx context.Context) error {
	for {
		if err := l.fence.check(); err != nil {
			return err
		}
		l.mu.Lock()
		news, room := l.news, l.room
		full := l.crowded((*peer).far)
		l.mu.Unlock()
		short := l.sync.short()
		switch {
		case short && l.cfg.OnShortage == ShortageFail:
			return fmt.Errorf("%d mirrors in sync, min_in_sync is %d: %w", len(l.sync.set()), l.cfg.MinInSync, op.ErrShortage)
		case !short && !full:
			return nil
		}
		select {
		case <-news:
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("waiting for mirrors before a change: %w", op.ErrInterrupted)
		}
	}
}

// crowded reports whether a connected peer that calls wait for, or that a
// resync is bringing level, is too far behind. The caller holds mu.
func (l *Log) crowded(far func(*peer) bool) bool {
	for _, p := range l.peers {
		if p.session != nil && !p.cfg.Async && far(p) {
			return true
		}
	}
	return false
}

// far reports whether changes wait for this mirror to come nearer: at half a
// ring, or a writer that never stops would push it off the ring. The caller
// holds mu.
func (p *peer) far() bool { return p.behind() > p.bound }

// farther reports whether repairs wait as well. They have a part of the ring
// that writers leave free, or these would keep them from ever going on.
func (p *peer) farther() bool {
	return p.behind() > uint64(p.log.cfg.RingBytes/2+p.log.window())
}

// behind is how far behind a mirror is: its lag, where an op counts as a KiB at
// least. To apply one takes about as long, and half a ring of the smallest would
// take longer than a barrier behind them has (ack_timeout). The caller holds mu.
func (p *peer) behind() uint64 {
	lag := p.lag()
	if lag == 0 {
		return 0
	}
	return max(lag, uint64(p.log.ring.next-1-p.applied)<<10)
}

// approach has a mirror come near, however fast somebody writes: from now on
// each byte that it takes brings the bound down by half of one. So changes go
// on meanwhile, at half of its pace. The caller holds mu.
func (p *peer) approach() { p.nearing = true }

// near reports whether it has. The caller holds mu.
func (p *peer) near() bool { return p.behind() <= 2*p.log.nearBy() }

// leeway ends that, or begins anew. The caller holds mu.
func (p *peer) leeway() { p.nearing, p.bound = false, uint64(p.log.cfg.RingBytes/2) }

// took says that the mirror has acknowledged the stream up to an offset. The
// caller holds mu.
func (p *peer) took(offset uint64) {
	if offset <= p.ackedOff {
		return
	}
	if half := (offset - p.ackedOff) / 2; p.nearing {
		p.bound = max(p.log.nearBy(), p.bound-min(p.bound, half))
	}
	p.ackedOff = offset
	p.flight.land(offset)
}

// nearBy is how far behind a mirror may be, in bytes, when calls begin to wait
// for it. (What is admitted comes on top.)
func (l *Log) nearBy() uint64 { return uint64(min(1<<20, l.cfg.RingBytes/4)) }
