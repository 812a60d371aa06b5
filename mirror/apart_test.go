package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/tests/chaos"
	bolt "go.etcd.io/bbolt"
)

// Replicas that were equal grow apart, each with its records. A resync of what
// these say makes them equal, whatever is changed meanwhile; if it is cut off, the
// next one does. That goes on and on.
//
// SEED=n repeats a round, as far as goroutines allow, ROUNDS=n makes as many.
func TestApartAndEqualAgain(t *testing.T) {
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		rounds = n
	}
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 0, 64)
	for range rounds {
		if err != nil {
			seed = rand.Uint64()
		}
		ok := t.Run(fmt.Sprintf("%#x", seed), func(t *testing.T) { apart(t, seed) })
		if !ok {
			return
		}
	}
}

// memory is where most rounds have their replicas: it is much faster than a disk.
const memory = "/dev/shm"

func apart(t *testing.T, seed uint64) {
	_, err := os.Stat(memory)
	fast := err == nil && seed%16 > 0
	if fast {
		t.Setenv("TMPDIR", memory)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	p := newPair(t)
	mine, theirs := newReplica(t, p.a, r), newReplica(t, p.b, r)
	mine.changes.Still = r.IntN(2) == 0
	theirs.changes.Ops = mine.changes.Ops
	mine.changes.Memory, theirs.changes.Memory = fast, fast
	p.cfg.Regions, p.theirs, p.p.node = mine.regions, theirs.regions, 2
	mine.renamed = p.remember
	p.together(mine, theirs, r.IntN(100))
	for range 3 {
		mine.level(2)
		theirs.level(1)
		mine.only()
		theirs.changes.Only = mine.changes.Only
		p.together(mine, theirs, r.IntN(20))
		for cut := true; cut; {
			mine.alone(r.IntN(50), 2)
			if r.IntN(2) == 0 { // it was promoted
				theirs.alone(r.IntN(20), 1)
			}
			p.cutAt = 0
			if r.IntN(3) == 0 {
				p.cutAt = 1 + r.IntN(40)
			}
			mine.mistaken(r.IntN(4), 2)
			marks := append(mine.regions.Suspect(2), theirs.regions.Suspect(1)...)
			live := r.IntN(60)
			p.resync(marks, func() {
				for range live {
					o := mine.changes.Next()
					mine.tell(o, p.make(o, func() error { return mine.changes.Do(o) }))
					if mine.changes.IntN(20) == 0 {
						mine.checkpoint(2)
					}
				}
			})
			if os.Getenv("LOG") != "" {
				t.Logf("of %v was sent:", marks)
				for _, o := range p.sent {
					t.Log(o)
				}
			}
			if cut = p.wasCut; cut {
				continue
			}
			p.alike()
		}
		theirs.regions.Restart(1)
	}
}

// alike fails the test unless the trees are equal, but for holes in first
// regions, which a survey does not see, and for those on a disk: there what was
// allocated looks like data once it was read.
func (r *pair) alike() {
	r.t.Helper()
	if differ := r.unlike(); len(differ) > 0 {
		r.t.Fatalf("the replicas differ:\n%s", strings.Join(differ, "\n"))
	}
}

func (r *pair) unlike() []string {
	r.t.Helper()
	disk := !strings.HasPrefix(r.a.Dir(), memory)
	return slices.DeleteFunc(r.differences(), func(d string) bool {
		return strings.Contains(d, ": holes differ in ") && (disk || strings.HasSuffix(d, " bytes 0-65535"))
	})
}

// replica is one with its records.
type replica struct {
	t       *testing.T
	tree    *tree.Tree
	regions *region.Store
	changes *chaos.Changes
	at      op.LSN
	renamed func(*op.Op) // is told what the other one misses; nil: nobody
}

func newReplica(t *testing.T, tr *tree.Tree, r *rand.Rand) *replica {
	regions, err := region.Open(nil)
	must(t, err)
	must(t, tr.Apply(&op.Op{Kind: op.SetAttr, Path: op.Root, Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}}))
	return &replica{t: t, tree: tr, regions: regions, changes: &chaos.Changes{Ops: &chaos.Ops{Rand: r}, Tree: tr}}
}

// level says that the other one is equal.
func (m *replica) level(other op.NodeID) {
	must(m.t, m.regions.Level([]op.NodeID{other}, func(func(*bolt.Tx) error) error { return nil }))
}

// only has some kinds of changes be made from here on.
func (m *replica) only() { m.changes.Only = chaos.Some(m.changes.Rand) }

// do makes a change, with the record of it, and reports whether it could.
func (m *replica) do(o *op.Op) bool {
	ticket, err := m.regions.Begin(o, Look(m.tree, nil))
	must(m.t, err)
	err = m.changes.Do(o)
	m.tell(o, err)
	if err != nil {
		ticket.Leave(0)
		return false
	}
	m.at++
	ticket.Leave(m.at)
	return true
}

// tell says what was done, where LOG is set.
func (m *replica) tell(o *op.Op, err error) {
	if os.Getenv("LOG") != "" {
		m.t.Logf("%s: %v: %v", filepath.Base(m.tree.Dir()), o, err)
	}
}

// checkpoint makes one.
func (m *replica) checkpoint(outside ...op.NodeID) {
	must(m.t, m.regions.Checkpoint(region.Checkpoint{
		Sync:      func() error { return nil },
		Committed: func(op.LSN) bool { return true },
		Outside:   func() []op.NodeID { return outside },
		Allowed:   func() bool { return true },
	}))
}

// alone makes changes that another node has not got.
func (m *replica) alone(changes int, other op.NodeID) {
	for range changes {
		if o := m.changes.Next(); m.do(o) && m.renamed != nil {
			m.renamed(o)
		}
		if m.changes.IntN(10) == 0 {
			m.checkpoint(other)
		}
	}
}

// mistaken has another node told of renames that it has not missed, some of which
// it could make.
func (m *replica) mistaken(renames int, node op.NodeID) {
	was := m.changes.Only
	m.changes.Only = []op.Kind{op.Rename}
	defer func() { m.changes.Only = was }()
	for range renames {
		o := m.changes.Next()
		if o.Kind == op.Rename {
			m.regions.Moved([]op.NodeID{node}, region.Move{Path: o.Path, Path2: o.Path2, Exchange: o.Arg != 0, At: op.Position{Line: line}})
		}
	}
}

// together makes changes on both.
func (r *pair) together(mine, theirs *replica, changes int) {
	r.t.Helper()
	for range changes {
		o := mine.changes.Next()
		if o.Kind == op.Adopt || !mine.do(o) {
			continue // does not travel
		}
		if !theirs.do(o) {
			r.t.Fatalf("%v cannot be done on both", o)
		}
		if mine.changes.IntN(10) == 0 {
			mine.checkpoint()
			theirs.checkpoint()
		}
	}
	r.alike()
}
