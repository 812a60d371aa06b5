package region

import (
	"cmp"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
)

// JoinedByUnits is Suspect as it once was: data was joined in the order of its
// units, so that a tail which began before an extent lost what lies between. The
// cover test has to find that.
func (s *Store) JoinedByUnits(n op.NodeID) []Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := NewSet()
	for _, of := range []*Set{s.hot.Set, s.stale[n]} {
		for _, m := range of.joinedByUnits() {
			all.Add(m)
		}
	}
	return all.joinedByUnits()
}

func (s *Set) joinedByUnits() []Mark {
	units := s.list()
	slices.SortFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.kind, b.kind), cmp.Compare(a.n, b.n))
	})
	var marks []Mark
	for _, u := range units {
		m := u.mark()
		if last := len(marks) - 1; last >= 0 && m.Scope == Object && marks[last].Scope == Object && marks[last].Path == m.Path &&
			(marks[last].To >= m.From || marks[last].From == marks[last].To) {
			if was := &marks[last]; was.From == was.To {
				*was = m
			} else {
				was.To = max(was.To, m.To)
			}
			continue
		}
		marks = append(marks, m)
	}
	return marks
}
