package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
)

// alone is the Committer of a primary without mirrors: nothing travels and
// nobody is waited for. All that is left of mirroring is that it can be fenced.
type alone struct {
	gate   sync.RWMutex // held shared while an op is applied; guards fenced
	fenced error        // wraps op.ErrFenced once the node is deposed
}

// Admit admits everything until the node was deposed.
func (a *alone) Admit(context.Context) error {
	a.gate.RLock()
	defer a.gate.RUnlock()
	return a.fenced
}

// Commit runs apply unless the node was deposed.
func (a *alone) Commit(_ context.Context, _ *op.Op, apply func() error) (op.Ack, error) {
	a.gate.RLock()
	defer a.gate.RUnlock()
	if a.fenced != nil {
		return nil, a.fenced
	}
	return op.Done, apply()
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
