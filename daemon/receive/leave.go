package receive

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// Stop ends the mirror cleanly: nothing further is applied, running fsyncs are
// waited for, 'not in sync' is recorded with the reason, and only then the
// primary is told. If ctx ends before the fsyncs do, it is recorded then.
func (r *Receiver) Stop(ctx context.Context, reason string) error {
	leave := &leaveError{reason: reason, clean: true}
	s := r.close(&wire.Refusal{Code: wire.CodeBusy, Message: fmt.Sprintf("mirror %s stops: start it again", r.name())})
	if s == nil {
		return r.leave(leave)
	}
	s.end(leave)
	select {
	case <-s.done:
		// A session that was not yet running, or ended by itself just now, has
		// recorded nothing.
		if st := r.cfg.Store.Get(); !st.InSync && st.Reason == reason {
			return nil
		}
		return r.leave(leave)
	case <-ctx.Done():
		err := r.leave(leave)
		s.wire.Close()
		return errors.Join(err, fmt.Errorf("stop the mirror: running fsyncs: %w", context.Cause(ctx)))
	}
}

// leaveError ends a session because this mirror leaves the in-sync set by
// itself: its disk failed, or it stops.
type leaveError struct {
	reason string
	err    error     // nil if the mirror just stops
	clean  bool      // it stops
	told   bool      // an event tells of it already
	at     *progress // where it stops; nil: not known
}

func (e *leaveError) Error() string { return e.reason }

func (e *leaveError) Unwrap() error { return e.err }

// fail takes this mirror out of the set because its replica could not be made
// durable, which no later sync makes up for (guarantee 8).
func (r *Receiver) fail(err error) {
	leave := leaving(err)
	r.mu.Lock()
	r.settled = false
	s := r.current
	r.mu.Unlock()
	if s != nil {
		s.end(leave)
	}
	_ = r.leave(leave) // which says why it could not be recorded
}

// leave records that this mirror is not in sync. The caller tells the primary
// only afterwards.
func (r *Receiver) leave(l *leaveError) error {
	was, reason := false, l.reason
	stopped := r.stopped(l)
	err := r.cfg.Store.Update(func(st *state.State) error {
		was = st.InSync
		if st.Role == state.Mirror {
			if stopped != nil {
				// Without a session since the last stop it is still what it was then.
				stopped.Member = st.InSync || st.Stopped != nil && st.Stopped.Member
			}
			st.Stopped = stopped
			st.InSync, st.Reason = false, reason
		}
		if tree.DiskFault(l.err) { // a full one loses pages, too
			r.cfg.Store.Doubt(st)
		}
		return nil
	})
	r.mu.Lock()
	r.level = nil
	r.unrecorded = ""
	if err != nil {
		r.unrecorded = reason
	}
	r.mu.Unlock()
	if err != nil {
		r.cfg.Logger.Error("this mirror is not in sync and cannot record it: do not promote it after a restart", "reason", reason, "error", err)
	}
	if was || err != nil {
		r.degraded(reason)
	}
	if errors.Is(l.err, syscall.ENOSPC) || errors.Is(l.err, syscall.EDQUOT) {
		r.cfg.Full()
	}
	switch {
	case l.told:
	case tree.DiskFault(l.err):
		r.event("disk-error", reason)
	case l.err != nil:
		r.event("not-in-sync", reason)
	}
	r.cfg.Changed()
	return err
}
