package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// Rename is renameat2(2) with all its flags.
func (f *front) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	from := link{f.table.get(in.NodeId), oldName}
	to := link{f.table.get(in.Newdir), newName}
	if from.parent == nil || to.parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	acks, err := f.rename(cancel, from, to, in)
	if err != nil && in.Flags&unix.RENAME_WHITEOUT != 0 {
		f.server.distrustAttr(in.NodeId) // its mtime may be new: see rename
	}
	return f.after(&in.InHeader, err, func() {
		f.server.distrustName(in.NodeId, oldName)
		f.server.distrustName(in.Newdir, newName)
	}, acks...)
}

func (f *FS) rename(cancel <-chan struct{}, from, to link, in *fuse.RenameIn) ([]op.Ack, error) {
	flags := in.Flags
	f.names.Lock()
	defer f.names.Unlock()
	oldDir, _ := f.path(from.parent)
	newDir, _ := f.path(to.parent)
	if oldDir == "" || newDir == "" {
		return nil, unix.ENOENT
	}
	o := &op.Op{Kind: op.Rename, Path: op.JoinPath(oldDir, from.name), Path2: op.JoinPath(newDir, to.name), Arg: flags}
	src, err := f.tree.At(o.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	dst, err := f.tree.At(o.Path2)
	if err != nil {
		return nil, err
	}
	defer dst.Close()

	var st unix.Stat_t
	if err := unix.Fstatat(src.FD, src.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	moves, _ := f.table.find(&st)
	var goes going
	if flags&unix.RENAME_NOREPLACE == 0 {
		if goes, err = f.going(dst); err != nil {
			return nil, err
		}
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		goes.stay() // it moves instead
		goes.hold = nil
	}
	if moves != nil && moves == goes.n && flags&unix.RENAME_EXCHANGE == 0 {
		goes.stay() // two names of one file: rename(2) does nothing, and says so to nobody
		return nil, nil
	}
	ack, err := f.change(cancel, o, func() error {
		if err := unix.Renameat2(src.FD, src.Name, dst.FD, dst.Name, uint(flags)); err != nil {
			// ext4 undoes a whiteout that it made in vain, but not the new mtime.
			f.times.changed(from.parent)
			return err
		}
		// Now, since whoever orders the op may look at what is below the names.
		f.tree.Forget(o.Path)
		f.tree.Forget(o.Path2)
		if err := mtime(src.FD, &o.Dir); err != nil {
			return err
		}
		return mtime(dst.FD, &o.Dir2)
	})
	if err != nil {
		goes.stay()
		return nil, err
	}
	acks := []op.Ack{ack}
	f.times.settle(from.parent)
	f.times.settle(to.parent)
	switch {
	case flags&unix.RENAME_EXCHANGE != 0:
		f.table.moved(moves, from, to, goes.n)
	default:
		goes.gone(f, to.parent, to.name)
		f.table.moved(moves, from, to, nil)
	}
	if flags&unix.RENAME_WHITEOUT != 0 {
		ack, err := f.whiteout(cancel, src, o.Path, in.Owner)
		if err != nil {
			return acks, err
		}
		acks = append(acks, ack)
	}
	return acks, nil
}

// whiteout gives the device that a rename left behind to the caller, and orders
// its attributes: every replica makes it by itself, with an mtime of its own.
func (f *FS) whiteout(cancel <-chan struct{}, at tree.At, path string, caller fuse.Owner) (op.Ack, error) {
	o := &op.Op{Kind: op.SetAttr, Path: path}
	return f.change(cancel, o, func() error {
		var st unix.Stat_t
		if err := own(place{at: at, fd: -1}, at.FD, "", caller, &st); err != nil {
			return err
		}
		o.Attr = results(&st, op.AttrMode|op.AttrOwner|op.AttrMtime)
		return nil
	})
}
