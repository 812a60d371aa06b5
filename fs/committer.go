package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Committer orders an op among all others.
type Committer interface {
	// Admit waits until changes are allowed. It is called before any lock is
	// taken for a change: what it waits for may need them. ctx ends the wait.
	Admit(ctx context.Context) error
	// Commit runs apply, which makes the change and may fill in o's results,
	// and gives o the next position. It is called with the locks held that
	// order o against every op it conflicts with, and waits for nobody. If
	// apply fails, its error is returned and o has no position.
	Commit(ctx context.Context, o *op.Op, apply func() error) (op.Ack, error)
	// Mirrored reports whether changes of path travel to mirrors. Of a file
	// with several names the ops carry one for which this is true.
	Mirrored(path string) bool
}

// Null is the Committer of a plain passthrough: nothing travels.
type Null struct{}

// Admit admits everything.
func (Null) Admit(context.Context) error { return nil }

// Commit runs apply.
func (Null) Commit(_ context.Context, _ *op.Op, apply func() error) (op.Ack, error) {
	return op.Done, apply()
}

// Mirrored is true: where nothing travels all names are equal.
func (Null) Mirrored(string) bool { return true }

// kernelCtx is the context of one request: it ends when the kernel says that
// the caller was interrupted.
type kernelCtx struct {
	context.Context // the life of the file system
	interrupted     <-chan struct{}
}

func (c kernelCtx) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c kernelCtx) Done() <-chan struct{}       { return c.interrupted }

func (c kernelCtx) Err() error {
	select {
	case <-c.interrupted:
		return op.ErrInterrupted
	default:
		return nil
	}
}

// admit waits until changes are allowed. The caller holds no lock.
func (f *FS) admit(cancel <-chan struct{}) error {
	return f.committer.Admit(kernelCtx{f.ctx, cancel})
}

// change hands one change to the Committer. The caller holds the locks that
// order o. Where there is no room but for what is being freed, it is tried once
// more: on a local disk that is free already.
func (f *FS) change(cancel <-chan struct{}, o *op.Op, apply func() error) (op.Ack, error) {
	ack, err := f.committer.Commit(kernelCtx{f.ctx, cancel}, o, apply)
	if (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && f.server.freeing.wait() {
		ack, err = f.committer.Commit(kernelCtx{f.ctx, cancel}, o, apply)
	}
	f.failed(o.Path, o.Kind.String(), err)
	return ack, err
}

// failed passes on what the disk has failed. That it is full is an answer like
// any other, unless it is not the replica's disk that says so: then it comes
// wrapped.
func (f *FS) failed(path, call string, err error) {
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	_, bare := err.(unix.Errno) //nolint:errorlint // whether it is wrapped is the question
	if full && !bare || errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) {
		f.opts.Failed(path, false, fmt.Errorf("%s %q: %w", call, path, err))
	}
}
