package tree

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Every sync is told of once, alone and among more than the kernel takes, also
// where the kernel takes none and where the file is closed at once.
func TestSyncer(t *testing.T) {
	for _, kernel := range []bool{true, false} {
		var last atomic.Int64 // syncs told of before the last call of after
		var all atomic.Int64
		after := func() { last.Store(all.Load()) }
		s := NewSyncer(after)
		if s.context == 0 {
			t.Fatal("this kernel has no io_setup(2): nothing would be tested")
		}
		if !kernel {
			s.Close()
			s = &Syncer{after: after}
		}
		const many = 2*maxSyncs + 10
		var told sync.WaitGroup
		told.Add(many)
		for i := range many {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("data"); err != nil {
				t.Fatal(err)
			}
			s.Start(int(f.Fd()), i%2 == 0, func(err error) {
				if err != nil {
					t.Errorf("sync %d: %v", i, err)
				}
				all.Add(1)
				told.Done()
			})
			f.Close()
		}
		s.Close() // waits for all
		told.Wait()
		if last.Load() != many {
			t.Errorf("nothing was called after the last %d syncs of %d", many-last.Load(), many)
		}
		if n := s.count.Load(); n != 0 || len(s.running) != 0 {
			t.Errorf("%d under way, %d running after all have ended", n, len(s.running))
		}
	}
}

// A file that cannot be synced gets the kernel's error, by every way.
func TestSyncerErrors(t *testing.T) {
	s := NewSyncer(func() {})
	defer s.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if err := s.Wait(pipe[1], false); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Wait: %v, want EINVAL", err)
	}
	c := make(chan error, 1)
	for _, fd := range []int{pipe[1], 1 << 30} {
		s.Start(fd, false, func(err error) { c <- err })
		if err := <-c; err == nil {
			t.Errorf("Start of descriptor %d succeeded", fd)
		}
	}
}

// Syncs side by side are left to the kernel, and one alone is not, once the
// others are long past.
func TestSyncerAlone(t *testing.T) {
	s := NewSyncer(func() {})
	defer s.Close()
	if !s.Alone() {
		t.Error("the first one is not alone")
	}
	s.count.Add(1)
	if s.Alone() {
		t.Error("alone beside another")
	}
	s.count.Add(-1)
	n := 1
	for ; !s.Alone(); n++ {
	}
	if n < 50 || n > 200 {
		t.Errorf("alone again after %d syncs", n)
	}
}
