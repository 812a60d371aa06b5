// Package keep keeps a mirror's last consistent state beside a replica that a
// resync changes, and puts it in the replica's place when a promotion takes it.
package keep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// Mode says whether a mirror keeps its last consistent state while a resync
// changes its replica.
type Mode string

const (
	Auto Mode = "auto" // where files can share data (XFS, btrfs)
	On   Mode = "on"   // or there is no resync
	Off  Mode = "off"
)

// Names in the state directory.
const (
	keptDir      = "consistent"     // what State.Kept tells of
	unfinished   = "consistent.new" // a copy that is being made
	discardedDir = "discarded"      // what is being removed
)

// briefly is how long a primary waits at the hello for a copy. One that takes
// longer goes on without the session, so that the primary holds nothing back
// for it, and the primary tries again until it is there.
const briefly = 300 * time.Millisecond

// errKeeping puts a resync off.
var errKeeping = errors.New("it keeps a copy of its consistent state first: it is brought level after that (keep_consistent)")

// Keeper keeps the last consistent state of a mirror in STATE/consistent, as a
// copy that shares its data with the replica. It is made before a resync may
// change anything and dropped when the replica is consistent again. Removing it
// takes a while, so it is moved away and removed beside all else.
type Keeper struct {
	mode  Mode
	store *state.Store
	tree  *tree.Tree
	log   *slog.Logger
	event func(kind, text string)
	step  func(name string) // a test's own, called before each step of an exchange; else nil

	ctx   context.Context // ends with close
	end   context.CancelFunc
	tasks sync.WaitGroup // a copy and a removal

	mu       sync.Mutex // guards all below, and which of the names above there are
	copying  *copying   // its result has not been taken; nil: none
	clearing bool       // a removal runs
}

// copying is one copy that is being made.
type copying struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // why there must be no resync; read after done
}

func New(mode Mode, store *state.Store, t *tree.Tree, log *slog.Logger, event func(kind, text string)) *Keeper {
	k := &Keeper{mode: mode, store: store, tree: t, log: log, event: event}
	k.ctx, k.end = context.WithCancel(context.Background())
	return k
}

// Close ends what runs and waits for it.
func (k *Keeper) Close() {
	k.end()
	k.tasks.Wait()
}

func (k *Keeper) path(name string) string { return filepath.Join(k.store.Dir(), name) }

// Check returns an error if the mode asks for what this file system has not.
func (k *Keeper) Check() error {
	if k.mode != On {
		return nil
	}
	return k.refused(k.tree.CanClone(k.store.Dir()))
}

// refused is the error of a mode that asks for what cannot be done because of
// err, which may be nil.
func (k *Keeper) refused(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("keep_consistent is on, and no consistent state can be kept: %w: mend that, or set keep_consistent: auto to go on without", err)
}

// Keep is called before a resync changes a replica that nothing else changes
// meanwhile. It returns nil when the consistent state is kept, or when it is
// recorded why not, and errKeeping when that takes longer.
func (k *Keeper) Keep(ctx context.Context) error {
	if c := k.finished(); c != nil {
		return c.err
	}
	s := k.store.Get()
	switch {
	case s.Mixed || s.Kept != nil:
		return nil
	case s.AsOf.IsZero():
		return k.without("there was none: this mirror has never been brought level", false)
	case k.mode == Off:
		return k.without("keep_consistent is off", false)
	}
	k.mu.Lock()
	c := k.copying
	if c == nil {
		ctx, cancel := context.WithCancel(k.ctx)
		c = &copying{cancel: cancel, done: make(chan struct{})}
		k.copying = c
		k.tasks.Go(func() {
			defer close(c.done)
			defer cancel()
			c.err = k.copy(ctx, s.AsOf)
		})
	}
	k.mu.Unlock()
	soon := time.NewTimer(briefly)
	defer soon.Stop()
	select {
	case <-c.done:
	case <-soon.C:
	case <-ctx.Done():
	}
	if c := k.finished(); c != nil {
		return c.err
	}
	return errKeeping
}

// finished takes the result of a copy that has come to its end, nil if there is
// none.
func (k *Keeper) finished() *copying {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.copying
	if c == nil || c.runs() {
		return nil
	}
	k.copying = nil
	return c
}

func (c *copying) runs() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// without records why there is no consistent state beside a replica that a
// resync changes. It is told when it is not what was recorded before.
func (k *Keeper) without(why string, tell bool) error {
	if k.store.Get().NotKept == why {
		return nil
	}
	if err := k.store.Update(func(s *state.State) error { s.NotKept = why; return nil }); err != nil {
		return err
	}
	if tell {
		k.tell(why)
	}
	return nil
}

func (k *Keeper) tell(why string) {
	k.log.Warn("no consistent state is kept during a resync", "reason", why)
	k.event("not-kept", "while a resync changes this mirror nothing older is kept: "+why)
}

// MakeRoom gives up what is kept where the disk has no room for both that and
// what the resync makes of the replica: the mirror would never be level.
func (k *Keeper) MakeRoom() {
	if s := k.store.Get(); k.mode == On || !s.Mixed || s.Kept == nil {
		return
	}
	const why = "the disk was full, and what was kept made room for the resync"
	if err := k.store.Update(func(s *state.State) error { s.Kept, s.NotKept = nil, why; return nil }); err != nil {
		k.log.Error("the consistent state that fills the disk cannot be given up", "error", err)
		return
	}
	k.tell(why)
	k.Sweep()
}

// Halt gives a copy up that is being made: the replica is about to change by
// other means.
func (k *Keeper) Halt() {
	k.mu.Lock()
	c := k.copying
	k.copying = nil
	k.mu.Unlock()
	if c != nil {
		c.cancel()
		<-c.done
	}
}

// copy makes the copy and records it. Its error says why there must be no resync.
func (k *Keeper) copy(ctx context.Context, asOf time.Time) error {
	began := time.Now()
	objects, err := k.clone(ctx)
	if err == nil {
		err = k.accept(state.Kept{AsOf: asOf, Made: time.Now().UTC(), Objects: objects})
	}
	if err == nil {
		k.event("kept", fmt.Sprintf("the consistent state of %s is kept in %s until the resync is through: %d files and directories, copied in %v",
			asOf.UTC().Format(time.RFC3339), k.path(keptDir), objects, time.Since(began).Round(time.Millisecond)))
		return nil
	}
	k.mu.Lock()
	k.discard(unfinished)
	k.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return errKeeping // the next resync begins anew
	case k.mode == On:
		return k.refused(err)
	}
	return k.without(err.Error(), true)
}

// clone makes STATE/consistent.new/tree and brings it to stable storage.
func (k *Keeper) clone(ctx context.Context) (objects int, err error) {
	if err := k.tree.CanClone(k.store.Dir()); err != nil {
		return 0, err
	}
	k.mu.Lock()
	k.discard(unfinished)
	k.discard(keptDir)
	// The place for what is discarded, too: a full disk may have no room for one.
	err = os.Mkdir(k.path(discardedDir), 0o700)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = os.Mkdir(k.path(unfinished), 0o700)
	}
	k.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("keep the consistent state: %w", err)
	}
	if err := k.tree.Clone(k.path(unfinished), func() error { objects++; return ctx.Err() }); err != nil {
		return 0, fmt.Errorf("keep the consistent state: %w", err)
	}
	return objects, k.tree.Sync()
}

// accept makes the new copy the one that is kept. A crash before it is recorded
// leaves a copy that nobody knows of, which is removed.
func (k *Keeper) accept(kept state.Kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := os.Rename(filepath.Join(k.path(unfinished), "tree"), k.path(keptDir)); err != nil {
		return fmt.Errorf("keep the consistent state: %w", err)
	}
	if err := errors.Join(os.Remove(k.path(unfinished)), tree.SyncDir(k.store.Dir())); err != nil {
		return fmt.Errorf("keep the consistent state: %w", err)
	}
	return k.store.Update(func(s *state.State) error { s.Kept, s.NotKept = &kept, ""; return nil })
}

// Sweep removes, beside all else, what the state does not name any more.
func (k *Keeper) Sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.copying.runs() {
		k.discard(unfinished)
	}
	if s := k.store.Get(); s.Kept == nil && s.Exchange == nil {
		k.discard(keptDir)
	} else if _, err := os.Lstat(k.path(keptDir)); s.Exchange == nil && errors.Is(err, os.ErrNotExist) {
		err := k.store.Update(func(s *state.State) error {
			s.Kept, s.NotKept = nil, k.path(keptDir)+" was removed"
			return nil
		})
		if err != nil {
			k.log.Warn("a consistent state that is gone is still recorded", "error", err)
		}
	}
	if _, err := os.Lstat(k.path(discardedDir)); err != nil || k.clearing {
		return
	}
	k.clearing = true
	k.tasks.Go(k.clear)
}

// discard moves a directory away to be removed. The caller holds mu.
func (k *Keeper) discard(name string) {
	err := os.Mkdir(k.path(discardedDir), 0o700)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = os.Rename(k.path(name), filepath.Join(k.path(discardedDir), fmt.Sprintf("%s-%d", name, time.Now().UnixNano())))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("what a mirror does not need any more is not removed", "path", k.path(name), "error", err)
	}
}

// clear removes what was discarded. It works half of the time only: others use
// the disk.
func (k *Keeper) clear() {
	n, began := 0, time.Now()
	rest := func() error {
		if n++; n%256 != 0 {
			return k.ctx.Err()
		}
		defer func() { began = time.Now() }()
		select {
		case <-time.After(time.Since(began)):
			return nil
		case <-k.ctx.Done():
			return k.ctx.Err()
		}
	}
	for done := false; !done; {
		err := k.clearOnce(rest)
		k.mu.Lock()
		if err == nil && !k.copying.runs() && k.store.Get().Kept == nil {
			err = unix.Rmdir(k.path(discardedDir))
		}
		if done = !errors.Is(err, unix.ENOTEMPTY); done {
			k.clearing = false
			if err != nil && k.ctx.Err() == nil {
				k.log.Warn("what a mirror does not need any more is not removed", "path", k.path(discardedDir), "error", err)
			}
		}
		k.mu.Unlock()
	}
}

func (k *Keeper) clearOnce(each func() error) error {
	t, err := tree.Open(k.path(discardedDir))
	if err != nil {
		return err
	}
	defer t.Close()
	return t.Clear(each)
}
