package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// checkpoints runs something at intervals, in a goroutine that end waits for.
type checkpoints struct {
	stop context.CancelFunc
	done chan struct{}
}

func beginCheckpoints(every time.Duration, checkpoint func()) *checkpoints {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpoints{stop, make(chan struct{})}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				checkpoint()
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

func (c *checkpoints) end() {
	c.stop()
	<-c.done
}

// checkpoint forgets, on a mirror in sync, what is safely stored here and on
// every member of the set, and adds it to the maps of those that are not members
// (RULES.md 2).
func (s *standby) checkpoint() {
	st := s.node.store.Get()
	if !st.InSync || !s.mayForget() {
		return
	}
	err := s.node.store.Regions().Checkpoint(region.Checkpoint{
		Sync: func() error {
			if err := s.node.tree.Sync(); err != nil {
				return s.fail(fmt.Errorf("sync the replica: %w", err))
			}
			return nil
		},
		// The set and the commit position are of the stream, where a position comes
		// behind the expulsions that it rests on (RULES.md 5, CommitInOrder).
		Committed: func(at op.LSN) bool { return s.Status().Commit >= at },
		Outside: func() []op.NodeID {
			st := s.node.store.Get()
			return slices.DeleteFunc(s.node.store.Regions().Nodes(), func(n op.NodeID) bool {
				return n == st.Epoch.Owner || slices.Contains(st.Set, n)
			})
		},
		Allowed: s.mayForget,
	})
	if err != nil {
		s.node.log.Error("regions are kept that need no comparison any more", "error", err)
	}
}
