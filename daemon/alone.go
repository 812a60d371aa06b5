package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// alone is the Committer of a primary without mirrors: nothing travels and
// nobody is waited for. All that is left of mirroring is that it can be fenced,
// and that it takes down what others will lack that once had a copy.
type alone struct {
	regions *region.Store // nil: nobody ever had a copy
	tree    *tree.Tree
	look    region.Look
	newest  atomic.Uint64 // changes so far, the stand-in for positions

	gate   sync.RWMutex // held shared while an op is applied; guards fenced
	fenced error        // wraps op.ErrFenced once the node is deposed
}

// Admit admits everything until the node was deposed.
func (a *alone) Admit(context.Context) error {
	a.gate.RLock()
	defer a.gate.RUnlock()
	return a.fenced
}

// newAlone returns the Committer of a reign without mirrors. Where no node has a
// map here a later mirror is compared as a whole, and nothing need be recorded.
func newAlone(regions *region.Store, t *tree.Tree, travels func(path string) bool) *alone {
	a := &alone{tree: t, look: mirror.Look(t, travels)}
	if len(regions.Nodes()) > 0 {
		a.regions = regions
		regions.Restart(1)
	}
	return a
}

// Commit runs apply unless the node was deposed. What it changes is recorded
// first (RULES.md 1, HotPrimary).
func (a *alone) Commit(_ context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	a.gate.RLock()
	defer a.gate.RUnlock()
	if a.fenced != nil {
		return nil, a.fenced
	}
	if a.regions == nil {
		return op.Done, apply()
	}
	hot, err := a.regions.Begin(o, a.look)
	if err != nil {
		return nil, err
	}
	if err := apply(); err != nil {
		hot.Leave(0)
		return nil, err
	}
	hot.Leave(op.LSN(a.newest.Add(1)))
	return op.Done, nil
}

// checkpoint is by what the changes move to the maps of all others: each of them
// lacks them (RULES.md 2, Fold).
//
// failed hears of a sync that failed: the replica may have lost something then.
// That the regions cannot be recorded says nothing of the replica; they are kept.
func (a *alone) checkpoint(settle func() error, failed func(error)) region.Checkpoint {
	return region.Checkpoint{
		Settle:    settle,
		Sync:      a.tree.Sync,
		Failed:    failed,
		Committed: func(op.LSN) bool { return true }, // by this node, the only one
		Outside:   a.regions.Nodes,
		Allowed:   func() bool { return a.Admit(context.Background()) == nil },
	}
}

// Mirrored is true: where nothing travels all names are equal.
func (a *alone) Mirrored(string) bool { return true }

// Fence refuses every later op. When it returns no earlier one is running.
func (a *alone) Fence(epoch op.Epoch, by string) {
	a.gate.Lock()
	defer a.gate.Unlock()
	if a.fenced == nil {
		a.fenced = fmt.Errorf("%s holds epoch %s: %w", by, epoch, op.ErrFenced)
	}
}
