package mirror

import (
	"fmt"
	"sync/atomic"

	"github.com/standbyfs/standbyfs/fs/op"
)

// fence is raised once, when the primary hears of a higher epoch (guarantee 5,
// RULES.md 15). From then on no op is ordered and none is acknowledged.
type fence struct {
	raised atomic.Pointer[fenced]
}

type fenced struct {
	epoch op.Epoch
	by    string
}

// check returns an error that is op.ErrFenced once the fence is up.
func (f *fence) check() error {
	if r := f.raised.Load(); r != nil {
		return fmt.Errorf("%s holds epoch %s: %w", r.by, r.epoch, op.ErrFenced)
	}
	return nil
}

// Fence deposes this primary: epoch is higher than its own. Calls that wait are
// answered with op.ErrFenced, and Config.Fenced is called. Only the first call
// does anything.
func (l *Log) Fence(epoch op.Epoch, by string) {
	if epoch.Compare(l.cfg.Line.Epoch) <= 0 || !l.fence.raised.CompareAndSwap(nil, &fenced{epoch, by}) {
		return
	}
	l.sync.fail(l.fence.check())
	l.changed()
	l.event("fenced", fmt.Sprintf("%s holds epoch %s, ours is %s: the mount is read-only now", by, epoch, l.cfg.Line.Epoch))
	l.cfg.Fenced(epoch, by)
}
