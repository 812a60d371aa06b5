package region

import (
	"github.com/standbyfs/standbyfs/fs/op"
)

// hotSet is the set of regions that are being changed, with what it takes to
// say when one is not any more. Store's mutex guards it.
//
// Time is cut into generations, one a checkpoint. Whatever an op touches gets
// the newest generation, and the op is under way in it until it has its
// position. A generation that is cut off and has no op under way is quiet: all
// its changes are made, and last is the position of the newest. So an op costs
// a look into a map, and no region has a position of its own.
type hotSet struct {
	*Set
	gen  uint64     // the newest, from 1
	now  generation // of gen
	past generation // all before
	// made holds directories that were made a while ago at most, by generation.
	// What is made in one of them is recorded by one mark of it whole.
	made map[string]uint64
	kin  kin
	// wide counts this generation's new marks of directories at and below each
	// path.
	wide map[string]int
}

// generation is what is known of the ops of some generations.
type generation struct {
	underWay int
	last     op.LSN // the highest position that one of them got
}

const (
	maxMade = 4096
	// maxWide is how many directories below one become hot in a generation
	// before it is hot as a whole: something walks through all of it.
	maxWide = 512
	// maxAhead is how many extents of a file that grows are recorded ahead.
	maxAhead = 16
)

func newHotSet() hotSet {
	return hotSet{Set: NewSet(), gen: 1, made: make(map[string]uint64), kin: make(kin), wide: make(map[string]int)}
}

// enter begins an op that touches marks, if all of them are recorded.
func (h *hotSet) enter(marks []Mark) bool {
	for _, m := range marks {
		if !h.Touch(m, h.gen) {
			return false
		}
	}
	h.now.underWay++
	return true
}

// leave ends an op that began in gen and has position at; 0 means that it has
// none.
func (h *hotSet) leave(gen uint64, at op.LSN) {
	g := &h.now
	if gen < h.gen {
		g = &h.past
	}
	g.underWay--
	g.last = max(g.last, at)
}

// cut begins a new generation. The past has to be quiet.
func (h *hotSet) cut() {
	h.past.underWay = h.now.underWay
	h.past.last = max(h.past.last, h.now.last)
	h.now = generation{}
	h.gen++
	clear(h.wide)
	for dir, gen := range h.made {
		if gen+1 < h.gen {
			delete(h.made, dir)
		}
	}
}

// restart makes every region one that changed at position at: in a new line of
// positions, or at a join (RULES.md 3, KeepPastJoin).
func (h *hotSet) restart(at op.LSN) {
	h.past = generation{}
	h.now.last = at
	h.gen++
	h.touchAll(h.gen)
}

// want adds marks, and what is likely to be touched next.
func (h *hotSet) want(marks []Mark) {
	for _, m := range marks {
		if h.Touch(m, h.gen) {
			continue
		}
		m = h.ahead(h.widest(m))
		h.addIn(m, h.gen)
	}
}

// widest returns the mark that stands for m where a directory above it was made
// lately, or has many of its kind below it.
func (h *hotSet) widest(m Mark) Mark {
	dir, wide := m.Path, false
	if m.Scope == Object && dir != op.Root {
		dir, _ = op.SplitPath(dir)
	}
	if _, ok := h.made[dir]; ok {
		m = Mark{Path: dir, Scope: Tree}
	} else if m.Scope != Entries {
		return m
	}
	for p := dir; p != op.Root; p, _ = op.SplitPath(p) {
		// The deepest one that has so many.
		if h.wide[p]++; h.wide[p] >= maxWide && !wide {
			m, wide = Mark{Path: p, Scope: Tree}, true
		}
	}
	return m
}

// ahead adds to a mark of data that follows recorded data as much as that is,
// so that a file that grows is recorded less and less often. Behind the end of
// a file this costs a comparison nothing.
func (h *hotSet) ahead(m Mark) Mark {
	if m.Scope != Object || m.From >= m.To || m.To == End {
		return m
	}
	run := int64(0)
	for n := m.From/Extent - 1; n >= 0 && run < maxAhead; n-- {
		if !h.stamp(unit{m.Path, extent, n}).recorded() {
			break
		}
		run++
	}
	m.To += run * Extent
	return m
}

// newDirectory says that o made one.
func (h *hotSet) newDirectory(path string) {
	if len(h.made) < maxMade {
		h.made[path] = h.gen
	}
}
