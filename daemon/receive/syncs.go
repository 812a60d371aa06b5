package receive

import (
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
)

// maxSyncs bounds the fsyncs that run at a time. One more holds up the stream.
const maxSyncs = 64

// Syncer brings files to stable storage, as a tree.Syncer does.
type Syncer interface {
	Start(fd int, dataOnly bool, done func(error))
	Close()
}

// syncs is stage 4 of an applier: the fsyncs that run beside the stream. They
// are begun and waited for by stages 1 to 3 only.
type syncs struct {
	syncer  Syncer        // made and closed by run
	room    chan struct{} // holds a token for each that runs
	running sync.WaitGroup

	mu     sync.Mutex // guards failed
	failed error      // the first failure
}

// begin starts a sync of fd, which may be closed as soon as begin has returned.
// done hears of its end and returns what is wrong, if anything is.
func (s *syncs) begin(fd int, dataOnly bool, done func(error) error) {
	s.room <- struct{}{}
	s.running.Add(1)
	s.syncer.Start(fd, dataOnly, func(err error) {
		defer s.running.Done()
		defer func() { <-s.room }()
		if err = done(err); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.failed == nil {
				s.failed = err
			}
		}
	})
}

// wait returns when none runs, with the first failure of all that ever did.
func (s *syncs) wait() error {
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// sync opens what has to be synced, in order, and syncs it beside the stream.
func (a *applier) sync(lsn op.LSN, o *op.Op) error {
	path := o.Path
	if o.Kind == op.CopyRange {
		path = o.Path2
	}
	pinned, err := a.tree.OpenForSync(path)
	if err != nil {
		return err
	}
	defer pinned.Close()
	a.acks.begin(lsn)
	a.syncs.begin(pinned.FD(), o.Flags&op.DataOnly != 0, func(err error) error {
		if err != nil {
			// A failed fsync is never tried again: the kernel may have dropped
			// what it could not write (guarantee 8).
			err = applyError(&op.Op{Kind: op.Fsync, Path: path}, err)
			a.halt(err)
			return err
		}
		a.acks.synced(lsn)
		return nil
	})
	return nil
}
