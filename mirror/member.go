package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sync/errgroup"
)

// expel takes a node out of the in-sync set: durably first, then in the
// bookkeeping, and as an entry of the stream that the mirrors record (RULES.md
// 5). Until the decision is durable nothing that waited for the node returns.
// It does nothing if the node is not a member.
func (l *Log) expel(ctx context.Context, node op.NodeID, why string) error {
	l.memberMu.Lock()
	defer l.memberMu.Unlock()
	if !l.sync.has(node) {
		return nil
	}
	set := slices.DeleteFunc(l.sync.set(), func(n op.NodeID) bool { return n == node })
	name := l.nameOf(node)
	if err := l.cfg.Register.Decide(ctx, set, 0); err != nil {
		return fmt.Errorf("record that %s is out of the in-sync set: %w", name, err)
	}
	l.enter(&op.Op{Kind: op.Expel, Path: op.Root, Member: node, Members: set}, func(at op.LSN) {
		l.sync.expel(node, at, l.now())
		for _, p := range l.peers {
			if p.node == node && p.session != nil && p.pending == nil {
				p.pending = newPending() // from there on it is lenient, and reports
			}
		}
	})
	l.mu.Lock()
	for _, p := range l.peers {
		if p.node == node {
			p.reason = why
		}
	}
	l.mu.Unlock()
	l.event("expelled", fmt.Sprintf("%s is not in sync any more: %s", name, why))
	if len(set) < l.cfg.MinInSync {
		what := map[Shortage]string{ShortageBlock: "wait", ShortageFail: "fail"}[l.cfg.OnShortage]
		l.event("shortage", fmt.Sprintf("%d mirrors in sync, min_in_sync is %d: calls %s", len(set), l.cfg.MinInSync, what))
	}
	return nil
}

// join takes p into the in-sync set. The caller has made sure that p is level
// and has synced its replica (RULES.md 10, SyncBeforeJoin). The set includes it
// before it says so itself (SetBeforeMember): it records 'in sync' when it
// applies the entry.
//
// Its map is emptied with that, so it must have applied all that is committed:
// what lies behind is still hot on every node, and nothing else is (RULES.md 10,
// "stream drained"). The commit position stands still for as long, so that a
// writer that never stops cannot keep it out.
func (l *Log) join(ctx context.Context, p *peer) error {
	commit := l.sync.hold()
	defer l.sync.letGo()
	if err := p.await(ctx, func() bool {
		return p.applied >= commit || p.applied >= p.sent && p.cursor > commit
	}); err != nil {
		return err
	}
	l.memberMu.Lock()
	defer l.memberMu.Unlock()
	l.mu.Lock()
	node, name, worthless := p.node, p.name, p.losses != l.losses
	l.mu.Unlock()
	switch {
	case worthless:
		return errLoss
	case l.sync.has(node):
		return nil
	}
	set := append(l.sync.set(), node)
	slices.Sort(set)
	if err := l.cfg.Register.Decide(ctx, set, node); err != nil {
		return fmt.Errorf("record that %s is in the in-sync set: %w", name, err)
	}
	l.enter(&op.Op{Kind: op.Join, Path: op.Root, Member: node, Members: set}, func(at op.LSN) {
		l.sync.join(node, at, p.applied, p.durable, l.now())
		// Whoever sees it in the set finds it level.
		p.pending, p.state, p.reason = nil, StateInSync, ""
	})
	l.event("joined", name+" is in sync")
	return nil
}

// enter puts a membership entry into the stream and has the bookkeeping follow
// at the same position.
func (l *Log) enter(o *op.Op, follow func(at op.LSN)) {
	// Membership entries are small and of our own making: they encode.
	frame, err := l.encode(o)
	if err != nil {
		panic(fmt.Sprintf("membership entry: %v", err))
	}
	l.mu.Lock()
	at := l.put(frame, o, toAll)
	follow(at)
	l.mu.Unlock()
	l.sync.tell()
	l.wake(toAll)
	l.changed()
}

// nameOf returns what the operator calls a node.
func (l *Log) nameOf(node op.NodeID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if p.node == node {
			return p.name
		}
	}
	return "node " + node.String()
}

// watch expels members that do not answer in time, until ctx ends: those that a
// call has waited for longer than AckTimeout, and those not heard of for as
// long, whether anybody waits or not, so that the status tells the truth.
func (l *Log) watch(ctx context.Context) {
	tick := time.NewTicker(max(l.cfg.AckTimeout/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for node, why := range l.overdue() {
			switch err := l.expel(ctx, node, why); {
			case errors.Is(err, op.ErrUnrecorded):
				l.cfg.Logger.Error("in-sync set cannot be recorded: calls fail", "error", err)
				l.sync.fail(err)
			case err != nil:
				// Nothing returns before the decision is durable. The next tick tries again.
				l.cfg.Logger.Error("in-sync set cannot be recorded: calls wait", "error", err)
			}
		}
	}
}

// overdue returns the members to expel, with the reason.
func (l *Log) overdue() map[op.NodeID]string {
	due := make(map[op.NodeID]string)
	for _, n := range l.sync.late(l.now() - int64(l.cfg.AckTimeout)) {
		due[n] = fmt.Sprintf("no acknowledgement within ack_timeout (%v)", l.cfg.AckTimeout)
	}
	heard := make(map[op.NodeID]time.Time)
	l.mu.Lock()
	for _, p := range l.peers {
		if p.node != 0 {
			heard[p.node] = p.heard
		}
	}
	l.mu.Unlock()
	for _, n := range l.sync.set() {
		at := heard[n]
		if at.Before(l.start) {
			at = l.start
		}
		if silent := time.Since(at); due[n] == "" && silent > l.cfg.AckTimeout {
			due[n] = fmt.Sprintf("not heard of for %v", silent.Round(time.Millisecond))
		}
	}
	return due
}

// gather runs fns side by side and returns the first error; when one of them
// returns the others' context ends.
func gather(ctx context.Context, fns ...func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, fn := range fns {
		g.Go(func() error { return fn(ctx) })
	}
	return g.Wait()
}
