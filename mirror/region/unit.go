package region

import (
	"cmp"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Extent is the unit in which data is recorded, in bytes. A repair compares the
// regions in it (op.RegionSize) and sends those that differ, so a coarse record
// costs a few digests; a fine one would cost a durable write each.
const Extent = 4 << 20

// kind says what a unit is. The numbers are part of the format of the records.
type kind uint8

const (
	attributes kind = iota // of what is at path
	extent                 // the n-th one of a file's data
	tail                   // all extents from the n-th on
	entries                // see Entries
	children               // see Children
	tree                   // see Tree
)

// unit is one durable record. A Mark is made of one or more.
type unit struct {
	path string
	kind kind
	n    int64 // of extent and tail; otherwise 0
}

// each calls fn for the units that m is made of, until fn returns false.
func (m Mark) each(fn func(unit) bool) {
	switch m.Scope {
	case Tree:
		fn(unit{path: m.Path, kind: tree})
	case Children:
		fn(unit{path: m.Path, kind: children})
	case Entries:
		fn(unit{path: m.Path, kind: entries})
	default:
		if !fn(unit{path: m.Path, kind: attributes}) || m.From >= m.To {
			return
		}
		if m.To == End {
			fn(unit{m.Path, tail, m.From / Extent})
			return
		}
		for n := m.From / Extent; n <= (m.To-1)/Extent; n++ {
			if !fn(unit{m.Path, extent, n}) {
				return
			}
		}
	}
}

// extents is how many units of data m is made of.
func (m Mark) extents() int64 {
	switch {
	case m.Scope != Object || m.From >= m.To:
		return 0
	case m.To == End:
		return 1
	}
	return (m.To-1)/Extent - m.From/Extent + 1
}

// mark is the region that a unit records.
func (u unit) mark() Mark {
	switch u.kind {
	case attributes:
		return Mark{Path: u.path}
	case extent:
		return Mark{Path: u.path, From: u.n * Extent, To: (u.n + 1) * Extent}
	case tail:
		return Mark{Path: u.path, From: u.n * Extent, To: End}
	case entries:
		return Mark{Path: u.path, Scope: Entries}
	case children:
		return Mark{Path: u.path, Scope: Children}
	}
	return Mark{Path: u.path, Scope: Tree}
}

// topmost returns the units that do not lie in the tree of another one.
func topmost(units []unit) []unit {
	trees := make(map[string]bool)
	for _, u := range units {
		if u.kind == tree {
			trees[u.path] = true
		}
	}
	if len(trees) == 0 {
		return units
	}
	return slices.DeleteFunc(units, func(u unit) bool {
		if u.kind != tree && trees[u.path] {
			return true
		}
		for u.path != op.Root {
			if u.path, _ = op.SplitPath(u.path); trees[u.path] {
				return true
			}
		}
		return false
	})
}

// marksOf returns the regions of units, each once, sorted, with data that lies
// side by side in one.
func marksOf(units []unit) []Mark {
	all := make([]Mark, 0, len(units))
	for _, u := range units {
		all = append(all, u.mark())
	}
	// By where it begins: a tail may begin before extents that were there first.
	slices.SortFunc(all, func(a, b Mark) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	var marks []Mark
	for _, m := range all {
		last := len(marks) - 1
		switch {
		case last >= 0 && m == marks[last]: // of two sets
		case last < 0 || m.Scope != Object || marks[last].Scope != Object || marks[last].Path != m.Path:
			marks = append(marks, m)
		case marks[last].From == marks[last].To: // the attributes come with the data
			marks[last] = m
		case m.From <= marks[last].To:
			marks[last].To = max(marks[last].To, m.To)
		default:
			marks = append(marks, m)
		}
	}
	return marks
}

// inOrder sorts units as they lie on disk, so that those that are recorded or
// forgotten together share pages.
func inOrder(units []unit) {
	slices.SortFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.n, b.n), cmp.Compare(a.path, b.path))
	})
}

// bounded returns m, or what stands for it where its path is too long to be
// recorded.
func (m Mark) bounded() Mark {
	if len(m.Path) <= maxPathLen {
		return m
	}
	for len(m.Path) > maxPathLen {
		m.Path, _ = op.SplitPath(m.Path)
	}
	return Mark{Path: m.Path, Scope: Tree}
}
