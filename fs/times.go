package fs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// times knows the inodes whose mtime has changed without an op that carries
// it. Writes would be twice as many ops otherwise. The time travels when the
// file is flushed, synced or released, and when it was left alone for a while.
type times struct {
	table *table
	off   bool // nothing travels

	mu   sync.Mutex // guards late; table.mu is taken under it
	late map[*inode]time.Time
	news chan struct{} // holds a token when late was empty and is not any more
}

func newTimes(t *table, off bool) *times {
	return &times{table: t, off: off, late: make(map[*inode]time.Time), news: make(chan struct{}, 1)}
}

// changed says that n's mtime has changed just now. n stays known until the
// time has travelled.
func (t *times) changed(n *inode) {
	if t.off {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.late[n]; !ok {
		t.table.pin(n)
	}
	t.late[n] = time.Now()
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// settle says that an op carries n's mtime.
func (t *times) settle(n *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.late[n]; ok {
		delete(t.late, n)
		t.table.unpin(n)
	}
}

func (t *times) isLate(n *inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.late[n]
	return ok
}

// idle returns the inodes that have not changed since, each pinned, and how
// many have.
func (t *times) idle(since time.Time) (idle []*inode, busy int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, at := range t.late {
		if at.After(since) {
			busy++
			continue
		}
		t.table.pin(n)
		idle = append(idle, n)
	}
	return idle, busy
}

// commitTime orders n's mtime if it was put off. The caller holds n's locks.
func (f *FS) commitTime(cancel <-chan struct{}, n *inode, path string) (op.Ack, error) {
	if !f.times.isLate(n) {
		return op.Done, nil
	}
	return f.changeWithTime(cancel, n, &op.Op{Kind: op.SetAttr, Path: path})
}

// changeWithTime orders o, about n, which changes nothing here and carries n's
// mtime if that was put off. The caller holds n's locks.
func (f *FS) changeWithTime(cancel <-chan struct{}, n *inode, o *op.Op) (op.Ack, error) {
	late := f.times.isLate(n)
	if late {
		var st unix.Stat_t
		if err := f.statNode(n, o.Path, &st); err != nil {
			return nil, err
		}
		o.Attr = results(&st, op.AttrMtime)
	}
	ack, err := f.change(cancel, o, func() error { return nil })
	if late && (err == nil || errors.Is(err, op.ErrFenced)) {
		f.times.settle(n) // where nothing travels any more, times do not either
	}
	return ack, err
}

// flushTime is commitTime for callers without locks.
func (f *FS) flushTime(cancel <-chan struct{}, n *inode) (op.Ack, error) {
	if !f.times.isLate(n) {
		return op.Done, nil
	}
	path, end := f.begin(n)
	defer end()
	return f.commitTime(cancel, n, path)
}

// FlushTimes orders all times that were put off, and waits for them.
func (f *FS) FlushTimes(ctx context.Context) error {
	idle, _ := f.times.idle(time.Now())
	return f.flushIdle(ctx, idle)
}

func (f *FS) flushIdle(ctx context.Context, idle []*inode) error {
	var acks []op.Ack
	var errs []error
	for _, n := range idle {
		ack, err := f.flushTime(ctx.Done(), n)
		if err != nil {
			errs = append(errs, err)
		} else {
			acks = append(acks, ack)
		}
		f.table.unpin(n)
	}
	for _, ack := range acks {
		if err := ack.Wait(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// watchTimes orders the times of files that are left alone, until ctx ends. It
// sleeps while there are none.
func (f *FS) watchTimes(ctx context.Context) {
	tick := time.NewTimer(f.opts.IdleTimes)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.times.news:
		}
		for {
			tick.Reset(f.opts.IdleTimes)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			idle, busy := f.times.idle(time.Now().Add(-f.opts.IdleTimes))
			if err := f.flushIdle(ctx, idle); err != nil {
				f.log.Debug("times of idle files are left to the next try", "error", err)
				busy++
			}
			if busy == 0 {
				break
			}
		}
	}
}
