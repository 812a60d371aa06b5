package region

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

type fixture struct {
	t  *testing.T
	db *bolt.DB
	*Store
	at op.LSN
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{t: t, db: db}
	f.crash()
	return f
}

// crash forgets all that is in memory.
func (f *fixture) crash() {
	f.t.Helper()
	s, err := Open(f.db)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Store = s
}

// pages returns how many were written to disk.
func (f *fixture) pages() int64 {
	s := f.db.Stats()
	return s.TxStats.GetWrite()
}

func nothing(string) (Stat, error) { return Stat{}, fs.ErrNotExist }

func (f *fixture) do(o *op.Op) {
	f.t.Helper()
	ticket, err := f.Begin(o, nothing)
	if err != nil {
		f.t.Fatal(err)
	}
	f.at++
	ticket.Leave(f.at)
}

func write4K(path string, off int64) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: make([]byte, 4096)}
}

// checkpoint makes one at which everything was committed.
func (f *fixture) checkpoint(outside ...op.NodeID) {
	f.t.Helper()
	f.checkpointAt(f.at, outside...)
}

func (f *fixture) checkpointAt(commit op.LSN, outside ...op.NodeID) {
	f.t.Helper()
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { return nil },
		Committed: func(at op.LSN) bool { return commit >= at },
		Outside:   func() []op.NodeID { return outside },
		Allowed:   func() bool { return true },
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) hot(want ...Mark) {
	f.t.Helper()
	if got := f.Hot(); !slices.Equal(got, want) {
		f.t.Errorf("hot are %v, want %v", got, want)
	}
}

// know makes nodes known, with nothing stale.
func (f *fixture) know(nodes ...op.NodeID) {
	f.t.Helper()
	if err := f.Level(nodes, func(also func(*bolt.Tx) error) error { return f.db.Update(also) }); err != nil {
		f.t.Fatal(err)
	}
}

// A region is recorded before its first change, and not again.
func TestHotBeforeChange(t *testing.T) {
	f := newFixture(t)
	before := f.pages()
	f.do(write4K("f", 0))
	if f.pages() == before {
		t.Error("nothing was recorded")
	}
	before = f.pages()
	for range 100 {
		f.do(write4K("f", 8192))
	}
	if n := f.pages() - before; n > 0 {
		t.Errorf("what is hot was recorded again, %d pages", n)
	}
	f.crash()
	f.hot(Mark{Path: "f", To: Extent})
}

// An op under way keeps what it touches, however many checkpoints pass.
func TestUnderWay(t *testing.T) {
	f := newFixture(t)
	ticket, err := f.Begin(write4K("f", 0), nothing)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f.checkpoint()
	}
	f.hot(Mark{Path: "f", To: Extent})
	ticket.Leave(7)
	f.checkpointAt(6)
	f.checkpointAt(6)
	f.checkpointAt(6)
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpointAt(7)
	f.hot()
}

// What could not be recorded is not done, and is recorded with the next.
func TestDiskOfTheState(t *testing.T) {
	f := newFixture(t)
	f.know(1)
	full := errors.New("full")
	if err := f.Level([]op.NodeID{1}, func(func(*bolt.Tx) error) error { return full }); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	path := f.db.Path()
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(write4K("f", 0), nothing); err == nil {
		t.Fatal("an op began that was not recorded")
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f.db, f.Store.db = db, db
	f.do(write4K("g", 0))
	f.crash()
	f.hot(Mark{Path: "f", To: Extent}, Mark{Path: "g", To: Extent})
}

// Ops side by side share transactions, and checkpoints take nothing from them.
func TestSideBySide(t *testing.T) {
	f := newFixture(t)
	const workers, each = 8, 60
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			for i := range each {
				ticket, err := f.Begin(write4K(fmt.Sprintf("%d", w), int64(i)*Extent), nothing)
				if err != nil {
					t.Error(err)
					return
				}
				if !f.hasOnDisk(write4K(fmt.Sprintf("%d", w), int64(i)*Extent)) {
					t.Errorf("%d/%d began without being on disk", w, i)
				}
				ticket.Leave(op.LSN(1 + i))
			}
		})
	}
	stop := make(chan struct{})
	var c sync.WaitGroup
	c.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.checkpointAt(End)
			}
		}
	})
	g.Wait()
	close(stop)
	c.Wait()
}

func (f *fixture) hasOnDisk(o *op.Op) bool {
	t := touch(o, nothing)
	s, err := Open(f.db)
	return err == nil && s.hot.Touch(t.marks[0], 1)
}

func TestForgetAll(t *testing.T) {
	f := newFixture(t)
	f.know(1)
	f.do(write4K("f", 0))
	if err := f.Forget(func(also func(*bolt.Tx) error) error { return f.db.Update(also) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.hot()
		if f.Known(1) {
			t.Error("a map is left")
		}
		f.crash()
	}
}
