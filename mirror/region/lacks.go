package region

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Lacks adds to the map of n and returns when that is recorded. Of an unknown
// node everything is compared anyway.
func (s *Store) Lacks(n op.NodeID, marks []Mark) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	m := s.stale[n]
	if m == nil {
		s.mu.Unlock()
		return nil
	}
	for _, mark := range marks {
		m.Add(mark)
	}
	s.mu.Unlock()
	if err := s.commit(); err != nil {
		return fmt.Errorf("record what node %s lacks: %w", n, err)
	}
	return nil
}

// Distrust has every other node be compared as a whole: the maps say too little. It
// returns when that is recorded.
func (s *Store) Distrust() error {
	for _, n := range s.Nodes() {
		if err := s.Lacks(n, []Mark{Everything}); err != nil {
			return err
		}
	}
	return nil
}
