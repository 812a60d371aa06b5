package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs"
)

// failing is what a primary knows of its disk's failures. Whoever met one has
// told its caller; what is left to do is done by watch, one after the other: to
// say so, and, where the disk has lost what was written, to have the replica and
// the mirrors rest on what the disk has.
type failing struct {
	failures chan string // room for a few; what does not fit is more of the same

	mu   sync.Mutex // guards all below
	last string     // the newest one, "" if there was none in this reign
	at   time.Time  // and when that was
	lost bool       // the kernel has dropped what was written, and nothing was done about it yet
}

const (
	// countsFor is how long a failure makes a node degraded: long enough to be
	// seen by whoever watches.
	countsFor = time.Hour
	// sayAgain is after how long the same failure is news again.
	sayAgain = time.Minute
	// retryReread is how long after a failure a replica is tried to be read anew.
	retryReread = 5 * time.Second
)

func newFailing() *failing { return &failing{failures: make(chan string, 16)} }

// failed takes a failure. It does not wait.
func (f *failing) failed(lost bool, err error) {
	f.mu.Lock()
	f.last, f.at, f.lost = err.Error(), time.Now(), f.lost || lost
	f.mu.Unlock()
	select {
	case f.failures <- err.Error():
	default:
	}
}

// shown returns the newest failure as long as it counts, or "".
func (f *failing) shown() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) > countsFor {
		return ""
	}
	return f.last
}

// takeLost reports whether there is a loss to be dealt with, and leaves that to the
// caller.
func (f *failing) takeLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost := f.lost
	f.lost = false
	return lost
}

// watchDisk deals with the disk's failures until ctx ends.
func (r *reign) watchDisk(ctx context.Context, files *fs.FS) {
	said := map[string]time.Time{}
	for {
		select {
		case text := <-r.disk.failures:
			if time.Since(said[text]) > sayAgain {
				r.node.log.Error("the disk fails", "error", text)
				r.node.event("disk-error", text)
				clear(said)
				said[text] = time.Now()
			}
			if r.disk.takeLost() {
				r.reread(ctx, files)
			}
		case <-ctx.Done():
			return
		}
	}
}

// distrust notes that a sync of the replica has failed.
func (n *node) distrust() {
	if err := n.store.Update(func(s *state.State) error { n.store.Doubt(s); return nil }); err != nil {
		n.log.Error("the disk has failed, and it cannot be recorded: verify after a restart", "error", err)
	}
}

// reread has everybody see what the disk has: who reads the mount, and the
// mirrors.
func (r *reign) reread(ctx context.Context, files *fs.FS) {
	n := r.node
	loss := n.store.Regions().Lost()
	n.distrust()
	for {
		err := n.store.Believe(n.tree)
		if err == nil {
			break
		}
		n.log.Error("the replica is tried to be read anew later", "error", err)
		select {
		case <-time.After(retryReread):
		case <-ctx.Done():
			return // the next start does it
		}
	}
	files.DistrustBroken()
	found := true
	text := "what changed lately was read from the disk anew"
	if r.log != nil {
		text += ", and every mirror is compared with it"
		if err := r.log.Lost(ctx, fmt.Sprintf("the disk has failed, and may have lost what it was given: %s", text)); err != nil {
			n.log.Error("what is hot stays so until a restart", "error", err)
			found = false
		}
	}
	if found {
		n.store.Regions().Found(loss)
	}
	n.event("reread", text)
}
