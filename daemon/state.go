package daemon

import (
	"bytes"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// Role is what a node does for its volume.
type Role string

const (
	NoRole  Role = "" // fresh: neither adopted a directory nor heard a primary
	Primary Role = "primary"
	Mirror  Role = "mirror"
)

// Errors of a state directory. What is returned wraps one of them and says
// which directory and what to do.
var (
	ErrDamaged      = errors.New("the state is damaged")
	ErrLocked       = errors.New("in use by another process")
	ErrOtherReplica = errors.New("the state belongs to another replica")
)

// State is what a node durably knows of itself and its volume (RULES.md, "What
// every node keeps durably").
type State struct {
	Volume string    `json:"volume"` // UUID; "" until the node has one
	Node   op.NodeID `json:"node"`   // never zero
	Name   string    `json:"name"`

	Epoch   op.Epoch     `json:"epoch"`   // the highest one seen
	History []EpochStart `json:"history"` // oldest first; the last one is Epoch
	Role    Role         `json:"role"`
	// InSync says that this mirror holds every op that was acknowledged since
	// it joined. Only the stream's own Join entry sets it.
	InSync bool   `json:"in_sync"`
	Reason string `json:"reason"` // why not in sync
	// Set is the in-sync set: as decided on the primary, as last heard in the
	// stream on a mirror.
	Set []op.NodeID `json:"set"`
	// ArchiveUntilJoined is set together with an epoch of somebody else: from
	// then on until the node has joined, what a resync overwrites here may be
	// the only copy (RULES.md 7, ArchiveDurable).
	ArchiveUntilJoined bool `json:"archive_until_joined"`
	// Incarnation counts this node's starts as a primary (RULES.md 11, NewLine).
	Incarnation uint64 `json:"incarnation"`

	Policy       wire.Policy `json:"policy"`        // as last heard, or set on the primary
	PrimaryName  string      `json:"primary_name"`  // as last heard
	PrimaryHeard time.Time   `json:"primary_heard"` // behind the truth by up to a minute

	// Mixed says that a resync has begun to change this mirror's replica and has
	// not come to its end: the replica is of no single moment. Otherwise it is as
	// it was at AsOf, or later by up to a minute; zero if it never was consistent.
	Mixed bool      `json:"mixed"`
	AsOf  time.Time `json:"as_of,omitzero"`
	// Kept is the consistent state from before, nil if there is none, and NotKept
	// why (keep.go). Exchange takes it for the replica's (exchange.go).
	Kept     *Kept     `json:"kept,omitempty"`
	NotKept  string    `json:"not_kept,omitempty"`
	Exchange *Exchange `json:"exchange,omitempty"`

	ReplicaIno  uint64    `json:"replica_ino"`  // of the replica's root directory; 0 until claimed
	ReplicaBorn time.Time `json:"replica_born"` // its birth; zero where the file system keeps none

	// Paused are the addresses of mirrors whose resyncs the operator has paused.
	Paused []string `json:"paused,omitempty"`
	// LastVerify is what the last verify of this reign has found; nil: none was.
	LastVerify *admin.LastVerify `json:"last_verify,omitempty"`

	// Adopts says that a node without a volume may become a mirror with what its
	// replica holds: that is compared in full.
	Adopts bool `json:"adopts,omitempty"`
	// Doubted says that the disk has failed, so that the page cache may show of
	// hot regions what the disk does not have (doubt.go).
	Doubted bool `json:"doubted,omitempty"`

	// Stopped is where a clean stop left the node. It is gone before the replica
	// changes again.
	Stopped *Stopped             `json:"stopped,omitempty"`
	Peers   map[string]op.NodeID `json:"peers"` // node last met at an address
}

// Stopped is the position of a node that was stopped cleanly: its replica is on
// stable storage, and has every op up to there and nothing else.
type Stopped struct {
	Line   op.Line `json:"line"`
	LSN    op.LSN  `json:"lsn"`
	Offset uint64  `json:"offset"` // see progress
	Commit op.LSN  `json:"commit"`
	Strict bool    `json:"strict"`
	Member bool    `json:"member"` // it was in sync
}

// EpochStart says when a reign began.
type EpochStart struct {
	Epoch op.Epoch  `json:"epoch"`
	First op.LSN    `json:"first"` // the first LSN this node could see of it
	When  time.Time `json:"when"`
}

// See records an epoch in s. Of an epoch that is new to a node with a past and
// belongs to somebody else, a resync may overwrite what only this node has.
func (s *State) See(e op.Epoch, first op.LSN, when time.Time) {
	if e.Compare(s.Epoch) <= 0 {
		return
	}
	if s.Epoch != (op.Epoch{}) && e.Owner != s.Node {
		s.ArchiveUntilJoined = true
	}
	s.Epoch = e
	s.History = append(s.History, EpochStart{Epoch: e, First: first, When: when})
}

// level records that the replica is consistent, as of now.
func (s *State) level(now time.Time) { s.Mixed, s.AsOf, s.Kept = false, now.UTC(), nil }

func (s *State) clone() State {
	c := *s
	c.History = slices.Clone(s.History)
	c.Set = slices.Clone(s.Set)
	c.Paused = slices.Clone(s.Paused)
	c.Policy.Set = slices.Clone(s.Policy.Set)
	c.Policy.Members = slices.Clone(s.Policy.Members)
	c.Peers = maps.Clone(s.Peers)
	if s.Stopped != nil {
		stopped := *s.Stopped
		c.Stopped = &stopped
	}
	return c
}

const (
	stateFile = "state.db"
	// reserve is allocated when the file is made. A mirror whose disk is full
	// has to record that it is out of sync, and its state usually lies on the
	// same disk. There is room for more than the bounded records of regions take.
	reserve = 4 << 20
)

var (
	nodeBucket  = []byte("node")
	eventBucket = []byte("events")
	stateKey    = []byte("state")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// Store keeps a node's State in STATE/state.db. Every change is one synced
// transaction.
type Store struct {
	dir     string
	db      database
	alive   time.Time // when it was last changed before it was opened: the node ran then
	regions *region.Store
	// doubted is State.Doubted where that could not be recorded.
	doubted atomic.Bool

	mu      sync.Mutex // serialises Update and guards all below
	state   State      // what the file holds
	trouble error      // of the last Update; nil: it was recorded
}

// database is what a Store needs of a *bolt.DB. A simulation puts itself between.
type database interface {
	region.Database
	Close() error
}

// OpenStore opens the state in dir and makes it where there is none. A fresh
// state has nothing but a node ID. The error wraps ErrLocked while another
// process has it open, and ErrDamaged if it cannot be trusted.
func OpenStore(dir string) (*Store, error) {
	return openStoreBy(dir, func(db *bolt.DB) database { return db })
}

func openStoreBy(dir string, wrap func(*bolt.DB) database) (*Store, error) {
	if err := makeStateFile(dir); err != nil {
		return nil, fmt.Errorf("make state directory %s: %w", dir, err)
	}
	file, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", dir, err)
	}
	bare, state, err := openState(dir, false)
	if err != nil {
		return nil, err
	}
	db := wrap(bare)
	regions, err := region.Open(db)
	if err != nil {
		return nil, errors.Join(damaged(dir, err), db.Close())
	}
	return &Store{dir: dir, db: db, alive: file.ModTime(), state: state, regions: regions}, nil
}

// Regions is what the node knows of hot and stale regions. It is in the same
// file.
func (s *Store) Regions() *region.Store { return s.regions }

// ReadState reads the state in dir of a node that does not run, with its last n
// events, and changes nothing. Where there is none the error wraps
// fs.ErrNotExist.
func ReadState(dir string, n int) (State, []Event, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		return State{}, nil, fmt.Errorf("read state directory %s: %w", dir, err)
	}
	db, state, err := openState(dir, true)
	if err != nil {
		return State{}, nil, err
	}
	s := &Store{dir: dir, db: db, state: state}
	events, err := s.Events(n)
	return state, events, errors.Join(err, s.Close())
}

// Dir returns the state directory.
func (s *Store) Dir() string { return s.dir }

// Get returns a copy of the state.
func (s *Store) Get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.clone()
}

// Update changes the state in one transaction and returns once it is on stable
// storage. What also does is part of the transaction. After an error of change,
// or of the disk, Get returns the state as it was before.
func (s *Store) Update(change func(*State) error, also ...func(*bolt.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.clone()
	if err := change(&next); err != nil {
		return err
	}
	s.trouble = record(s.db, &next, also...)
	if s.trouble != nil {
		s.trouble = fmt.Errorf("record the state in %s: %w", s.dir, s.trouble)
		return s.trouble
	}
	s.state = next
	return nil
}

// Trouble returns why the newest change could not be recorded, or nil if it was.
func (s *Store) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Level is Update for a change by which nodes become equal to this one: what was
// known to differ is forgotten in the same transaction (RULES.md 10).
func (s *Store) Level(nodes []op.NodeID, change func(*State) error) error {
	return s.regions.Level(nodes, func(also func(*bolt.Tx) error) error { return s.Update(change, also) })
}

func record(db region.Database, s *State, also ...func(*bolt.Tx) error) error {
	sealed, err := seal(s)
	if err != nil {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		for _, f := range also {
			if err := f(tx); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucketIfNotExists(nodeBucket)
		if err != nil {
			return err
		}
		return b.Put(stateKey, sealed)
	})
}

// Close ends the use of the state.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the state in %s: %w", s.dir, err)
	}
	return nil
}

// makeStateFile makes a state.db with a new node's state, under another name
// first: a kill or a power loss leaves either none or a whole one, so that a
// file without a state in it is a damaged one.
func makeStateFile(dir string) error {
	path := filepath.Join(dir, stateFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	var id [8]byte
	crand.Read(id[:])
	node := op.NodeID(binary.LittleEndian.Uint64(id[:]) | 1) // never zero
	made := db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(made, record(db, &State{Node: node}), db.Close()); err != nil {
		return err
	}
	if err := allocate(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return errors.Join(tree.SyncDir(dir), tree.SyncDir(filepath.Dir(dir)))
}

func allocate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserve)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("reserve %d bytes for %s: %w", reserve, path, err)
	}
	return f.Sync()
}

// lockTimeout is how long another process's lock is waited for: long enough
// for one that ends just now.
const lockTimeout = 200 * time.Millisecond

// openState opens the file and reads all that is in it. bbolt maps the file
// and trusts it: a damaged one shows as a panic or as a fault, and must show
// here and not when a mirror has to record something.
func openState(dir string, readOnly bool) (db *bolt.DB, state State, err error) {
	damaged := func(what any) error { return damaged(dir, what) }
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var file *os.File
	defer func() {
		if p := recover(); p != nil {
			err = damaged(p)
			if db == nil {
				// bbolt gave up in the middle. Its mapping, which stays, would
				// keep the lock beyond Close.
				_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
				file.Close()
			}
		}
		if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	path := filepath.Join(dir, stateFile)
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		ReadOnly: readOnly, Timeout: lockTimeout, InitialMmapSize: reserve,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(path, flag, mode)
			file = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, State{}, fmt.Errorf("state directory %s: %w", dir, heldBy(dir))
	case errors.As(err, new(syscall.Errno)): // the system would not open or map it
		return nil, State{}, fmt.Errorf("open state %s: %w", path, err)
	case err != nil:
		return nil, State{}, damaged(err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		if err := complete(tx); err != nil {
			return damaged(err)
		}
		if state, err = unseal(tx.Bucket(nodeBucket).Get(stateKey)); err != nil {
			return damaged(err)
		}
		err := tx.Bucket(eventBucket).ForEach(func(_, v []byte) error { _, err := decodeEvent(v); return err })
		if err != nil {
			return damaged(err)
		}
		return nil
	})
	if err == nil {
		if _, regions := region.Open(db); regions != nil { // here for the panics
			err = damaged(regions)
		}
	}
	return db, state, err
}

// buckets are the names of all that a state has.
func buckets() [][]byte { return append([][]byte{nodeBucket, eventBucket}, region.Buckets()...) }

// complete makes sure that all buckets are there and nothing else: one whose name
// is damaged would be missing, and its regions would not be compared.
func complete(tx *bolt.Tx) error {
	for _, name := range buckets() {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it has no %q", name)
		}
	}
	return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
		if !slices.ContainsFunc(buckets(), func(known []byte) bool { return bytes.Equal(known, name) }) {
			return fmt.Errorf("it has something named %q", name)
		}
		return nil
	})
}

func damaged(dir string, what any) error {
	return fmt.Errorf("state directory %s: %w (%v): `standbyfs state reset --state %s` moves it aside, and this node starts afresh with its replica as it is: a mirror is compared in full; a primary makes a new volume, so if a mirror of it is there, promote that one, and start this node as a mirror",
		dir, ErrDamaged, what, dir)
}

// seal encodes a record with its checksum in front: bbolt has none for data.
func seal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	record := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli))
	return append(record, text...), nil
}

func unseal(record []byte) (State, error) {
	var s State
	text, err := checked(record)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

func checked(record []byte) ([]byte, error) {
	if len(record) < 4 {
		return nil, errors.New("a record is cut short")
	}
	text := record[4:]
	if binary.LittleEndian.Uint32(record) != crc32.Checksum(text, castagnoli) {
		return nil, errors.New("a record's checksum is wrong")
	}
	return text, nil
}
