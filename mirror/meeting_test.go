package mirror

import (
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	bolt "go.etcd.io/bbolt"
)

// notes are the numbers of meetings, in memory.
type notes map[op.NodeID]uint64

func (n notes) Met(id op.NodeID) uint64                { return n[id] }
func (n notes) Meet(id op.NodeID, number uint64) error { n[id] = number; return nil }

// TestCompareNotes: the numbers of the last meeting tell who has gone back.
func TestCompareNotes(t *testing.T) {
	for _, c := range []struct {
		name         string
		mine, theirs uint64
		epoch        uint64 // that the mirror knows; ours is 1
		restored     bool
		err          bool
		whole        bool // it is recorded that the mirror may lack everything
	}{
		{name: "they meet for the first time"},
		{name: "as they left", mine: 5, theirs: 5, epoch: 1},
		{name: "the primary was killed before it recorded the last one", mine: 4, theirs: 5, epoch: 1},
		{name: "and was a mirror since", mine: 5, theirs: 4},
		{name: "the mirror has gone back", mine: 5, theirs: 3, epoch: 1, restored: true},
		{name: "the mirror has gone back to the time before", mine: 5, epoch: 1, restored: true},
		{name: "the primary has gone back", mine: 3, theirs: 5, epoch: 1, err: true},
		{name: "the primary had gone back when its reign began", mine: 3, theirs: 5, whole: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			regions, err := region.Open(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := regions.Level([]op.NodeID{2}, func(func(*bolt.Tx) error) error { return nil }); err != nil {
				t.Fatal(err)
			}
			r.cfg.Meetings, r.cfg.Regions = notes{2: c.mine}, regions
			restored, err := r.p.compareNotes(&wire.Answer{Node: 2, Name: "mirror", Met: c.theirs, Epoch: op.Epoch{Number: c.epoch, Owner: op.NodeID(c.epoch)}})
			if restored != c.restored || (err != nil) != c.err || err != nil && !strings.Contains(err.Error(), "promote mirror") {
				t.Errorf("restored %v, error %v", restored, err)
			}
			if whole := len(regions.Stale(2)) > 0; whole != c.whole {
				t.Errorf("it lacks %v", regions.Stale(2))
			}
		})
	}
}
