package receive

import (
	"context"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
)

// Fence records that a higher epoch exists. It ends a session of a lower one
// first and lets none in again, so that from its return on nothing is
// acknowledged to a lower epoch (RULES.md 14, FenceOthers). In between, agree
// (nil: yes) sees the state that the ended session left, which may know a
// smaller set than an earlier answer said; it runs inside the transaction and
// uses neither Store nor Receiver. After its error nothing is recorded: the
// session may resume, and what may be forgotten is as before. The in-sync flag
// stays as it is. An epoch that is not higher is refused with code higher_epoch.
func (r *Receiver) Fence(ctx context.Context, epoch op.Epoch, agree func(state.State) error) error {
	r.fencing.Lock()
	defer r.fencing.Unlock()
	r.mu.Lock()
	r.floor = epoch
	s := r.current
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.floor = op.Epoch{}
		r.mu.Unlock()
	}()
	if s != nil && s.hello.Line.Epoch.Compare(epoch) < 0 {
		s.end(errFenced)
		select {
		case <-s.done:
		case <-ctx.Done():
			return fmt.Errorf("end the session with %s: %w", s.hello.Name, context.Cause(ctx))
		}
	}
	if err := r.cfg.Store.Update(func(st *state.State) error {
		if epoch.Compare(st.Epoch) <= 0 {
			return higherEpoch(st, "epoch "+epoch.String())
		}
		if agree != nil {
			if err := agree(st.Clone()); err != nil {
				return err
			}
		}
		st.See(epoch, 0, time.Now().UTC())
		return nil
	}); err != nil {
		return err
	}
	r.mu.Lock()
	r.settled = false
	r.mu.Unlock()
	r.cfg.Changed()
	return nil
}
