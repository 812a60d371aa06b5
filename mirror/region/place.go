package region

import (
	"math"

	"github.com/standbyfs/standbyfs/fs/op"
)

// place is one path of a Set: the units that it has there, and where they are
// below it. So whatever is asked of a directory takes no look at the rest of the
// set. It exists as long as there is a unit at or below it.
type place struct {
	path   string
	dir    *place   // nil: this is the root
	inside []*place // those right below
	index  int      // of this one in dir.inside

	stamps  [tree + 1]stamp // of its units, by kind; the extents have their own
	extents map[int64]stamp // by number
	from    int64           // the number of the tail
	covers  coverage        // of the tree

	units int // at and below
	data  int // extents and tail
	small int // of those right below: with an attributes unit
	files int // of those right below: with data
}

// stamp is the generation in which a unit was last touched.
type stamp uint64

const (
	absent     stamp = 0
	unrecorded stamp = math.MaxUint64 // it came since the last record
)

// recorded reports whether there is a record of the unit.
func (s stamp) recorded() bool { return s != absent && s != unrecorded }

// idle reports whether a unit that is recorded was not touched since gen.
func (s stamp) idle(gen uint64) bool { return s.recorded() && s <= stamp(gen) }

// coverage says for how long a tree unit covers what is done in it.
type coverage struct {
	lasting bool   // as long as it is touched
	since   uint64 // otherwise: when it was recorded; 0: not yet
}

// ends reports whether it covers no more in gen.
func (c coverage) ends(gen uint64) bool { return c.since > 0 && gen > c.since+coversFor }

// stamp returns when a unit was touched.
func (p *place) stamp(k kind, n int64) stamp {
	switch {
	case k == extent:
		return p.extents[n]
	case k == tail && p.from != n:
		return absent
	}
	return p.stamps[k]
}

// set stamps a unit that p has.
func (p *place) set(k kind, n int64, s stamp) {
	if k == extent {
		p.extents[n] = s
	} else {
		p.stamps[k] = s
	}
}

// own yields the units of p itself. Each may be removed when it comes.
func (p *place) own(yield func(unit, stamp) bool) {
	for k, s := range p.stamps {
		u := unit{path: p.path, kind: kind(k)}
		if u.kind == tail {
			u.n = p.from
		}
		if s != absent && !yield(u, s) {
			return
		}
	}
	for n, s := range p.extents {
		if !yield(unit{p.path, extent, n}, s) {
			return
		}
	}
}

// all yields the units at and below p. Each may be removed when it comes.
func (p *place) all(yield func(unit, stamp) bool) bool {
	// From the end: what goes leaves its position to the last.
	for i := len(p.inside) - 1; i >= 0; i-- {
		if !p.inside[i].all(yield) {
			return false
		}
	}
	for u, s := range p.own {
		if !yield(u, s) {
			return false
		}
	}
	return true
}

// crowded returns the lowest place at or below p that has enough units for one
// to be worth it, of several the one with the most.
func (p *place) crowded(enough int) *place {
	best := p
	for _, c := range p.inside {
		if c.units < enough {
			continue
		}
		if c = c.crowded(enough); best == p || c.units > best.units {
			best = c
		}
	}
	return best
}

// count counts n units of kind k more at p.
func (p *place) count(k kind, n int) {
	for q := p; q != nil; q = q.dir {
		q.units += n
	}
	had := p.data > 0
	if k == extent || k == tail {
		p.data += n
	}
	if p.dir == nil {
		return
	}
	if k == attributes {
		p.dir.small += n
	}
	if has := p.data > 0; has != had {
		p.dir.files += n
	}
}

// places are those of a set, by path.
type places map[string]*place

// at returns the place of path, or nil, and that of the directory above it.
func (ps places) at(path string) (p, dir *place) {
	if p = ps[path]; p != nil {
		return p, p.dir
	}
	if path != op.Root {
		above, _ := op.SplitPath(path)
		dir = ps[above]
	}
	return nil, dir
}

// nearest returns the lowest place at or above path, or nil.
func (ps places) nearest(path string) *place {
	for {
		if p := ps[path]; p != nil || path == op.Root {
			return p
		}
		path, _ = op.SplitPath(path)
	}
}

// make returns the place of path, and makes it if need be. A unit has to
// follow.
func (ps places) make(path string) *place {
	if p := ps[path]; p != nil {
		return p
	}
	p := &place{path: path}
	if path != op.Root {
		above, _ := op.SplitPath(path)
		p.dir = ps.make(above)
		p.index = len(p.dir.inside)
		p.dir.inside = append(p.dir.inside, p)
	}
	ps[path] = p
	return p
}

// drop forgets p and those above it, as far as there are no units any more.
func (ps places) drop(p *place) {
	for ; p != nil && p.units == 0; p = p.dir {
		delete(ps, p.path)
		if p.dir == nil {
			return
		}
		in := p.dir.inside
		last := in[len(in)-1]
		in[p.index], last.index = last, p.index
		in[len(in)-1] = nil
		p.dir.inside = in[:len(in)-1]
	}
}
