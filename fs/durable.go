package fs

import (
	"context"
	"fmt"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// syncing is the Ack of a local fsync: a barrier's reply waits for it and for
// the mirrors', which run side by side.
type syncing struct {
	mu    sync.Mutex // guards all below
	ended bool
	err   error
	then  []func(error)
}

// sync brings h's file to stable storage while remote is on its way. A failed
// fsync has lost data, and the kernel tells so only once: from then on no fsync
// of this file succeeds.
func (f *FS) sync(h *handle, dataOnly bool, remote op.Ack) op.Ack {
	s := &syncing{}
	if h.n.broken.Load() {
		s.end(unix.EIO)
		return s
	}
	done := func(err error) {
		if err != nil {
			if h.n.broken.CompareAndSwap(false, true) {
				path := f.known(h.n)
				f.opts.Failed(path, true, fmt.Errorf("fsync %q: %w", path, err))
			}
			err = unix.EIO
		}
		s.end(err)
	}
	if f.syncer.Alone() && remote == op.Done {
		// The turn stays: passing it wakes a thread, and comes to nothing if there is
		// one client. Whoever waits for longer is seen to by the server's watch.
		done(f.syncer.Wait(h.fd, dataOnly))
		if f.server.dev.waits() {
			f.syncer.Crowd()
		}
		return s
	}
	f.syncer.Start(h.fd, dataOnly, done)
	return s
}

// DistrustBroken has the kernel ask anew for what it knows of files whose fsync
// has failed: their data may be another now.
func (f *FS) DistrustBroken() {
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	for _, n := range f.table.nodes {
		if n.broken.Load() {
			f.server.distrust(n.id)
		}
	}
}

func (s *syncing) end(err error) {
	s.mu.Lock()
	s.ended, s.err = true, err
	then := s.then
	s.mu.Unlock()
	for _, done := range then {
		done(err)
	}
}

// Then calls done when the fsync has ended.
func (s *syncing) Then(done func(error)) {
	s.mu.Lock()
	if !s.ended {
		s.then = append(s.then, done)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	done(s.err)
}

// Wait returns when the fsync has ended.
func (s *syncing) Wait(ctx context.Context) error {
	c := make(chan error, 1)
	s.Then(func(err error) { c <- err })
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
