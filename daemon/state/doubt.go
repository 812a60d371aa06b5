package state

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// A disk that fails a write fails it once: the kernel reports the loss to the
// next fsync and then takes the page in its cache for clean, though the disk has
// something else. Whoever compared that page would find it equal, and sync it
// without an error. So the node doubts its replica from then on, durably, and
// before the next comparison rests on it, it reads the disk (guarantee 8).
//
// What may be wrong is hot: a region is forgotten only after a sync of the whole
// replica that came to nothing bad.

// Doubt notes in st, and in memory should st not be recorded, that the disk has
// failed.
func (s *Store) Doubt(st *State) {
	s.doubted.Store(true)
	st.Doubted = true
}

// Believe ends the doubt, if there is one: the hot regions of the replica are read
// from the disk from now on. If the disk fails once more, the doubt stays.
func (s *Store) Believe(replica *tree.Tree) error {
	if !s.doubted.Load() && !s.Get().Doubted {
		return nil
	}
	if err := reread(replica, s.regions.Hot()); err != nil {
		return fmt.Errorf("the disk has failed, and still fails when the replica is to be read anew: %w", err)
	}
	if err := s.Update(func(st *State) error { st.Doubted = false; return nil }); err != nil {
		return err
	}
	s.doubted.Store(false)
	return nil
}

// reread has regions of a replica read past the page cache.
func reread(t *tree.Tree, marks []region.Mark) error {
	// The first sync may still report what is known. What is dirty is written by
	// the second one then, and what was lost is not.
	if t.Sync() != nil {
		if err := t.Sync(); err != nil {
			return err
		}
	}
	for _, m := range marks {
		if m.Scope == region.Entries || m.Scope == region.Children {
			entries, err := t.Names(m.Path)
			if tree.DiskFault(err) {
				return err
			}
			for _, e := range entries { // of none, if it went
				if err := t.Reread(op.JoinPath(m.Path, e.Name), false); err != nil {
					return err
				}
			}
			continue
		}
		if err := t.Reread(m.Path, m.Scope == region.Tree); err != nil {
			return err
		}
	}
	return nil
}
