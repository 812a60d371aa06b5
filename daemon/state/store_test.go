package state

import (
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// slow is a file whose disk takes its time.
type slow struct {
	Database
	begun, done chan struct{}
}

func (s slow) Update(fn func(*bolt.Tx) error) error {
	close(s.begun)
	<-s.done
	return s.Database.Update(fn)
}

// What is recorded can be read while a slow disk records more: a heartbeat says
// some of it, and one that is late has a mirror expelled.
func TestGetDuringUpdate(t *testing.T) {
	begun, done := make(chan struct{}), make(chan struct{})
	s, err := OpenThrough(t.TempDir(), func(db Database) Database { return slow{db, begun, done} })
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	updated := make(chan error)
	go func() { updated <- s.Meet(7, 3) }()
	<-begun
	met := make(chan uint64, 1)
	go func() { met <- s.Met(7) }()
	select {
	case n := <-met:
		if n != 0 {
			t.Errorf("%d is not recorded yet", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the disk")
	}
	close(done)
	if err := <-updated; err != nil || s.Met(7) != 3 {
		t.Errorf("met %d, %v", s.Met(7), err)
	}
}
