package daemon

import (
	"fmt"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// checkpoint is by what a mirror in sync forgets what is safely stored here and on
// every member of the set, and adds it to the maps of those that are not members
// (RULES.md 2).
func (s *standby) checkpoint() region.Checkpoint {
	n := s.node
	return region.Checkpoint{
		Sync:   n.tree.Sync,
		Failed: func(err error) { s.fail(fmt.Errorf("sync the replica: %w", err)) },
		// The set and the commit position are of the stream, where a position comes
		// behind the expulsions that it rests on (RULES.md 5, CommitInOrder).
		Committed: func(at op.LSN) bool { return s.Status().Commit >= at },
		Outside: func() []op.NodeID {
			st := n.store.Get()
			return slices.DeleteFunc(n.store.Regions().Nodes(), func(id op.NodeID) bool {
				return id == st.Epoch.Owner || slices.Contains(st.Set, id)
			})
		},
		Allowed: func() bool { return n.store.Get().InSync && s.mayForget() },
	}
}

// kept tells why regions were not forgotten.
func (n *node) kept(err error) {
	n.log.Error("regions are kept that need no comparison any more", "error", err)
}
