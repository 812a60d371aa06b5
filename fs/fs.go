// Package fs is the FUSE front of standbyfs: it turns the kernel's requests
// into ops, applies them to a plain local directory, and hands them to a
// Committer. It knows no network. With the null Committer it is a complete
// passthrough file system.
//
//	mount.go      mounting and unmounting; what we agree on with the kernel
//	device.go     /dev/fuse
//	serve.go      who reads and answers requests; header.go what is read of them before
//	reply.go      replies that wait for mirrors
//	notify.go     what the kernel has to ask anew
//	inode.go      what the kernel knows: inodes and their references; links.go their names
//	lookup.go     from an inode to its path and to where system calls reach it
//	order.go      the locks and their order
//	committer.go  the seam to what orders and mirrors ops
//	namespace.go  names that come and go; rename.go names that change
//	handle.go     what is open, by descriptors (descriptor.go)
//	dir.go file.go data.go attr.go xattr.go   the other families of calls
//	direct.go     what O_DIRECT refuses
//	grows.go      files that are append only
//	holes.go      finding data and holes
//	durable.go    fsync beside the mirrors'
//	acl.go        access lists and the umask
//	caller.go     what the kernel does not say of a caller
//	killpriv.go   set-ID bits that a change takes away
//	atime.go      times of access
//	ioctl.go      inode flags: append only, immutable and the like
//	times.go      mtimes that travel later than the data
//	hold.go       keeping an object still; mend.go changing it past the kernel
//	freeing.go    the room of files without names
//	errno.go      from errors to what callers see
package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// Options are the choices of a mount.
type Options struct {
	Name      string        // what mount(8) shows as the device: the replica's absolute path
	Suid, Dev bool          // honour set-user-ID bits and device files; off by default
	Logger    *slog.Logger  // nil: slog.Default
	IdleTimes time.Duration // how long a file is left alone before its mtime travels; 0: one second
	Debug     bool          // log every request

	// Failed, if not nil, hears of every call that the disk has failed, once it
	// has; lost says that the kernel has dropped what was written to the file. It
	// must not wait.
	Failed func(path string, lost bool, err error)

	// Alone says that the Committer has no mirrors: no change travels and none is
	// waited for.
	Alone bool
}

// FS is a file system over a tree. It is mounted once.
type FS struct {
	tree      *tree.Tree
	committer Committer
	opts      Options
	log       *slog.Logger

	noAtime bool // reads move no atime

	// names is the tree lock; see order.go. Guarded by it: what every name means.
	names   sync.RWMutex
	table   *table
	handles *handles
	times   *times
	server  *server // made by Mount, as is syncer
	syncer  *tree.Syncer
	held    *held

	// ctx is the life of the file system: calls that wait for mirrors give up
	// when it ends.
	ctx  context.Context
	stop context.CancelFunc
}

// front is what the kernel's requests are dispatched to. It is apart from FS so
// that the requests do not become part of this package's API. Locks on files
// are left to the kernel, as is everything else that the default refuses.
type front struct {
	*FS
	fuse.RawFileSystem
}

func (f *front) String() string { return "standbyfs" }

// New makes the file system. It sets the process's umask to 0, since the modes
// that the kernel sends are the ones that new files get.
func New(t *tree.Tree, c Committer, o Options) (*FS, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.IdleTimes <= 0 {
		o.IdleTimes = time.Second
	}
	if o.Failed == nil {
		o.Failed = func(string, bool, error) {}
	}
	if o.Name == "" {
		o.Name = t.Dir()
	}
	f := &FS{tree: t, committer: c, opts: o, log: o.Logger, handles: newHandles(o.Logger)}
	var st unix.Stat_t
	if err := f.stat(op.Root, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", t.Dir(), err)
	}
	f.noAtime = f.withoutAtime()
	f.table = newTable(&st)
	f.times = newTimes(f.table, o.Alone)
	f.ctx, f.stop = context.WithCancel(context.Background())
	syscall.Umask(0)
	return f, nil
}

// serveOn makes what answers the requests of a mounted device.
func (f *FS) serveOn(dev *device) {
	proto := fuse.NewProtocolServer(&front{f, fuse.NewDefaultRawFileSystem()}, f.protocolOptions())
	f.server = newServer(dev, proto, f.log)
	f.held = f.server.held
	f.syncer = tree.NewSyncer(func() {})
}

// blocks says that the handler of a request is about to block.
func (f *FS) blocks(in *fuse.InHeader) {
	f.tree.Waits()
	f.server.blocks(in.Unique)
}

// run serves requests until the kernel has none any more, and puts everything
// away.
func (f *FS) run() {
	var owned sync.WaitGroup
	ctx, stop := context.WithCancel(f.ctx)
	owned.Go(func() { f.watchTimes(ctx) })
	f.server.serve()
	f.syncer.Close()
	stop()
	owned.Wait()
	// An unmount may throw releases away, and their times with them.
	if err := f.FlushTimes(f.ctx); err != nil && !errors.Is(err, op.ErrFenced) {
		f.log.Warn("times of some files did not travel before the unmount", "error", err)
	}
	f.stop()
	f.server.dev.close()
	f.handles.close()
	f.table.close()
}
