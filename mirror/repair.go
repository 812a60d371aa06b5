package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// 6. repair brings the mirror level if it is not, has it join, and does so
// again whenever it has left the set. It returns when the session ends.
func (p *peer) repair(ctx context.Context) error {
	l := p.log
	pause := time.Duration(0)
	for {
		if err := p.level(ctx); err != nil {
			return err
		}
		if !p.cfg.Async {
			if err := l.join(ctx, p); err != nil {
				return err
			}
		}
		l.mu.Lock()
		p.pending, p.state = nil, StateInSync
		if p.cfg.Async {
			p.state, p.reason = StateAsync, ""
		}
		l.mu.Unlock()
		l.changed()
		joined := time.Now()
		owes, err := p.untilExpelled(ctx)
		if err != nil {
			return err
		}
		if owes {
			continue
		}
		// A mirror that is too slow would make calls wait for ack_timeout each
		// time it joins, so it joins less and less often.
		if time.Since(joined) > 10*time.Minute {
			pause = 0
		}
		pause = min(max(2*pause, l.cfg.AckTimeout), time.Minute)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilExpelled waits until the mirror is not a member of the set any more, which
// an asynchronous one never is, or until something is known that it lacks.
func (p *peer) untilExpelled(ctx context.Context) (owes bool, err error) {
	l := p.log
	for {
		l.mu.Lock()
		news, owes := l.news, len(p.owed) > 0
		l.mu.Unlock()
		if owes || !p.cfg.Async && !l.sync.has(p.node) {
			l.mu.Lock()
			p.state = StateCatchingUp
			if p.pending == nil {
				p.pending = newPending()
			}
			l.mu.Unlock()
			return owes, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// lacks has a mirror looked at where it is known to differ, as soon as it can be.
// It leaves the set before.
func (l *Log) lacks(ctx context.Context, p *peer, marks []region.Mark, why string) error {
	l.mu.Lock()
	p.owed = append(p.owed, marks...)
	node := p.node
	l.mu.Unlock()
	if err := l.expel(ctx, node, why); err != nil {
		return err
	}
	l.changed()
	signal(p.news)
	return nil
}

// takeOwed makes pending what lacks has said. The mirror is no member of the set
// then: one that has joined meanwhile leaves it again.
func (p *peer) takeOwed(ctx context.Context) error {
	l := p.log
	l.mu.Lock()
	owed := p.owed
	l.mu.Unlock()
	if len(owed) == 0 {
		return nil
	}
	if err := l.expel(ctx, p.node, "it is known to differ"); err != nil {
		return err
	}
	// An op that is under way has asked already what of its paths is pending.
	return l.source.HoldAll(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.pending == nil {
			p.pending = newPending()
		}
		p.pending.add(p.owed...)
		p.owed = nil
		return nil
	})
}

// level returns once the mirror is equal to the primary up to the stream, is
// strict about what it applies, has its replica synced, and is close behind. A
// member that resumed its session is all that already.
func (p *peer) level(ctx context.Context) error {
	l := p.log
	if err := p.takeOwed(ctx); err != nil {
		return err
	}
	if !p.cfg.Async && l.sync.has(p.node) {
		return nil
	}
	for {
		if err := p.takeOwed(ctx); err != nil {
			return err
		}
		last, err := p.bringLevel(ctx)
		if err != nil {
			return err
		}
		// Its own expulsion too: applied behind the PrepareJoin it would undo it.
		_, change := l.sync.committed()
		l.mu.Lock()
		p.approach()
		l.mu.Unlock()
		if err := p.await(ctx, func() bool { return p.applied >= max(last, change) && p.near() }); err != nil {
			return err
		}
		l.mu.Lock()
		p.leeway() // to sync its replica takes a while
		p.prepared = nil
		l.mu.Unlock()
		if err := p.post(ctx, wire.KindPrepareJoin, wire.PrepareJoin{}); err != nil {
			return err
		}
		err = p.await(ctx, func() bool { return p.prepared != nil && p.applied >= p.prepared.Applied })
		if err != nil {
			return err
		}
		l.mu.Lock()
		failed := p.prepared.Error
		equal := len(p.owed) == 0 && (p.pending == nil || p.pending.empty() && len(p.differ) == 0)
		l.mu.Unlock()
		if failed != "" {
			return fmt.Errorf("the mirror could not sync its replica: %s", failed)
		}
		if equal {
			return nil
		}
	}
}

// await returns when ok, which is called with log.mu held and after every
// message of the mirror, says so.
func (p *peer) await(ctx context.Context, ok func() bool) error {
	for {
		p.log.mu.Lock()
		yes := ok()
		p.log.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-p.news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bringLevel runs a resync until nothing is pending. It returns the LSN of the
// last op that it sent.
func (p *peer) bringLevel(ctx context.Context) (op.LSN, error) {
	l := p.log
	l.mu.Lock()
	idle := p.pending == nil || p.pending.empty()
	l.mu.Unlock()
	if idle {
		return 0, nil
	}
	l.event("resync", p.name+" is brought level")
	began := time.Now()
	r := &resync{p: p, log: l, began: began, links: newLinks()}
	l.mu.Lock()
	p.state, p.resync = StateResync, &Progress{}
	tasks := p.pending.tasks()
	p.held, p.pausedAt = 0, began
	l.mu.Unlock()
	l.changed()
	ctx, stop := context.WithCancel(ctx)
	counted := make(chan struct{})
	go func() { defer close(counted); r.count(ctx, tasks) }()
	err := r.run(ctx)
	stop()
	<-counted
	l.mu.Lock()
	paths, sent := p.resync.Paths, p.resync.Sent
	p.resync = nil
	if err == nil {
		p.state = StateCatchingUp
	}
	l.mu.Unlock()
	l.changed()
	if err != nil {
		return 0, fmt.Errorf("resync: %w", err)
	}
	l.event("resync", fmt.Sprintf("%s is level: %d paths looked at, %d bytes sent in %v", p.name, paths, sent, time.Since(began).Round(time.Millisecond)))
	return r.last, nil
}
