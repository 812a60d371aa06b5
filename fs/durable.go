package fs

import (
	"context"
	"fmt"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// barrierAck is the Ack of an fsync: the reply waits for the local one and for the
// mirrors', which run side by side. But it begins to wait for the mirrors when the
// local one has ended, and so does the time that they are given: to write some
// gigabytes takes any disk longer than that, and who is as fast as this node is
// not to leave the set for it.
type barrierAck struct {
	local  *syncing
	remote op.Ack
}

// Then calls done when both have ended, or with the error of the local one.
func (b barrierAck) Then(done func(error)) {
	b.local.Then(func(err error) {
		if err != nil {
			done(err)
			return
		}
		b.remote.Then(done)
	})
}

// Wait is Then for callers who wait.
func (b barrierAck) Wait(ctx context.Context) error {
	if err := b.local.Wait(ctx); err != nil {
		return err
	}
	return b.remote.Wait(ctx)
}

// syncing is the Ack of a local fsync.
type syncing struct {
	mu    sync.Mutex // guards all below
	ended bool
	err   error
	then  []func(error)
}

// sync brings h's file to stable storage while remote is on its way, and returns
// what waits for both. A failed
// fsync has lost data, and the kernel tells so only once: from then on no fsync
// of this file succeeds.
func (f *FS) sync(h *handle, dataOnly bool, remote op.Ack) op.Ack {
	s := &syncing{}
	if h.n.broken.Load() {
		s.end(unix.EIO)
		return barrierAck{s, remote}
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
		return barrierAck{s, remote}
	}
	f.syncer.Start(h.fd, dataOnly, done)
	return barrierAck{s, remote}
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
