package region

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

// Store keeps a node's hot set and its stale maps, in memory and, before
// anything rests on them, on disk.
//
// What is in memory and recorded covers an op without any I/O. What is not is
// recorded first, by one transaction for all ops that wait for it; transactions
// are made one at a time, and each records every change that there is, so that
// one that failed is made up for by the next.
type Store struct {
	db Database // nil: in memory only

	writing sync.Mutex // held over each transaction; taken before mu

	mu    sync.Mutex // guards all below; never held over I/O
	hot   hotSet
	stale map[op.NodeID]*Set
	moves map[op.NodeID]*moves // renames that go with a map; nil: none
	batch *batch               // marks that wait to be recorded; nil: none
	alike pair                 // where a file's other name was found last
	// losses counts syncs of the replica that failed. While found is another number
	// nothing is forgotten.
	losses, found uint64
}

// batch is what the ops want that wait for one transaction.
type batch struct {
	marks []Mark
	done  chan struct{} // closed with err set
	err   error
}

// Database is what a Store needs of a *bolt.DB.
type Database interface {
	Update(func(*bolt.Tx) error) error
	View(func(*bolt.Tx) error) error
	Path() string
}

// Open reads the records in db, which stays the caller's. Without a db nothing
// is durable: that is for tests.
func Open(db Database) (*Store, error) {
	s := &Store{db: db, hot: newHotSet(), stale: make(map[op.NodeID]*Set), moves: make(map[op.NodeID]*moves)}
	if db == nil {
		return s, nil
	}
	if err := db.View(s.load); err != nil {
		return nil, fmt.Errorf("read the regions in %s: %w", db.Path(), err)
	}
	return s, nil
}

// Ticket is an op that has begun. Leave ends it.
type Ticket struct {
	store *Store
	gen   uint64
	// What it does to names.
	kind        op.Kind
	arg         uint32
	path, path2 string
}

// Begin makes sure that what o is about to change is recorded as hot, and
// returns when it is (RULES.md 1, HotPrimary and HotMirror). The caller holds
// what orders o against ops that it conflicts with; look may use the replica.
// After an error o must not be done.
func (s *Store) Begin(o *op.Op, look Look) (Ticket, error) {
	t := sight(o, look)
	if t.n == 0 {
		return Ticket{}, nil
	}
	if t.left != "" {
		t.add(s.survivor(&t, look))
	}
	marks := t.all()
	for {
		s.mu.Lock()
		if s.hot.enter(marks) {
			ticket := Ticket{store: s, gen: s.hot.gen}
			s.mu.Unlock()
			if k := o.Kind; k == op.Mkdir || k == op.Link || k == op.PutLink || k == op.Unlink || k == op.Rename {
				ticket.kind, ticket.arg, ticket.path, ticket.path2 = k, o.Arg, o.Path, o.Path2
			}
			return ticket, nil
		}
		b, lead := s.batch, s.batch == nil
		if lead {
			b = &batch{done: make(chan struct{})}
			s.batch = b
		}
		b.marks = append(b.marks, marks...)
		s.mu.Unlock()
		if lead {
			s.record(b)
		} else {
			<-b.done
		}
		if b.err != nil {
			return Ticket{}, fmt.Errorf("record that %v is about to change: %w", o, b.err)
		}
	}
}

// survivor returns the mark of a file that keeps other names than the one that
// goes. By one of them a repair finds all. Where none is found any file may be
// meant.
func (s *Store) survivor(t *touched, look Look) Mark {
	s.mu.Lock()
	names := slices.Collect(s.hot.kin.of(t.left))
	whole, alike := s.hot.Touch(Everything, s.hot.gen), s.alike
	s.mu.Unlock()
	for _, other := range names {
		if st, err := look(other); err == nil && st.Ino == t.ino && !st.Local {
			return allOf(other, st)
		}
	}
	if whole {
		return Everything // there is no need to search
	}
	other, st := alike.twin(t.left, t.ino, look)
	if other == "" {
		return Everything
	}
	s.mu.Lock()
	s.alike = alike
	s.mu.Unlock()
	return allOf(other, st)
}

// Leave says that the op has taken effect at position at, or, with 0, that it
// has none.
func (t Ticket) Leave(at op.LSN) {
	s := t.store
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case at == 0:
	case t.kind == op.Mkdir:
		s.hot.newDirectory(t.path)
	case t.kind != op.Invalid:
		s.hot.kin.follow(t.kind, t.arg, t.path, t.path2)
	}
	s.hot.leave(t.gen, at)
}

// record makes b durable. Ops that come meanwhile begin the next one.
func (s *Store) record(b *batch) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.batch = nil
	s.hot.want(b.marks)
	s.mu.Unlock()
	b.err = s.commit()
	close(b.done)
}

// commit records all changes in one transaction. The caller holds writing.
func (s *Store) commit() error {
	s.mu.Lock()
	hot := slices.Clone(s.hot.log)
	stale := make(map[op.NodeID][]change)
	for n, m := range s.stale {
		if len(m.log) > 0 {
			stale[n] = slices.Clone(m.log)
		}
	}
	moved := s.unrecordedMoves()
	s.mu.Unlock()
	if err := s.transact(hot, stale, moved); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot.recorded(len(hot), s.hot.gen)
	for n, log := range stale {
		s.stale[n].recorded(len(log), 1)
	}
	for n, ms := range moved {
		s.moves[n].recorded = ms.changes
	}
	return nil
}

func (s *Store) transact(hot []change, stale map[op.NodeID][]change, moved map[op.NodeID]moves) error {
	if s.db == nil || len(hot)+len(stale)+len(moved) == 0 {
		return nil
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(hotBucket)
		if err != nil {
			return err
		}
		if err := write(b, hot); err != nil {
			return err
		}
		maps, err := tx.CreateBucketIfNotExists(staleBucket)
		if err != nil {
			return err
		}
		for n, log := range stale {
			b, err := maps.CreateBucketIfNotExists(mapName(n))
			if err == nil {
				err = write(b, log)
			}
			if err != nil {
				return err
			}
		}
		for n, ms := range moved {
			b, err := maps.CreateBucketIfNotExists(mapName(n))
			if err == nil {
				err = ms.write(b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Known reports whether there is a map of n: whether n was equal once, but for
// what the records say.
func (s *Store) Known(n op.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale[n] != nil
}

// Nodes returns those that there are maps of.
func (s *Store) Nodes() []op.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.stale))
}

// Suspect returns this node's half of what a repair of it and n has to compare:
// its hot set and its map of n, of one moment (RULES.md 8). Of an unknown node
// that is everything.
func (s *Store) Suspect(n op.NodeID) []Mark {
	s.mu.Lock()
	m := s.stale[n]
	if m == nil {
		s.mu.Unlock()
		return []Mark{Everything}
	}
	units := append(s.hot.list(), m.list()...)
	s.mu.Unlock()
	return marksOf(topmost(units))
}

// Hot returns the hot regions.
func (s *Store) Hot() []Mark {
	s.mu.Lock()
	units := s.hot.list()
	s.mu.Unlock()
	return marksOf(units)
}

// Count returns how many hot regions there are, and how many of each other node
// that is known are stale.
func (s *Store) Count() (hot int, stale map[op.NodeID]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stale = make(map[op.NodeID]int, len(s.stale))
	for n, m := range s.stale {
		if m.Len() > 0 {
			stale[n] = m.Len()
		}
	}
	return s.hot.Len(), stale
}

// Stale returns the map of n.
func (s *Store) Stale(n op.NodeID) []Mark {
	s.mu.Lock()
	var units []unit
	if m := s.stale[n]; m != nil {
		units = m.list()
	}
	s.mu.Unlock()
	return marksOf(units)
}

// Level empties the maps of nodes that are equal to this one now, with the renames
// that they had missed, or makes them known. update runs the transaction that this
// belongs to, and calls what it gets in it (RULES.md 10).
func (s *Store) Level(nodes []op.NodeID, update func(also func(*bolt.Tx) error) error) error {
	return s.rewrite(update, func(tx *bolt.Tx) error {
		maps, err := tx.CreateBucketIfNotExists(staleBucket)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if err := drop(maps, n); err != nil {
				return err
			}
			if _, err := maps.CreateBucket(mapName(n)); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		for _, n := range nodes {
			s.stale[n] = NewSet()
			delete(s.moves, n)
		}
	})
}

// Forget drops all records, within update's transaction: every other node has
// to be compared as a whole. The hot set is dropped because its regions are of
// content that is not there any more.
func (s *Store) Forget(update func(also func(*bolt.Tx) error) error) error {
	return s.rewrite(update, func(tx *bolt.Tx) error {
		for _, name := range [][]byte{hotBucket, staleBucket} {
			if tx.Bucket(name) != nil {
				if err := tx.DeleteBucket(name); err != nil {
					return err
				}
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		s.hot.Set = NewSet()
		clear(s.stale)
		clear(s.moves)
	})
}

// rewrite runs a transaction that changes records past their logs, and follows
// in memory.
func (s *Store) rewrite(update func(also func(*bolt.Tx) error) error, disk func(*bolt.Tx) error, memory func()) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	// What is not recorded yet must not be recorded on top.
	if err := s.commit(); err != nil {
		return fmt.Errorf("record regions: %w", err)
	}
	if err := update(disk); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	memory()
	return nil
}

func drop(maps *bolt.Bucket, n op.NodeID) error {
	if maps.Bucket(mapName(n)) == nil {
		return nil
	}
	return maps.DeleteBucket(mapName(n))
}

// Restart makes every hot region one that changed at position at of a line that
// begins now, or at which this node has joined (RULES.md 3, 4, 11).
func (s *Store) Restart(at op.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot.restart(at)
}
