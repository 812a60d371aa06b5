package mirror

import (
	"context"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
)

// ack says what a call that made o has to wait for.
func (l *Log) ack(o *op.Op, lsn op.LSN) op.Ack {
	durable := o.Flags&op.Barrier != 0
	level := l.rules.level(o.Path)
	if o.Path2 != "" && o.Kind != op.Symlink && level != SyncOp {
		// A rename or copy obeys the stricter of its two names.
		if other := l.rules.level(o.Path2); other == SyncOp || level == SyncLocal {
			level = other
		}
	}
	if level == SyncBarrier && o.Kind.Data() && !durable {
		return op.Done
	}
	return &ack{log: l, lsn: lsn, durable: durable}
}

// ack is the Ack of an op that has its place.
type ack struct {
	log     *Log
	lsn     op.LSN
	durable bool
}

// Then calls done once the op is where its level wants it. The fence is looked
// at once more right before the reply.
func (a *ack) Then(done func(error)) {
	l := a.log
	l.sync.wait(a.lsn, a.durable, l.now(), func(err error) {
		if err == nil {
			err = l.fence.check()
		}
		done(err)
	})
}

// Wait is Then for callers who wait.
func (a *ack) Wait(ctx context.Context) error {
	done := make(chan error, 1)
	a.Then(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the mirrors of op %d: %w", a.lsn, context.Cause(ctx))
	}
}
