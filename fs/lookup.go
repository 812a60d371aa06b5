package fs

import (
	"errors"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// forever is how long the kernel may keep what it was told, names that do not
// exist included. It learns of every change, since every change goes through it.
const forever = 24 * time.Hour

// path returns the name of n that ops carry: a mirrored one if there is one,
// and "" if n has none. It is false where n may have a better name that is not
// known. The caller holds names.
func (f *FS) path(n *inode) (path string, ok bool) {
	return f.table.path(n, f.committer.Mirrored)
}

// known returns a path of n for messages. The caller does not hold names.
func (f *FS) known(n *inode) string {
	f.names.RLock()
	defer f.names.RUnlock()
	path, _ := f.path(n)
	return path
}

// share takes names shared and returns n's path. The caller releases names.
func (f *FS) share(n *inode) (path string) {
	f.names.RLock()
	path, ok := f.path(n)
	if !ok {
		f.names.RUnlock()
		f.findNames(n)
		f.names.RLock()
		path, _ = f.path(n)
	}
	return path
}

// begin takes the locks that order a change of n itself, and returns its path.
func (f *FS) begin(n *inode) (path string, end func()) {
	path = f.share(n)
	n.mu.Lock()
	return path, func() {
		n.mu.Unlock()
		f.names.RUnlock()
	}
}

// findNames looks through the whole volume for the names of n. It happens when
// a file had several names before it was first looked up, and the ones that we
// were told are gone or are not mirrored.
func (f *FS) findNames(n *inode) {
	f.names.Lock()
	defer f.names.Unlock()
	var search func(dir string)
	search = func(dir string) {
		entries, err := f.tree.Names(dir)
		if err != nil {
			return // what cannot be listed cannot be found in
		}
		for _, e := range entries {
			path := op.JoinPath(dir, e.Name)
			if e.Ino == n.key.ino && e.Mode&unix.S_IFMT == n.typ {
				if _, _, leave, err := f.intern(path); err == nil {
					leave()
				}
			}
			if e.Mode&unix.S_IFMT == unix.S_IFDIR {
				search(path)
			}
		}
	}
	search(op.Root)
	// Names outside of the volume are nobody's business: do not search again.
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	n.nlink = uint32(len(n.links.all))
}

// intern makes the inode at path known, and all directories above it, and
// keeps it known until leave. Where there is nothing at path, n is nil, and
// parent is the lowest directory on the way. The caller holds names.
func (f *FS) intern(path string) (n, parent *inode, leave func(), err error) {
	n = f.table.root
	var held []*inode
	leave = func() {
		for i := len(held) - 1; i >= 0; i-- {
			f.table.unpin(held[i])
		}
	}
	for end := 0; path != op.Root && end < len(path); {
		start := end
		if start > 0 {
			start++
		}
		for end = start; end < len(path) && path[end] != '/'; end++ {
		}
		var st unix.Stat_t
		if err := f.stat(path[:end], &st); err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				return nil, n, leave, nil
			}
			leave()
			return nil, nil, nil, err
		}
		parent = n
		n = f.table.enter(parent, path[start:end], &st, 0, 1)
		held = append(held, n)
	}
	return n, parent, leave, nil
}

func (f *FS) stat(path string, st *unix.Stat_t) error {
	at, err := f.tree.At(path)
	if err != nil {
		return err
	}
	defer at.Close()
	return unix.Fstatat(at.FD, at.Name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// Lookup tells the kernel what a name means.
func (f *front) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := f.table.get(in.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	dir := f.share(parent)
	defer f.names.RUnlock()
	if dir == "" {
		return fuse.ENOENT
	}
	var st unix.Stat_t
	err := f.stat(op.JoinPath(dir, name), &st)
	if errors.Is(err, unix.ENOENT) {
		// Node 0 with a time-out: the kernel may remember that there is nothing.
		out.NodeId = 0
		out.SetEntryTimeout(forever)
		return fuse.OK
	}
	if err != nil {
		return status(err)
	}
	f.table.enter(parent, name, &st, 1, 0).fill(&st, out)
	return fuse.OK
}

// Forget says that the kernel dropped references.
func (f *front) Forget(id, lookups uint64) {
	if n := f.table.get(id); n != nil {
		f.table.forget(n, lookups)
	}
}

// fill describes n to the kernel.
func (n *inode) fill(st *unix.Stat_t, out *fuse.EntryOut) {
	out.NodeId = n.id
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	fillAttr(st, &out.Attr)
}

// place is where system calls reach an inode: a name in a directory, or a
// descriptor.
type place struct {
	at tree.At
	fd int // -1: at
}

// place finds n under path, as share returned it.
func (f *FS) place(n *inode, path string) (place, error) {
	if path == "" {
		if n.orphan == nil {
			return place{}, unix.ESTALE
		}
		return place{fd: n.orphan.fd}, nil
	}
	at, err := f.tree.At(path)
	return place{at: at, fd: -1}, err
}

func (p place) close() {
	if p.fd < 0 {
		p.at.Close()
	}
}

// target returns the arguments of *at calls.
func (p place) target() (dirfd int, name string, flags int) {
	if p.fd >= 0 {
		return p.fd, "", unix.AT_EMPTY_PATH
	}
	return p.at.FD, p.at.Name, unix.AT_SYMLINK_NOFOLLOW
}

// proc returns a path for the calls that know no directory descriptors, and
// whether its last component has to be followed to reach the object.
func (p place) proc() (path string, follow bool) {
	if p.fd >= 0 {
		return "/proc/self/fd/" + strconv.Itoa(p.fd), true
	}
	return "/proc/self/fd/" + strconv.Itoa(p.at.FD) + "/" + p.at.Name, false
}

func (p place) stat(st *unix.Stat_t) error {
	dirfd, name, flags := p.target()
	return unix.Fstatat(dirfd, name, st, flags)
}

func (p place) open(flags int) (int, error) {
	if p.fd >= 0 {
		path, _ := p.proc()
		return openat(unix.AT_FDCWD, path, flags&^unix.O_NOFOLLOW, 0)
	}
	return openat(p.at.FD, p.at.Name, flags|unix.O_NOFOLLOW, 0)
}

// openat opens for this process alone and starts over when a signal comes.
func openat(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	err = restart(func() error {
		fd, err = unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// restart repeats call for as long as a signal interrupts it: the Go runtime
// signals its own threads.
func restart(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
