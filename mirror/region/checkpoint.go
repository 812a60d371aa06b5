package region

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Checkpoint is what a node gives to forget hot regions by.
type Checkpoint struct {
	// Settle orders changes that have been made but were put off: otherwise a crash
	// right after would leave them to a replica whose region is forgotten. It may
	// be nil.
	Settle func() error
	// Sync brings the replica to stable storage. Failed is told why it could not,
	// once nothing is forgotten any more.
	Sync   func() error
	Failed func(error)
	// Committed reports whether the commit position has passed at.
	Committed func(at op.LSN) bool
	// Outside returns the nodes that are not in the in-sync set, the primary
	// apart. It is asked after Committed.
	Outside func() []op.NodeID
	// Allowed is asked first, and once more last: whether this node may forget
	// anything at all.
	Allowed func() bool
}

// Checkpoints makes one at each interval, until ctx ends. failed is told why one
// was not made.
func (s *Store) Checkpoints(ctx context.Context, every time.Duration, c Checkpoint, failed func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := s.Checkpoint(c); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// Checkpoint forgets the hot regions that were not touched for a generation,
// once they are on stable storage and the commit position has passed them. First
// they are added to the map of every node outside of the set, in the same
// transaction (RULES.md 2, Fold, FoldMirror, KeepPastCommit). It is called by
// one goroutine.
//
// The kernel tells of a loss once, and no later sync makes up for it (guarantee
// 8). So after one that failed, whoever heard of it, nothing is forgotten until it
// is known what the disk has (Found).
//
// The order of its questions counts: a node that leaves the set after Committed
// said yes has those changes itself, and one that has left before is among
// those outside.
func (s *Store) Checkpoint(c Checkpoint) error {
	if !c.Allowed() {
		return nil
	}
	if err := s.KeepMoves(); err != nil {
		return fmt.Errorf("checkpoint: record renames: %w", err)
	}
	losses := s.lost()
	gen, at, idle := s.cut()
	if len(idle) == 0 {
		return nil
	}
	if c.Settle != nil {
		if err := c.Settle(); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	if err := c.Sync(); err != nil {
		s.Lost()
		c.Failed(err)
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !c.Committed(at) {
		return nil // at the next one
	}
	outside := c.Outside()
	// Who syncs beside this one may have heard of a loss in its stead.
	allowed := func() bool { return c.Allowed() && s.lost() == losses }
	inOrder(idle)
	for units := range slices.Chunk(idle, portion) {
		if err := s.forget(units, gen, outside, allowed); err != nil {
			return fmt.Errorf("checkpoint: record regions: %w", err)
		}
	}
	return nil
}

// portion is how many units are forgotten by one transaction. Meanwhile no other
// region can be recorded, and while they are taken out no op can begin.
const portion = 512

// forget drops those of units that are still idle, once they are in the maps of
// all nodes outside. What stays hot need not be in these: it is compared anyway.
func (s *Store) forget(units []unit, gen uint64, outside []op.NodeID, allowed func() bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !allowed() {
		return nil
	}
	s.mu.Lock()
	for _, u := range units {
		if !s.hot.stamp(u).idle(gen) {
			continue
		}
		for _, n := range outside {
			if m := s.stale[n]; m != nil {
				m.Add(u.mark())
			}
		}
		s.hot.remove(u)
	}
	s.mu.Unlock()
	return s.commit()
}

// Lost says that a sync of the replica has failed, or is about to be made that
// takes the news of such a one: whoever hears of it is the only one to. It returns
// the number of that loss.
func (s *Store) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses++
	return s.losses
}

func (s *Store) lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.losses
}

// Found says that since loss n the hot regions were read from the disk, and that
// every node which was compared before has left the set, durably. What is hot is
// then just what it is after a restart, and may be forgotten once it is synced and
// in the maps of those outside (RULES.md 2, 4). Not if there was another loss
// since.
func (s *Store) Found(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.losses == n {
		s.found = n
	}
}

// cut begins a new generation. It returns the one before the last, the position
// of the newest change up to that, and what may be forgotten then. Where an op of
// so long ago is still under way that is nothing.
func (s *Store) cut() (gen uint64, at op.LSN, idle []unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.losses != s.found || s.hot.past.underWay > 0 {
		return 0, 0, nil
	}
	gen, at = s.hot.gen-1, s.hot.past.last
	s.hot.cut()
	return gen, at, s.hot.idle(gen)
}
