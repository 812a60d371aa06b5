package mirror

import (
	"context"
	"errors"
)

// Lost says that the disk has lost what was written to the replica, of which the
// mirrors have a copy that the caller of an fsync was told not to rely on. Every
// mirror is compared with what the disk has: it was hot, so the repair looks at it
// (RULES.md 8, CmpPrimaryHot). The caller has read what is hot from the disk.
//
// When it returns nil no member of the set is left that was compared before: each
// was expelled, durably, and a session that began before joins no more. It is
// then as after a restart of the primary, and what is hot may be forgotten again,
// by way of the maps of those outside (RULES.md 2, Fold; 4; 5, ExpelFirst).
func (l *Log) Lost(ctx context.Context, why string) error {
	l.memberMu.Lock() // behind a join that is under way
	l.mu.Lock()
	l.losses++
	l.mu.Unlock()
	members := l.sync.set()
	l.memberMu.Unlock()
	l.disown(why)
	for _, n := range members {
		if err := l.expel(ctx, n, why); err != nil {
			return err
		}
	}
	return nil
}

// errLoss ends a session whose comparisons a loss has made worthless.
var errLoss = errors.New("the disk has failed since this mirror was compared")

// disown makes every mirror start over, after an op took effect here that
// could not be put into the stream.
func (l *Log) disown(why string) {
	l.event("disowned", "every mirror is compared anew: "+why)
	l.mu.Lock()
	l.ring.drop()
	l.mu.Unlock()
	for _, p := range l.peers {
		p.nudge()
	}
}
