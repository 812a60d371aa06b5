package region

import (
	"github.com/standbyfs/standbyfs/fs/op"
)

// Bounds of a Set. What has more detail becomes whole (design, section 1).
const (
	maxUnits   = 32 << 10       // in all: 128 GiB of extents, or 1 % of a million small files
	maxRun     = maxUnits / 8   // extents of one mark: beyond, all from its first on
	enough     = maxUnits / 512 // units for which one for all of them is worth it
	maxSmall   = 32             // children of a directory with attributes of their own: beyond, Entries
	maxFiles   = 1024           // children with data of their own: beyond, Children
	maxPathLen = 16 << 10
)

// coversFor is for how many generations a Tree unit covers what is done in it.
const coversFor = 2

// Set is a bounded set of regions. It knows of each unit when it was last
// touched, in generations, and what has changed since that was last recorded.
// A unit covers nothing before it is recorded. Set is pure bookkeeping, and has
// no lock. To add and to look takes as long as the path is deep, however large
// the set is.
//
// A Tree unit covers for a few generations only. It is made where much happens at
// once, a tree unpacked or moved; what goes on there afterwards is recorded more
// exactly, and the unit can be forgotten. But one that stands for more detail
// than the set can hold covers as long as it is touched.
type Set struct {
	places places
	trees  int      // units of kind tree
	log    []change // not recorded yet, in order
}

// change is a unit that came or went.
type change struct {
	unit unit
	gone bool
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{places: make(places)} }

// Len returns how many units the set has.
func (s *Set) Len() int {
	if root := s.places[op.Root]; root != nil {
		return root.units
	}
	return 0
}

// Everything is the mark of a whole volume.
var Everything = Mark{Path: op.Root, Scope: Tree}

// Touch reports whether the set covers m, and if it does, says of what covers
// it that it was touched in gen.
func (s *Set) Touch(m Mark, gen uint64) bool {
	return s.covers(m.bounded(), touching{gen: gen})
}

// touching is a look at units in generation gen. Those that it finds are touched.
type touching struct {
	gen        uint64
	unrecorded bool // those that are not recorded yet count, too
}

// meets reports whether p has a unit that covers.
func (t touching) meets(p *place, k kind, n int64) bool {
	was := p.stamp(k, n)
	switch {
	case was == absent, was == unrecorded && !t.unrecorded, k == tree && p.covers.ends(t.gen):
		return false
	case was < stamp(t.gen):
		p.set(k, n, stamp(t.gen))
	}
	return true
}

// part reports whether p has u, or what covers it at the same path.
func (t touching) part(p *place, u unit) bool {
	switch u.kind {
	case attributes:
		return t.meets(p, attributes, 0) || t.meets(p, entries, 0) || t.meets(p, children, 0)
	case entries:
		return t.meets(p, entries, 0) || t.meets(p, children, 0)
	case extent:
		if t.meets(p, extent, u.n) {
			return true
		}
		fallthrough
	case tail:
		return p.from <= u.n && t.meets(p, tail, p.from)
	}
	return t.meets(p, u.kind, 0)
}

// covers reports whether the set covers m, in the sight of t.
func (s *Set) covers(m Mark, t touching) bool {
	if s.trees > 0 {
		for p := s.places.nearest(m.Path); p != nil; p = p.dir {
			if t.meets(p, tree, 0) {
				return true
			}
		}
	}
	p, dir := s.places.at(m.Path)
	if m.Scope == Object && dir != nil && (t.meets(dir, children, 0) || m.small() && t.meets(dir, entries, 0)) {
		return true
	}
	if p == nil {
		return false
	}
	covered := true
	m.each(func(u unit) bool {
		covered = t.part(p, u)
		return covered
	})
	return covered
}

// Add puts m into the set, or what stands for it where there is too much
// detail. It covers what it covers once it is recorded.
func (s *Set) Add(m Mark) { s.addIn(m, 0) }

// addIn is Add at a generation: what covers no more by then does not count.
func (s *Set) addIn(m Mark, gen uint64) {
	m = m.bounded()
	there := touching{gen: gen, unrecorded: true}
	if s.covers(m, there) {
		return
	}
	m = s.widened(m)
	if s.makeRoom(m) && s.covers(m, there) {
		return
	}
	switch m.Scope {
	case Tree:
		s.dropWithin(s.places[m.Path])
	case Children:
		s.dropChildren(s.places[m.Path], true)
	case Entries:
		s.dropChildren(s.places[m.Path], false)
	}
	m.each(func(u unit) bool { s.add(u); return true })
}

// widened returns m, or the wider mark that has to stand for it.
func (s *Set) widened(m Mark) Mark {
	if m.Scope != Object {
		return m
	}
	if _, dir := s.places.at(m.Path); dir != nil {
		switch {
		case m.From < m.To && dir.files >= maxFiles:
			return Mark{Path: dir.path, Scope: Children}
		case m.small() && dir.small >= maxSmall:
			return Mark{Path: dir.path, Scope: Entries}
		}
	}
	if m.extents() > maxRun {
		m.To = End
	}
	return m
}

// makeRoom makes what is below crowded places whole, until there is room for m.
// It reports whether it had to.
func (s *Set) makeRoom(m Mark) (made bool) {
	for s.Len()+1+int(m.extents()) > maxUnits {
		p := s.places[op.Root].crowded(enough)
		s.dropWithin(p)
		s.add(unit{path: p.path, kind: tree})
		s.places[p.path].covers.lasting = true
		made = true
	}
	return made
}

// dropWithin drops all units at and below p, which may be nil.
func (s *Set) dropWithin(p *place) {
	if p != nil {
		p.all(func(u unit, _ stamp) bool { s.remove(u); return true })
	}
}

// dropChildren drops what Entries, or with data Children, of dir makes
// superfluous. It may be nil.
func (s *Set) dropChildren(dir *place, data bool) {
	if dir == nil {
		return
	}
	for i := len(dir.inside) - 1; i >= 0; i-- {
		p := dir.inside[i]
		if !data && p.data > 0 {
			continue // its data is its own, and comes with the attributes
		}
		for u := range p.own {
			if u.kind <= tail {
				s.remove(u)
			}
		}
	}
	if data {
		s.remove(unit{path: dir.path, kind: entries})
	}
}

func (s *Set) add(u unit) {
	if p := s.places[u.path]; p != nil {
		switch {
		case p.stamp(u.kind, u.n) != absent:
			return
		case u.kind == tail && p.stamps[tail] != absent:
			if p.from <= u.n {
				return
			}
			s.remove(unit{u.path, tail, p.from})
		}
	}
	p := s.places.make(u.path)
	switch u.kind {
	case extent:
		if p.extents == nil {
			p.extents = make(map[int64]stamp)
		}
	case tail:
		p.from = u.n
	case tree:
		s.trees++
	}
	p.set(u.kind, u.n, unrecorded)
	p.count(u.kind, 1)
	s.log = append(s.log, change{unit: u})
}

func (s *Set) remove(u unit) {
	p := s.places[u.path]
	if p == nil || p.stamp(u.kind, u.n) == absent {
		return
	}
	switch u.kind {
	case extent:
		delete(p.extents, u.n)
	case tree:
		s.trees--
		p.covers = coverage{}
		fallthrough
	default:
		p.stamps[u.kind] = absent
	}
	p.count(u.kind, -1)
	s.places.drop(p)
	s.log = append(s.log, change{unit: u, gone: true})
}

// recorded says that the first n changes are on stable storage, touched in gen.
func (s *Set) recorded(n int, gen uint64) {
	for _, c := range s.log[:n] {
		p := s.places[c.unit.path]
		if p == nil || p.stamp(c.unit.kind, c.unit.n) != unrecorded {
			continue
		}
		p.set(c.unit.kind, c.unit.n, stamp(gen))
		if c.unit.kind == tree && !p.covers.lasting {
			p.covers.since = gen
		}
	}
	s.log = append(s.log[:0], s.log[n:]...)
}

// all yields every unit.
func (s *Set) all(yield func(unit, stamp) bool) {
	if root := s.places[op.Root]; root != nil {
		root.all(yield)
	}
}

// idle returns the units that were not touched since generation gen.
func (s *Set) idle(gen uint64) []unit {
	var units []unit
	for u, at := range s.all {
		if at.idle(gen) {
			units = append(units, u)
		}
	}
	return units
}

// stamp returns when u was touched.
func (s *Set) stamp(u unit) stamp {
	if p := s.places[u.path]; p != nil {
		return p.stamp(u.kind, u.n)
	}
	return absent
}

// touchAll says of all that is recorded that it was touched in gen.
func (s *Set) touchAll(gen uint64) {
	for u, at := range s.all {
		if at.recorded() {
			s.places[u.path].set(u.kind, u.n, stamp(gen))
		}
	}
}

// list returns every unit, in no order.
func (s *Set) list() []unit {
	units := make([]unit, 0, s.Len())
	for u := range s.all {
		units = append(units, u)
	}
	return units
}

// Marks returns all regions of the set, sorted, with data that lies side by side
// in one.
func (s *Set) Marks() []Mark { return marksOf(s.list()) }
