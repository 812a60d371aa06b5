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

// Bounds of a Set. What has more detail becomes whole (design, section 1).
const (
	maxUnits   = 8192 // in all: 32 GiB of extents
	maxSmall   = 32   // children of a directory with attributes of their own: beyond, Entries
	maxFiles   = 1024 // children with data of their own: beyond, Children
	maxPathLen = 16 << 10
)

// coversFor is for how many generations a Tree unit covers what is done in it.
const coversFor = 2

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

// Set is a bounded set of regions. It knows of each unit when it was last
// touched, in generations, and what has changed since that was last recorded.
// A unit covers nothing before it is recorded. Set is pure bookkeeping, and has
// no lock.
//
// A Tree unit covers for a few generations only. It is made where much happens at
// once, a tree unpacked or moved; what goes on there afterwards is recorded more
// exactly, and the unit can be forgotten. But one that stands for more detail
// than the set can hold covers as long as it is touched.
type Set struct {
	units map[unit]uint64  // generation; 0: not recorded yet
	log   []change         // not recorded yet, in order
	tails map[string]int64 // the n of each file's tail unit
	trees int              // units of kind tree
	born  map[unit]uint64  // when a tree unit was recorded that covers for a while
	full  map[unit]bool    // tree units that made room
	small map[string]int   // attribute units of each directory's children
	large map[string]int   // extent and tail units of each directory's children
}

// change is a unit that came or went.
type change struct {
	unit unit
	gone bool
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{
		units: make(map[unit]uint64), born: make(map[unit]uint64), full: make(map[unit]bool), tails: make(map[string]int64),
		small: make(map[string]int), large: make(map[string]int),
	}
}

// Len returns how many units the set has.
func (s *Set) Len() int { return len(s.units) }

// Everything is the mark of a whole volume.
var Everything = Mark{Path: op.Root, Scope: Tree}

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

// Touch reports whether the set covers m, and if it does, says of what covers
// it that it was touched in gen.
func (s *Set) Touch(m Mark, gen uint64) bool {
	m = m.bounded()
	if len(s.units) == 0 {
		return false
	}
	if s.trees > 0 && s.touchTree(m.Path, gen) {
		return true
	}
	if m.Scope == Object && m.Path != op.Root {
		dir, _ := op.SplitPath(m.Path)
		if s.touch(unit{path: dir, kind: children}, gen) {
			return true
		}
		if m.small() && s.touch(unit{path: dir, kind: entries}, gen) {
			return true
		}
	}
	covered := true
	m.each(func(u unit) bool {
		covered = s.touchUnit(u, gen)
		return covered
	})
	return covered
}

// touchTree looks for a Tree mark of path or of a directory above it.
func (s *Set) touchTree(path string, gen uint64) bool {
	for {
		if s.touch(unit{path: path, kind: tree}, gen) {
			return true
		}
		if path == op.Root {
			return false
		}
		path, _ = op.SplitPath(path)
	}
}

// touchUnit looks for u, or for what covers it at the same path.
func (s *Set) touchUnit(u unit, gen uint64) bool {
	switch u.kind {
	case attributes:
		return s.touch(u, gen) || s.touch(unit{path: u.path, kind: entries}, gen) || s.touch(unit{path: u.path, kind: children}, gen)
	case entries:
		return s.touch(u, gen) || s.touch(unit{path: u.path, kind: children}, gen)
	case extent:
		if s.touch(u, gen) {
			return true
		}
		fallthrough
	case tail:
		n, ok := s.tails[u.path]
		return ok && n <= u.n && s.touch(unit{u.path, tail, n}, gen)
	}
	return s.touch(u, gen)
}

func (s *Set) touch(u unit, gen uint64) bool {
	was, ok := s.units[u]
	if b, young := s.born[u]; young && gen > b+coversFor {
		return false
	}
	if ok && was > 0 && was < gen {
		s.units[u] = gen
	}
	return ok && was > 0
}

// Add puts m into the set, or what stands for it where there is too much
// detail. It covers what it covers once it is recorded.
func (s *Set) Add(m Mark) { s.addIn(m, 0) }

// addIn is Add at a generation: what covers no more by then does not count.
func (s *Set) addIn(m Mark, gen uint64) {
	if s.Touch(m, gen) {
		return
	}
	m = s.widened(m.bounded())
	s.makeRoom(m)
	switch m.Scope {
	case Tree:
		s.Drop(func(u Mark, _ uint64) bool { return op.Within(u.Path, m.Path) })
	case Children:
		s.dropChildren(m.Path, true)
	case Entries:
		s.dropChildren(m.Path, false)
	}
	m.each(func(u unit) bool { s.add(u); return true })
}

// dropChildren drops what Entries, or with data Children, of dir makes
// superfluous.
func (s *Set) dropChildren(dir string, data bool) {
	if s.small[dir]+s.large[dir] == 0 && !data {
		return
	}
	has := s.large[dir] > 0
	for u := range s.units {
		parent, _ := op.SplitPath(u.path)
		switch {
		case data && u.path == dir && u.kind == entries:
		case u.path == op.Root || parent != dir || u.kind > tail:
			continue
		case data:
		case u.kind != attributes || has && s.hasData(u.path):
			continue
		}
		s.remove(u)
	}
}

// hasData reports whether a file has data units of its own.
func (s *Set) hasData(path string) bool {
	if _, ok := s.tails[path]; ok {
		return true
	}
	for u := range s.units {
		if u.path == path && u.kind == extent {
			return true
		}
	}
	return false
}

// widened returns m, or the wider mark that has to stand for it.
func (s *Set) widened(m Mark) Mark {
	if m.Scope != Object {
		return m
	}
	if dir, _ := op.SplitPath(m.Path); m.Path != op.Root {
		switch {
		case m.From < m.To && s.large[dir] >= maxFiles && s.files(dir) >= maxFiles:
			return Mark{Path: dir, Scope: Children}
		case m.small() && s.small[dir] >= maxSmall:
			return Mark{Path: dir, Scope: Entries}
		}
	}
	if m.extents() > maxUnits/8 {
		m.To = End
	}
	return m
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

// makeRoom makes what is below the deepest crowded directory whole, until there
// is room for m.
func (s *Set) makeRoom(m Mark) {
	for len(s.units)+1+int(m.extents()) > maxUnits {
		path := s.crowded()
		s.Drop(func(u Mark, _ uint64) bool { return op.Within(u.Path, path) })
		u := unit{path: path, kind: tree}
		s.add(u)
		s.full[u] = true
	}
}

// files counts the children of dir with data units of their own.
func (s *Set) files(dir string) int {
	paths := make(map[string]bool)
	for u := range s.units {
		if u.kind == extent || u.kind == tail {
			if parent, _ := op.SplitPath(u.path); parent == dir {
				paths[u.path] = true
			}
		}
	}
	return len(paths)
}

// crowded returns the deepest path at and below which there are so many units
// that one for all of them makes room.
func (s *Set) crowded() string {
	counts := make(map[string]int)
	for u := range s.units {
		for p := u.path; ; p, _ = op.SplitPath(p) {
			counts[p]++
			if p == op.Root {
				break
			}
		}
	}
	best := op.Root
	for p, n := range counts {
		if n >= maxUnits/8 && p != op.Root && (best == op.Root || len(p) > len(best)) {
			best = p
		}
	}
	return best
}

func (s *Set) add(u unit) {
	if _, ok := s.units[u]; ok {
		return
	}
	if u.kind == tail {
		if n, ok := s.tails[u.path]; ok {
			if n <= u.n {
				return
			}
			s.remove(unit{u.path, tail, n})
		}
		s.tails[u.path] = u.n
	}
	s.units[u] = 0
	s.log = append(s.log, change{unit: u})
	s.count(u, 1)
}

func (s *Set) remove(u unit) {
	if _, ok := s.units[u]; !ok {
		return
	}
	delete(s.units, u)
	delete(s.born, u)
	delete(s.full, u)
	if u.kind == tail {
		delete(s.tails, u.path)
	}
	s.log = append(s.log, change{unit: u, gone: true})
	s.count(u, -1)
}

// recorded says that the first n changes are on stable storage, touched in gen.
func (s *Set) recorded(n int, gen uint64) {
	for _, c := range s.log[:n] {
		if was, ok := s.units[c.unit]; ok && !c.gone && was == 0 {
			s.units[c.unit] = gen
			if c.unit.kind == tree && !s.full[c.unit] {
				s.born[c.unit] = gen
			}
		}
	}
	s.log = append(s.log[:0], s.log[n:]...)
}

func (s *Set) count(u unit, n int) {
	of := s.large
	switch u.kind {
	case tree:
		s.trees += n
		return
	case attributes:
		of = s.small
	case extent, tail:
	default:
		return
	}
	dir, _ := op.SplitPath(u.path)
	if of[dir] += n; of[dir] == 0 {
		delete(of, dir)
	}
}

// Drop takes out every unit for whose mark and generation gone says so.
func (s *Set) Drop(gone func(Mark, uint64) bool) {
	for u, gen := range s.units {
		if gone(u.mark(), gen) {
			s.remove(u)
		}
	}
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

// Marks returns all regions of the set, sorted, with data that lies side by side
// in one.
func (s *Set) Marks() []Mark {
	all := make([]Mark, 0, len(s.units))
	for u := range s.units {
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

// Merge adds every region of other.
func (s *Set) Merge(other *Set) {
	for _, m := range other.Marks() {
		s.Add(m)
	}
}
