package divergence

import (
	"math"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
)

// mark is what of an object need not be kept: it is kept already, or it is the
// primary's, from which it came or to which it was found equal.
type mark struct {
	object bool // the manifest describes it
	attr   bool // its attributes
	all    bool // all of it
	data   spans
}

// span is a range of a file: from (inclusive) to (exclusive).
type span struct{ from, to int64 }

// spans are in order and do not touch.
type spans []span

// without returns the parts of x that are not among s.
func (s spans) without(x span) []span {
	var rest []span
	for _, have := range s {
		if have.to <= x.from {
			continue
		}
		if have.from >= x.to {
			break
		}
		if have.from > x.from {
			rest = append(rest, span{x.from, have.from})
		}
		x.from = max(x.from, have.to)
	}
	if x.from < x.to {
		rest = append(rest, x)
	}
	return rest
}

// add makes x one of s.
func (s *spans) add(x span) {
	if x.from >= x.to {
		return
	}
	first, _ := slices.BinarySearchFunc(*s, x.from, func(have span, from int64) int {
		if have.to < from {
			return -1
		}
		return 1
	})
	last := first
	for ; last < len(*s) && (*s)[last].from <= x.to; last++ {
		x.from, x.to = min(x.from, (*s)[last].from), max(x.to, (*s)[last].to)
	}
	*s = slices.Replace(*s, first, last, x)
}

// endOfTime is behind every file's end.
const endOfTime = math.MaxInt64

// regionOf is where the region around off begins, and beyond where the next
// one does.
func regionOf(off int64) int64 { return off / op.RegionSize * op.RegionSize }

func beyond(off int64) int64 {
	if off > math.MaxInt64-op.RegionSize {
		return endOfTime
	}
	return regionOf(off + op.RegionSize - 1)
}
