package keep

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// An exchange is the replacement of a replica's mixed content by the consistent
// one that was kept. It is recorded before its first step, and what a crash
// interrupts is finished at the next start, before anything else. The replica's
// directory itself stays, since it may be a mount point and is what the state
// knows: all that is in it moves.
//
//  1. The exchange is recorded.
//  2. All that is in the replica moves to STATE/mixed-TIME, and is synced.
//  3. In is recorded: from here on what is in the replica is the other content.
//  4. All that is in STATE/consistent moves into the replica, and is synced.
//  5. The end is recorded.
//
// Within 2 and 4 each name moves in one step, and what has moved does not move
// again. A power loss in 4 cannot bring back what 2 has moved away.

// Exchange takes the kept state for the replica's and returns where the mixed
// one is. Nothing else uses the replica meanwhile.
func (k *Keeper) Exchange(now time.Time) (aside string, err error) {
	kept, err := tree.Open(k.path(keptDir))
	if err != nil {
		return "", fmt.Errorf("take the consistent state that was kept: %w (--take mixed goes on without it)", err)
	}
	root, _, err := kept.Describe(op.Root)
	kept.Close()
	if err != nil {
		return "", err
	}
	name, err := k.free("mixed-", now)
	if err != nil {
		return "", err
	}
	if err := k.store.Update(func(s *state.State) error {
		s.Exchange, s.Stopped = &state.Exchange{Aside: name, Root: root.Attr}, nil
		return nil
	}); err != nil {
		return "", err
	}
	return k.path(name), k.Finish()
}

// free returns a name in the state directory that nothing has.
func (k *Keeper) free(prefix string, now time.Time) (string, error) {
	base := prefix + now.UTC().Format("20060102T150405Z")
	for name, i := base, 2; ; name, i = fmt.Sprintf("%s-%d", base, i), i+1 {
		if _, err := os.Lstat(k.path(name)); errors.Is(err, os.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}

// Finish makes an exchange whole, if one has begun.
func (k *Keeper) Finish() error {
	x := k.store.Get().Exchange
	if x == nil {
		return nil
	}
	err := k.takeOut(x)
	if err == nil {
		err = k.putIn(x)
	}
	if err != nil {
		return fmt.Errorf("exchange the content of replica %s with what was kept in %s: %w; the next start goes on with it", k.tree.Dir(), k.path(keptDir), err)
	}
	return nil
}

// takeOut is 2 and 3.
func (k *Keeper) takeOut(x *state.Exchange) error {
	if x.In {
		return nil
	}
	k.at("out")
	if err := os.Mkdir(k.path(x.Aside), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	aside, err := tree.Open(k.path(x.Aside))
	if err != nil {
		return err
	}
	defer aside.Close()
	if err := k.tree.MoveAll(aside, func() error { k.at("moved out"); return nil }); err != nil {
		return err
	}
	if err := k.tree.Sync(); err != nil {
		return err
	}
	k.at("all out")
	return k.store.Update(func(s *state.State) error {
		in := *x
		in.In = true
		s.Exchange = &in
		return nil
	})
}

// putIn is 4 and 5. The root's attributes are those of the kept one.
func (k *Keeper) putIn(x *state.Exchange) error {
	k.at("in")
	kept, err := tree.Open(k.path(keptDir))
	if err != nil {
		return err
	}
	defer kept.Close()
	root, _, err := kept.Describe(op.Root)
	if err != nil {
		return err
	}
	if err := kept.MoveAll(k.tree, func() error { k.at("moved in"); return nil }); err != nil {
		return err
	}
	root.Attr = x.Root
	if err := k.tree.Apply(root); err != nil {
		return err
	}
	if err := k.tree.Sync(); err != nil {
		return err
	}
	k.at("all in")
	var asOf time.Time
	// What is known of differences is of content that is not here any more: every
	// other node is compared in full.
	if err := k.store.Regions().Forget(func(also func(*bolt.Tx) error) error {
		return k.store.Update(func(s *state.State) error { asOf = exchanged(s); return nil }, also)
	}); err != nil {
		return err
	}
	k.at("end")
	k.event("exchanged", fmt.Sprintf("the replica is as it was at %s; what a resync had made of it is in %s until you remove it",
		asOf.UTC().Format(time.RFC3339), k.path(x.Aside)))
	k.Sweep()
	return nil
}

// exchanged records in s that the replica has the content that was kept, and
// returns of when that is. It is behind whatever was compared or joined since.
func exchanged(s *state.State) (asOf time.Time) {
	if s.Kept != nil {
		s.AsOf = s.Kept.AsOf
	}
	s.InSync, s.Reason = false, "the consistent state of "+s.AsOf.UTC().Format(time.RFC3339)+" was taken"
	s.Mixed, s.Kept, s.Exchange = false, nil, nil
	return s.AsOf
}

// Leave puts the kept state where it is not removed, for an operator who chose
// the mixed one, and returns where.
func (k *Keeper) Leave(now time.Time) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name, err := k.free("consistent-", now)
	if err != nil {
		return "", err
	}
	if err := unix.Rename(k.path(keptDir), k.path(name)); err != nil {
		return "", fmt.Errorf("put %s aside: %w", k.path(keptDir), err)
	}
	if err := tree.SyncDir(k.store.Dir()); err != nil {
		return "", err
	}
	return k.path(name), k.store.Update(func(s *state.State) error { s.Kept = nil; return nil })
}

// at tells a test which step comes.
func (k *Keeper) at(step string) {
	if k.step != nil {
		k.step(step)
	}
}
