package receive

import (
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
)

// membership records a change of the set, durably before the ack that covers
// it: an acknowledged barrier rests on every member's having done so (RULES.md
// 5, 6 RecordHeld).
func (a *applier) membership(lsn op.LSN, o *op.Op) error {
	join, self := o.Kind == op.Join, o.Member == a.self
	if o.Member == 0 || !slices.IsSorted(o.Members) || join != slices.Contains(o.Members, o.Member) {
		return protocolError("LSN %d: %s of %s leaves the set %v", lsn, o.Kind, o.Member, o.Members)
	}
	if join && self {
		// RULES.md 10, SyncBeforeJoin and SetBeforeMember: the replica was
		// synced, the primary counts on this node, and only now it says so.
		if !a.at.synced {
			return protocolError("LSN %d: join of this mirror without a PrepareJoin", lsn)
		}
		if err := a.syncs.wait(); err != nil {
			return err
		}
	}
	was := false
	err := a.store.Level(a.leveled(o), func(st *state.State) error {
		was = st.InSync
		st.Set = o.Members
		switch {
		case join && self:
			st.InSync, st.Reason, st.ArchiveUntilJoined = true, "", false
			st.Level(time.Now())
		case self:
			st.InSync, st.Reason = false, "expelled by "+a.primary
		}
		return nil
	})
	if err != nil {
		return unrecorded(err)
	}
	switch {
	case join && self:
		// RULES.md 3, KeepPastJoin.
		a.regions.Restart(lsn)
		a.mixed = false
		a.closeArchive("joined " + a.primary)
		a.joined()
		a.whole()
	case self:
		// Until the next PrepareJoin it is as in a resync: what does not fit is
		// reported, and repaired.
		a.advance(func(at *progress) { at.synced, at.strict = false, false })
		if was {
			a.expelled("expelled by " + a.primary)
		}
	}
	return nil
}

// leveled returns the nodes that a change of the set makes equal to this one: at
// its own join the primary and all members; at another's that one, if this node
// is level itself (RULES.md 10, ClearWhenLevel). Maps of nodes out of sync stay.
func (a *applier) leveled(o *op.Op) []op.NodeID {
	switch {
	case o.Kind != op.Join:
		return nil
	case o.Member == a.self:
		others := slices.DeleteFunc(slices.Clone(o.Members), func(n op.NodeID) bool { return n == a.self })
		return append(others, a.sender)
	case a.store.Get().InSync:
		return []op.NodeID{o.Member}
	}
	return nil
}

// prepare makes the applier strict from the position that it returns, and then
// syncs the replica up to there at least, beside the stream.
func (a *applier) prepare() (op.LSN, error) {
	a.step.Lock()
	a.advance(func(at *progress) { at.strict = true })
	lsn := a.at.applied
	a.step.Unlock()
	if err := a.tree.Sync(); err != nil {
		err = leaving(fmt.Errorf("sync the replica: %w", err))
		a.halt(err)
		return 0, err
	}
	a.step.Lock()
	defer a.step.Unlock()
	a.advance(func(at *progress) { at.synced = true })
	// No entry will say so of a mirror that never joins.
	if !a.async || a.at.suspect > a.at.repair {
		return lsn, nil
	}
	if err := a.store.Update(func(st *state.State) error {
		st.Level(time.Now())
		st.ArchiveUntilJoined = false // all that it held alone has been found or made equal
		return nil
	}); err != nil {
		err = unrecorded(err)
		a.halt(err)
		return 0, err
	}
	a.mixed = false
	a.closeArchive("level with " + a.primary)
	a.whole()
	return lsn, nil
}
