package state

import (
	"maps"

	"github.com/standbyfs/standbyfs/fs/op"
)

// A primary and a mirror number their meetings: each beginning of a session, and
// each minute of it. The mirror records the next number first, and then the primary,
// which has heard it, so theirs differ by one at most, whoever is the primary next.
// Where they differ by more, one of them has gone back: its state was restored from a
// backup, or is a copy, most likely with the replica beside it. What that one lacks is
// in no record, since whoever forgot it had been told that this node has it.

// Met returns the number of the last meeting with a node; 0: there was none.
func (s *Store) Met(n op.NodeID) uint64 { return s.Get().Met[n] }

// Meet records the number of a meeting.
func (s *Store) Meet(n op.NodeID, number uint64) error {
	return s.Update(func(st *State) error { st.Meet(n, number); return nil })
}

// Meet is Store's within a change.
func (s *State) Meet(n op.NodeID, number uint64) {
	if s.Met = maps.Clone(s.Met); s.Met == nil {
		s.Met = make(map[op.NodeID]uint64)
	}
	s.Met[n] = number
}
