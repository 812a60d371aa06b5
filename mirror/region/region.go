// Package region is what a node durably knows of where replicas may differ:
// the regions that are being changed (its hot set), and for each other node
// those that it lacks or may have wrong (a stale map). After any fault the
// union of four of these records, two of each side, holds every difference, so
// that a repair looks at nothing else (RULES.md 8).
//
//	region.go   the regions themselves
//	unit.go     what they are recorded by
//	place.go    the units of a set, by path
//	set.go      a bounded set of regions
//	touch.go    which of them an op is about to change
//	kin.go      names that are of one file; twin.go where another may be
//	hotset.go   those that are being changed, by generations
//	store.go    hot set and stale maps, in memory and on disk
//	lacks.go    what is found out that others lack
//	moves.go    renames that a node has missed, beside its map
//	record.go   their form on disk
//	checkpoint.go  what may be forgotten, and when
package region

import (
	"fmt"
	"math"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Scope says how much of what is at a path a Mark covers. The numbers are part
// of the format of the records, and of the wire.
type Scope uint8

const (
	// Object: the attributes of what is at Path, and, of a file, the data in
	// [From, To). An empty range means the attributes alone.
	Object Scope = iota
	// Entries: the attributes of directory Path and its names; of each of its
	// children the attributes; of each file among them the first region
	// (op.RegionSize) of data and the places of holes. So one durable record
	// serves any number of small files that are made in one directory.
	Entries
	// Children: Entries, and all data of the files among the children.
	Children
	// Tree: what is at Path and all below it, whole.
	Tree
)

// End is the To of a range without an end: up to wherever the file ends.
const End = math.MaxInt64

// Mark is one region: a place where replicas may differ.
type Mark struct {
	Path     string
	Scope    Scope
	From, To int64 // of Object only, in bytes

	// cut: what lies behind From is a hole, or was marked by the write that
	// made it otherwise. So a comparison of holes finds it.
	cut bool
}

// small reports whether Entries of its directory covers m.
func (m Mark) small() bool {
	return m.Scope == Object && (m.To <= op.RegionSize || m.cut && m.From <= op.RegionSize)
}

// String prints the mark for logs and failing tests.
func (m Mark) String() string {
	switch m.Scope {
	case Entries:
		return fmt.Sprintf("%q entries", m.Path)
	case Children:
		return fmt.Sprintf("%q entries and data", m.Path)
	case Tree:
		return fmt.Sprintf("%q and all below", m.Path)
	}
	if m.From == m.To {
		return fmt.Sprintf("%q attributes", m.Path)
	}
	if m.To == End {
		return fmt.Sprintf("%q from %d on", m.Path, m.From)
	}
	return fmt.Sprintf("%q [%d, %d)", m.Path, m.From, m.To)
}
