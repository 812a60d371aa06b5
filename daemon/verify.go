package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

// schedule has a primary verify by itself, each time when the last verify is
// every ago. A reign runs one.
type schedule struct {
	every time.Duration
	// last is when the last verify ended, whoever began it; zero: there was none.
	last func() time.Time
	// ready returns once there is somebody to compare.
	ready func(ctx context.Context) error
	// verify runs one and records what it found.
	verify func(ctx context.Context) error
	// failed is told that one did not get to its end, and when the next try is.
	failed func(err error, next time.Duration)
}

// retryVerify is how long after a verify that failed the next one is tried.
const retryVerify = time.Hour

// run returns when ctx ends, or the reign.
func (s *schedule) run(ctx context.Context) {
	pause := time.Duration(0) // after a failure
	for {
		due := pause
		if last := s.last(); !last.IsZero() {
			// A clock that was set back must not put it off for ever.
			due = max(due, min(s.every, s.every-time.Since(last)))
		}
		timer := time.NewTimer(due)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause = 0
		err := s.ready(ctx)
		if err == nil {
			err = s.verify(ctx)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, op.ErrFenced):
			return
		default:
			pause = min(s.every, retryVerify)
			s.failed(err, pause)
		}
	}
}

// verifySchedule is the schedule of this reign.
func (r *reign) verifySchedule() *schedule {
	n := r.node
	return &schedule{
		every: n.cfg.Mirror.VerifyEvery,
		last: func() time.Time {
			if v := n.store.Get().LastVerify; v != nil {
				return v.Ended
			}
			return time.Time{}
		},
		ready: func(ctx context.Context) error { return r.log.WaitInSync(ctx, min(1, r.synced)) },
		verify: func(ctx context.Context) error {
			report, err := r.verify(ctx, false)
			if err == nil && inShort(report).Compared() == 0 {
				err = errors.New("no mirror could be compared")
			}
			return err
		},
		failed: func(err error, next time.Duration) {
			n.event("verify", fmt.Sprintf("the verify that was due did not get to its end: %v; the next try is in %v", err, next))
		},
	}
}

func (r *reign) verify(ctx context.Context, versions bool) (*mirror.VerifyReport, error) {
	if r.log == nil {
		return nil, admin.Errorf(admin.CodeFailed, "%s has no mirrors: there is nothing to compare", r.node.cfg.Replica)
	}
	ctx, done, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	report, err := r.log.Verify(ctx, versions)
	if err != nil {
		return nil, err
	}
	return report, r.verified(report)
}

// begin is for work that has to be over before the reign ends: ctx is cancelled
// then, and done is waited for.
func (r *reign) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	if !r.work.TryRLock() {
		return nil, nil, admin.Errorf(admin.CodeFailed, "%s stops", r.node.cfg.Replica)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.watching, cancel)
	return ctx, func() {
		stop()
		cancel()
		r.work.RUnlock()
	}, nil
}

// mend makes all replicas be of the versions that somebody has chosen.
func (r *reign) mend(ctx context.Context, choices []mirror.Choice) ([]mirror.Mended, error) {
	if r.log == nil {
		return nil, admin.Errorf(admin.CodeFailed, "%s has no mirrors: there is nothing to repair it by", r.node.cfg.Replica)
	}
	ctx, done, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r.node.event("repair", fmt.Sprintf("%s that differed between replicas are made equal as it was chosen", plural(len(choices), "place")))
	results, err := r.log.Mend(ctx, choices)
	for _, m := range results {
		if m.Error != "" {
			r.node.event("repair", fmt.Sprintf("%q could not be made equal: %s", m.Path, m.Error))
		}
	}
	return results, err
}

// verified records what a verify has found, so that status shows it and the
// schedule counts from now. One that has compared nobody says nothing.
func (r *reign) verified(report *mirror.VerifyReport) error {
	found := inShort(report)
	if found.Compared() == 0 {
		return nil
	}
	if err := r.node.store.Update(func(s *state.State) error { s.LastVerify = found; return nil }); err != nil {
		return fmt.Errorf("record what the verify has found: %w", err)
	}
	text := admin.VerifyText(found)
	log := r.node.log.Info
	if !found.Equal() {
		log = r.node.log.Warn
	}
	log("verify: " + text)
	r.node.event("verify", text)
	return nil
}

// inShort is the short form of a report that was made just now.
func inShort(r *mirror.VerifyReport) *state.LastVerify {
	const most = 200
	v := &state.LastVerify{Ended: time.Now().UTC(), Files: r.Files, Bytes: r.Bytes}
	for _, p := range r.Peers {
		peer := state.VerifiedPeer{Name: p.Name, Differences: len(p.Differences)}
		if len(p.Differences) > 0 {
			peer.First = p.Differences[0]
			if len(peer.First) > most {
				peer.First = strings.ToValidUTF8(peer.First[:most], "") + "..."
			}
		}
		if !p.Checked {
			peer.Reason = p.Reason
		}
		v.Peers = append(v.Peers, peer)
	}
	return v
}
