package region_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/tests/chaos"
	bolt "go.etcd.io/bbolt"
)

// side is a node, as far as its replica and its records go.
type side struct {
	t      *testing.T
	name   string
	id     op.NodeID
	broken mutant
	ops    *chaos.Changes
	tree   *tree.Tree
	db     *bolt.DB
	*region.Store
	at      op.LSN // of the newest op that it has made
	commit  op.LSN // the commit position, as it knows it
	allowed bool   // to forget
	outside []op.NodeID
}

func newSide(t *testing.T, dir string, id op.NodeID, r *rand.Rand, still bool, m mutant) *side {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "replica"), 0o755); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(filepath.Join(dir, "replica"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "db"), 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{t: t, name: filepath.Base(dir), id: id, broken: m, ops: &chaos.Changes{Ops: &chaos.Ops{Rand: r, Still: still}, Tree: tr}, tree: tr, db: db, allowed: true}
	s.open()
	// The roots are equal.
	if err := tr.Apply(&op.Op{Kind: op.SetAttr, Path: op.Root, Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *side) close() {
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
	s.tree.Close()
}

func (s *side) open() {
	var err error
	if s.Store, err = region.Open(s.db); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) level(other op.NodeID) {
	err := s.Level([]op.NodeID{other}, func(also func(*bolt.Tx) error) error { return s.db.Update(also) })
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) suspect(other op.NodeID) []region.Mark {
	if s.broken.suspect != nil {
		return s.broken.suspect(s.Store, other)
	}
	return s.Suspect(other)
}

func (s *side) look(path string) (region.Stat, error) {
	st, err := mirror.Look(s.tree, nil)(path)
	if err == nil && s.broken.look != nil {
		st = s.broken.look(st)
	}
	return st, err
}

// tell says what happens, where LOG is set.
func (s *side) tell(format string, args ...any) {
	if os.Getenv("LOG") != "" {
		s.t.Logf("%s, %d: %s", s.name, s.at, fmt.Sprintf(format, args...))
	}
}

// do makes a change with its position, as the primary and its mirror do. While it
// is under way between is called.
func (s *side) do(o *op.Op, between func()) error {
	ticket, err := s.Begin(o, s.look)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.broken.early {
		ticket.Leave(0)
	}
	if between != nil {
		between()
	}
	at := op.LSN(0)
	if err = s.ops.Do(o); err == nil {
		s.at++
		at = s.at
	}
	s.tell("%v: %v", o, err)
	if !s.broken.early {
		ticket.Leave(at)
	}
	return err
}

// checkpoint makes one; meanwhile is called in it, before and after each answer.
func (s *side) checkpoint(meanwhile func()) {
	err := s.Checkpoint(region.Checkpoint{
		Sync: func() error { meanwhile(); return nil },
		Committed: func(at op.LSN) bool {
			meanwhile()
			yes := s.commit >= at || s.broken.commit
			meanwhile()
			return yes
		},
		Outside: func() []op.NodeID {
			if s.broken.fold {
				return nil
			}
			return s.outside
		},
		Allowed: func() bool { return s.allowed },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.tell("after the checkpoint %v", s.Suspect(3-s.id))
}
