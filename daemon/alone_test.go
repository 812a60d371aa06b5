package daemon

import (
	"context"
	"errors"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

func TestAlone(t *testing.T) {
	var a alone
	ctx := context.Background()
	applied := 0
	apply := func() error { applied++; return nil }
	if err := a.Admit(ctx); err != nil {
		t.Errorf("admit: %v", err)
	}
	if ack, err := a.Commit(ctx, &op.Op{}, apply); err != nil || ack != op.Done || applied != 1 {
		t.Errorf("commit: %v, %v, applied %d times", ack, err, applied)
	}
	failure := errors.New("no space")
	if _, err := a.Commit(ctx, &op.Op{}, func() error { return failure }); err != failure {
		t.Errorf("an op that fails: %v", err)
	}
	a.Fence(op.Epoch{Number: 2, Owner: nodeB}, "beta")
	if err := a.Admit(ctx); !errors.Is(err, op.ErrFenced) {
		t.Errorf("admit after the fence: %v", err)
	}
	if _, err := a.Commit(ctx, &op.Op{}, apply); !errors.Is(err, op.ErrFenced) || applied != 1 {
		t.Errorf("commit after the fence: %v, applied %d times", err, applied)
	}
}

// A fence waits for the op that is being applied: once it has returned nothing
// changes any more. If it did not wait, the race detector would see it, too.
func TestAloneFenceWaits(t *testing.T) {
	var a alone
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	applied := false
	go func() {
		defer close(left)
		if _, err := a.Commit(context.Background(), &op.Op{}, func() error {
			close(inside)
			<-leave
			applied = true
			return nil
		}); err != nil {
			t.Errorf("commit: %v", err)
		}
	}()
	<-inside
	fenced := make(chan struct{})
	go func() {
		a.Fence(op.Epoch{Number: 2}, "beta")
		close(fenced)
	}()
	close(leave)
	<-fenced
	if !applied {
		t.Error("the fence did not wait")
	}
	<-left
}

// failingDB is a database that fails as long as it is to.
type failingDB struct {
	state.Database
	fails bool
}

func (db *failingDB) Update(fn func(*bolt.Tx) error) error {
	if db.fails {
		return syscall.EIO
	}
	return db.Database.Update(fn)
}

// A checkpoint that fails says that the replica may have lost something only if
// it was the replica that failed.
func TestAloneCheckpointFails(t *testing.T) {
	tr, err := tree.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	db := new(failingDB)
	s, err := state.OpenThrough(t.TempDir(), func(whole state.Database) state.Database {
		db.Database = whole
		return db
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Level([]op.NodeID{nodeB}, func(*state.State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	a := newAlone(s.Regions(), tr, nil)
	ctx := t.Context()
	if _, err := a.Commit(ctx, &op.Op{Kind: op.Write, Path: "f", Data: []byte("x")}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	var lost error
	checkpoint := a.checkpoint(nil, func(err error) { lost = err })
	db.fails = true
	for range 3 {
		err = errors.Join(err, s.Regions().Checkpoint(checkpoint))
	}
	if !errors.Is(err, syscall.EIO) || lost != nil {
		t.Errorf("regions cannot be recorded: %v; the replica has lost something: %v", err, lost)
	}
	db.fails = false
	tr.Around = func(*op.Op, func() error) error { return syscall.ESTALE }
	if _, err := a.Commit(ctx, &op.Op{Kind: op.Write, Path: "g", Data: []byte("x")}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	err = nil
	for range 3 {
		err = errors.Join(err, s.Regions().Checkpoint(checkpoint))
	}
	if !errors.Is(err, syscall.ESTALE) || !errors.Is(lost, syscall.ESTALE) {
		t.Errorf("the replica cannot be synced: %v; lost: %v", err, lost)
	}
}
