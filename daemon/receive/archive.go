package receive

import (
	"errors"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// archive keeps what this node alone may have (RULES.md 9, Archive, ArchiveAny).
// Sessions of one epoch share one: it remembers what is the primary's by now.
type archive struct {
	*divergence.Keeper
	epoch  op.Epoch
	broken bool // it failed: the next session makes another one
	tell   func(reason string)
}

// archiveFor returns the archive for a session that begins, or nil if nothing
// here can be the only copy: this node has joined since it last heard of a
// higher epoch.
func (r *Receiver) archiveFor(st state.State) (*archive, error) {
	if !st.ArchiveUntilJoined {
		r.archive = nil
		how := divergence.Closed{When: time.Now().UTC(), How: "the node had joined, or was promoted"}
		return nil, divergence.CloseAll(r.cfg.Store.Dir(), op.Epoch{}, how)
	}
	if r.archive != nil && !r.archive.broken && r.archive.epoch == st.Epoch {
		return r.archive, nil
	}
	r.archive = nil
	k, err := divergence.Open(divergence.Config{
		StateDir: r.cfg.Store.Dir(), Tree: r.cfg.Tree, Epoch: st.Epoch, Before: before(st), Limit: r.cfg.DivergenceLimit,
		Sync:  r.syncArchive,
		Begun: func(id string) { r.event("divergence", "what only this node may have is kept as divergence "+id) },
	})
	if err == nil {
		r.archive = &archive{Keeper: k, epoch: st.Epoch, tell: r.cannotArchive}
	}
	return r.archive, err
}

// before is the highest epoch that the node knew before the one of now.
func before(st state.State) op.Epoch {
	if n := len(st.History); n > 1 {
		return st.History[n-2].Epoch
	}
	return op.Epoch{}
}

// save has what o takes on stable storage before o is applied, if it may be the
// only copy. Where that is not possible nothing is overwritten: this mirror
// stays out of sync and says why.
func (a *applier) save(o *op.Op) error {
	if a.archive == nil {
		return nil
	}
	return a.archive.failed(a.archive.Before(o, a.ahead))
}

// ahead yields ops that have been received and come next.
func (a *applier) ahead(yield func(*op.Op) bool) {
	for h, payload := range a.frames.Ahead() {
		var o op.Op
		if h.Kind == wire.KindCommit {
			continue
		}
		if wire.DecodeOp(h, payload, &o) != nil || !yield(&o) {
			return
		}
	}
}

// saved tells the archive that o was applied.
func (a *applier) saved(o *op.Op) error {
	if a.archive == nil {
		return nil
	}
	return a.archive.failed(a.archive.After(o))
}

// compared tells the archive what a comparison has found.
func (a *applier) compared(o *op.Op, differ []int64) {
	if a.archive != nil {
		a.archive.Compared(o, differ)
	}
}

// closeArchive ends the divergence: the node has joined, which is recorded. If
// that cannot be noted now, the next session does. The caller holds step.
func (a *applier) closeArchive(how string) {
	if a.archive == nil {
		return
	}
	a.archive = nil
	if err := divergence.CloseAll(a.store.Dir(), op.Epoch{}, divergence.Closed{When: time.Now().UTC(), Joined: true, How: how}); err != nil {
		a.log.Warn("the divergence is not noted as closed", "error", err)
	}
}

// failed turns a failure to keep something into the end of the session.
func (k *archive) failed(err error) error {
	if err == nil {
		return nil
	}
	k.broken = true
	leave := archiveError(err)
	k.tell(leave.reason)
	return leave
}

// cannotArchive records the reason for which nothing is overwritten here, once:
// the primary tries again and again.
func (r *Receiver) cannotArchive(reason string) {
	if r.cannot != reason {
		r.cannot = reason
		r.event("divergence", reason)
	}
}

func archiveError(err error) *leaveError {
	var limit *divergence.LimitError
	switch {
	case errors.As(err, &limit):
		return &leaveError{reason: limit.Error(), err: err, told: true}
	case tree.DiskFault(err):
		return &leaveError{reason: fmt.Sprintf("%s: %v: nothing is overwritten here before what only this node may have is kept: make room, or export and drop older divergences", reasonFor(err), err), err: err, told: true}
	}
	return &leaveError{reason: fmt.Sprintf("what only this node may have cannot be kept, so nothing is overwritten: %v", err), err: err, told: true}
}
