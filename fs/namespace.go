package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// birth is the making of one new object.
type birth struct {
	parent uint64
	name   string
	caller fuse.Owner
	kind   op.Kind
	text   []byte // of a symbolic link
	// make is the system call, under a process umask of 0: the caller's is in
	// the mode that masked returns.
	make func(at tree.At) error
	// undo takes back what make did besides the name.
	undo func()
}

// bear makes the object, gives it to its owner, orders that, and makes it known
// to the kernel. The caller waits for the ack.
func (f *FS) bear(cancel <-chan struct{}, b *birth, out *fuse.EntryOut) (*inode, op.Ack, error) {
	parent := f.table.get(b.parent)
	if parent == nil {
		return nil, nil, unix.ESTALE
	}
	dir, end := f.begin(parent)
	defer end()
	if dir == "" {
		return nil, nil, unix.ENOENT
	}
	o := &op.Op{Kind: b.kind, Path: op.JoinPath(dir, b.name), Data: b.text}
	at, err := f.tree.At(o.Path)
	if err != nil {
		return nil, nil, err
	}
	defer at.Close()
	var st unix.Stat_t
	ack, err := f.change(cancel, o, func() error {
		if err := b.make(at); err != nil {
			return err
		}
		err := own(place{at: at, fd: -1}, at.FD, "", b.caller, &st)
		if err == nil {
			err = mtime(at.FD, &o.Dir)
		}
		if err != nil {
			if undo := b.unmake(at, b.kind); undo != nil {
				f.log.Error("half made and cannot be taken back: it is on no mirror", "path", o.Path, "error", undo)
			}
			f.times.changed(parent) // the attempt has changed the directory's mtime
			return err
		}
		valid := op.AttrMode | op.AttrOwner | op.AttrMtime
		if b.kind == op.Mknod {
			valid |= op.AttrRdev
		}
		o.Attr = results(&st, valid)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	f.times.settle(parent)
	n := f.table.enter(parent, b.name, &st, 1, 0)
	n.fill(&st, out)
	return n, ack, nil
}

// unmake takes back a birth that failed half way. What it cannot take back is
// on the primary alone, and verify names it.
func (b *birth) unmake(at tree.At, kind op.Kind) error {
	if b.undo != nil {
		b.undo()
	}
	flags := 0
	if kind == op.Mkdir {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(at.FD, at.Name, flags)
}

// bornBy is bear and the wait behind it.
func (f *FS) bornBy(cancel <-chan struct{}, in *fuse.InHeader, b *birth, out *fuse.EntryOut) fuse.Status {
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	n, ack, err := f.bear(cancel, b, out)
	if err != nil {
		return status(err)
	}
	return f.after(in, nil, f.unborn(n, in.NodeId, b.name), ack)
}

// unborn returns what undoes a birth that the kernel does not hear of: its
// reference, and its belief that there is nothing by that name.
func (f *FS) unborn(n *inode, parent uint64, name string) func() {
	return func() {
		f.table.forget(n, 1)
		f.server.distrustName(parent, name)
	}
}

// own gives a new object the owner that it has on a local disk: the caller,
// and the group of a directory that is set-group-ID. st is the result. The
// directory is dirname in dirfd, or dirfd itself if that is empty.
func own(p place, dirfd int, dirname string, caller fuse.Owner, st *unix.Stat_t) error {
	if err := p.stat(st); err != nil {
		return err
	}
	gid := caller.Gid
	if st.Gid != gid {
		var dir unix.Stat_t
		if err := unix.Fstatat(dirfd, dirname, &dir, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		if dir.Mode&unix.S_ISGID != 0 {
			gid = st.Gid // the system call has handed it on
		}
	}
	if st.Uid == caller.Uid && st.Gid == gid {
		return nil
	}
	born := st.Mode
	if err := p.chown(int(caller.Uid), int(gid)); err != nil {
		return err
	}
	if born&(unix.S_ISUID|unix.S_ISGID) != 0 && born&unix.S_IFMT != unix.S_IFLNK {
		// The change of owner has cleared them.
		if err := p.chmod(born & 07777); err != nil {
			return err
		}
	}
	return p.stat(st)
}

// mtime reads the mtime of a directory.
func mtime(fd int, t *op.Time) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	*t = opTime(st.Mtim)
	return nil
}

// Mknod is mknod(2).
func (f *front) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	kind := op.Mknod
	if in.Mode&unix.S_IFMT == unix.S_IFREG {
		kind = op.Create
	}
	return f.bornBy(cancel, &in.InHeader, &birth{
		parent: in.NodeId, name: name, caller: in.Owner, kind: kind,
		make: func(at tree.At) error {
			return unix.Mknodat(at.FD, at.Name, masked(procPath(at.FD), in.Mode, in.Umask), int(in.Rdev))
		},
	}, out)
}

// Mkdir is mkdir(2).
func (f *front) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.bornBy(cancel, &in.InHeader, &birth{
		parent: in.NodeId, name: name, caller: in.Owner, kind: op.Mkdir,
		make: func(at tree.At) error {
			return unix.Mkdirat(at.FD, at.Name, masked(procPath(at.FD), in.Mode&07777, in.Umask))
		},
	}, out)
}

// Symlink is symlink(2).
func (f *front) Symlink(cancel <-chan struct{}, in *fuse.InHeader, text, name string, out *fuse.EntryOut) fuse.Status {
	return f.bornBy(cancel, in, &birth{
		parent: in.NodeId, name: name, caller: in.Owner, kind: op.Symlink, text: []byte(text),
		make: func(at tree.At) error { return unix.Symlinkat(text, at.FD, at.Name) },
	}, out)
}

// Readlink is readlink(2).
func (f *front) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n := f.table.get(in.NodeId)
	if n == nil {
		return nil, fuse.Status(syscall.ESTALE)
	}
	path := f.share(n)
	defer f.names.RUnlock()
	p, err := f.place(n, path)
	if err != nil {
		return nil, status(err)
	}
	defer p.close()
	dirfd, name, _ := p.target()
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return nil, status(err)
	}
	return buf[:size], fuse.OK
}

// Unlink is unlink(2).
func (f *front) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(cancel, in, name, op.Unlink, 0)
}

// Rmdir is rmdir(2).
func (f *front) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(cancel, in, name, op.Rmdir, unix.AT_REMOVEDIR)
}

func (f *FS) remove(cancel <-chan struct{}, in *fuse.InHeader, name string, kind op.Kind, flags int) fuse.Status {
	parent := f.table.get(in.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	ack, err := func() (op.Ack, error) {
		f.names.Lock()
		defer f.names.Unlock()
		dir, _ := f.path(parent)
		if dir == "" {
			return nil, unix.ENOENT
		}
		o := &op.Op{Kind: kind, Path: op.JoinPath(dir, name)}
		at, err := f.tree.At(o.Path)
		if err != nil {
			return nil, err
		}
		defer at.Close()
		goes, err := f.going(at)
		if err != nil {
			return nil, err
		}
		ack, err := f.change(cancel, o, func() error {
			if err := unix.Unlinkat(at.FD, at.Name, flags); err != nil {
				return err
			}
			if kind == op.Rmdir {
				f.tree.Forget(o.Path)
			}
			return mtime(at.FD, &o.Dir)
		})
		if err != nil {
			goes.stay()
			return nil, err
		}
		f.times.settle(parent)
		goes.gone(f, parent, name)
		return ack, nil
	}()
	if err != nil {
		return status(err)
	}
	return f.after(in, nil, func() { f.server.distrustName(in.NodeId, name) }, ack)
}

// going is what is about to lose a name.
type going struct {
	n *inode // nil if it is not known
	// hold is what it is reached by if it was the last known name, or nil.
	hold *descriptor
}

// going looks at what at means and takes hold of it where it must go on
// working without a name. It fails where there is no descriptor for one that
// nobody has open: somebody may have it as an O_PATH or as a working directory.
// The caller holds names exclusively.
func (f *FS) going(at tree.At) (going, error) {
	var g going
	var st unix.Stat_t
	if unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return g, nil
	}
	n, last := f.table.find(&st)
	g.n = n
	if n == nil || !last {
		return g, nil
	}
	if g.hold = f.handles.descriptor(n); g.hold != nil {
		return g, nil
	}
	fd, err := openat(at.FD, at.Name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return g, f.handles.seen(err)
	}
	g.hold = newDescriptor(fd)
	return g, nil
}

func (g going) stay() { g.hold.release() }

func (g going) gone(f *FS, parent *inode, name string) {
	if g.n != nil {
		f.table.unlinked(g.n, parent, name, g.hold)
	}
}

// Link is link(2), also of a file that has no name yet.
func (f *front) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	n, parent := f.table.get(in.Oldnodeid), f.table.get(in.NodeId)
	if n == nil || parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	ack, err := func() (op.Ack, error) {
		f.names.Lock()
		defer f.names.Unlock()
		old, _ := f.path(n)
		dir, _ := f.path(parent)
		if dir == "" {
			return nil, unix.ENOENT
		}
		from, err := f.place(n, old)
		if err != nil {
			return nil, err
		}
		defer from.close()
		path := op.JoinPath(dir, name)
		at, err := f.tree.At(path)
		if err != nil {
			return nil, err
		}
		defer at.Close()
		o := &op.Op{Kind: op.Link, Path: old, Path2: path}
		dirTime := &o.Dir2
		if old == "" {
			o = &op.Op{Kind: op.Adopt, Path: path}
			dirTime = &o.Dir
		}
		var st unix.Stat_t
		ack, err := f.change(cancel, o, func() error {
			if err := from.link(at); err != nil {
				return err
			}
			if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			return mtime(at.FD, dirTime)
		})
		if err != nil {
			return nil, err
		}
		f.times.settle(parent)
		f.table.linked(n, parent, name)
		f.table.enter(parent, name, &st, 1, 0).fill(&st, out)
		return ack, nil
	}()
	if err != nil {
		f.server.distrustAttr(in.Oldnodeid) // on a full disk its ctime moves all the same
		return status(err)
	}
	return f.after(&in.InHeader, nil, f.unborn(n, in.NodeId, name), ack)
}

func (p place) link(to tree.At) error {
	if path, follow := p.proc(); follow {
		return unix.Linkat(unix.AT_FDCWD, path, to.FD, to.Name, unix.AT_SYMLINK_FOLLOW)
	}
	return unix.Linkat(p.at.FD, p.at.Name, to.FD, to.Name, 0)
}
