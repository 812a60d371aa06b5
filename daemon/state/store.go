package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// Errors of a state directory. What is returned wraps one of them and says
// which directory and what to do.
var (
	ErrDamaged      = errors.New("the state is damaged")
	ErrLocked       = errors.New("in use by another process")
	ErrOtherReplica = errors.New("the state belongs to another replica")
)

// Store keeps a node's State in STATE/state.db. Every change is one synced
// transaction.
type Store struct {
	dir     string
	db      *guarded
	alive   time.Time // when it was last changed before it was opened: the node ran then
	regions *region.Store
	// doubted is State.Doubted where that could not be recorded.
	doubted atomic.Bool

	mu      sync.Mutex // serialises Update, held over its transaction; guards trouble
	trouble error      // of the last Update; nil: it was recorded

	now   sync.Mutex // guards state; taken behind mu, never held over I/O
	state State      // what the file holds
}

// Database is what a Store needs of a *bolt.DB.
type Database interface {
	region.Database
	Close() error
}

// Open opens the state in dir and makes it where there is none. A fresh state has
// nothing but a node ID. The error wraps ErrLocked while another process has it
// open, and ErrDamaged if it cannot be trusted.
func Open(dir string) (*Store, error) {
	return OpenThrough(dir, func(db Database) Database { return db })
}

// OpenThrough is Open for a simulation, which puts itself between the Store and
// its file.
func OpenThrough(dir string, between func(Database) Database) (*Store, error) {
	if err := makeFile(dir); err != nil {
		return nil, fmt.Errorf("make state directory %s: %w", dir, err)
	}
	file, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", dir, err)
	}
	db, state, err := openFile(dir, false)
	if err != nil {
		return nil, err
	}
	db.Database = between(db.Database)
	regions, err := region.Open(db)
	if err != nil {
		return nil, errors.Join(damaged(dir, err), db.Close())
	}
	return &Store{dir: dir, db: db, alive: file.ModTime(), state: state, regions: regions}, nil
}

// Regions is what the node knows of hot and stale regions. It is in the same
// file.
func (s *Store) Regions() *region.Store { return s.regions }

// Read reads the state in dir of a node that does not run, with its last n
// events, and changes nothing. Where there is none the error wraps
// fs.ErrNotExist.
func Read(dir string, n int) (State, []Event, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		return State{}, nil, fmt.Errorf("read state directory %s: %w", dir, err)
	}
	db, state, err := openFile(dir, true)
	if err != nil {
		return State{}, nil, err
	}
	s := &Store{dir: dir, db: db, state: state}
	events, err := s.Events(n)
	return state, events, errors.Join(err, s.Close())
}

// Dir returns the state directory.
func (s *Store) Dir() string { return s.dir }

// Get returns a copy of the state. It does not wait for a disk: signs of life rest
// on it.
func (s *Store) Get() State {
	s.now.Lock()
	defer s.now.Unlock()
	return s.state.Clone()
}

// Update changes the state in one transaction and returns once it is on stable
// storage. What also does is part of the transaction. After an error of change,
// or of the disk, Get returns the state as it was before.
func (s *Store) Update(change func(*State) error, also ...func(*bolt.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.Get()
	if err := change(&next); err != nil {
		return err
	}
	s.trouble = record(s.db, &next, also...)
	if s.trouble != nil {
		s.trouble = fmt.Errorf("record the state in %s: %w", s.dir, s.trouble)
		return s.trouble
	}
	s.now.Lock()
	defer s.now.Unlock()
	s.state = next
	return nil
}

// Trouble returns why the newest change could not be recorded, or nil if it was
// and the next one may be.
func (s *Store) Trouble() error {
	if err := s.db.err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Alive is a moment at which the node ran before it was started now: its state was
// changed then.
func (s *Store) Alive() time.Time { return s.alive }

// Level is Update for a change by which nodes become equal to this one: what was
// known to differ is forgotten in the same transaction (RULES.md 10).
func (s *Store) Level(nodes []op.NodeID, change func(*State) error) error {
	return s.regions.Level(nodes, func(also func(*bolt.Tx) error) error { return s.Update(change, also) })
}

func record(db region.Database, s *State, also ...func(*bolt.Tx) error) error {
	return db.Update(func(tx *bolt.Tx) error {
		for _, f := range also {
			if err := f(tx); err != nil {
				return err
			}
		}
		return Put(tx, s)
	})
}

// Close ends the use of the state.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the state in %s: %w", s.dir, err)
	}
	return nil
}
