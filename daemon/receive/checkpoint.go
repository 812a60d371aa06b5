package receive

import (
	"fmt"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// Checkpoint is by what a mirror in sync forgets what is safely stored here and on
// every member of the set, and adds it to the maps of those that are not members
// (RULES.md 2).
func (r *Receiver) Checkpoint() region.Checkpoint {
	return region.Checkpoint{
		Sync:   r.cfg.Tree.Sync,
		Failed: func(err error) { r.fail(fmt.Errorf("sync the replica: %w", err)) },
		// The set and the commit position are of the stream, where a position comes
		// behind the expulsions that it rests on (RULES.md 5, CommitInOrder).
		Committed: func(at op.LSN) bool { return r.Status().Commit >= at },
		Outside: func() []op.NodeID {
			st := r.cfg.Store.Get()
			return slices.DeleteFunc(r.cfg.Store.Regions().Nodes(), func(id op.NodeID) bool {
				return id == st.Epoch.Owner || slices.Contains(st.Set, id)
			})
		},
		Allowed: func() bool { return r.cfg.Store.Get().InSync && r.mayForget() },
	}
}
