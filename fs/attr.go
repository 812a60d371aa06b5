package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// fillAttr gives the kernel the attributes that the file below has.
func fillAttr(st *unix.Stat_t, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino:       st.Ino,
		Size:      uint64(st.Size),
		Blocks:    uint64(st.Blocks),
		Atime:     uint64(st.Atim.Sec),
		Mtime:     uint64(st.Mtim.Sec),
		Ctime:     uint64(st.Ctim.Sec),
		Atimensec: uint32(st.Atim.Nsec),
		Mtimensec: uint32(st.Mtim.Nsec),
		Ctimensec: uint32(st.Ctim.Nsec),
		Mode:      st.Mode,
		Nlink:     uint32(st.Nlink),
		Owner:     fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Rdev:      uint32(st.Rdev),
		Blksize:   uint32(st.Blksize),
	}
}

func opTime(ts unix.Timespec) op.Time { return op.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)} }

// results fills in what an op that made or changed an object resulted in.
func results(st *unix.Stat_t, valid op.AttrMask) op.Attr {
	a := op.Attr{Valid: valid}
	if valid&op.AttrMode != 0 {
		a.Mode = st.Mode
	}
	if valid&op.AttrOwner != 0 {
		a.UID, a.GID = st.Uid, st.Gid
	}
	if valid&op.AttrRdev != 0 {
		a.Rdev = uint32(st.Rdev)
	}
	if valid&op.AttrSize != 0 {
		a.Size = st.Size
	}
	if valid&op.AttrAtime != 0 {
		a.Atime = opTime(st.Atim)
	}
	if valid&op.AttrMtime != 0 {
		a.Mtime = opTime(st.Mtim)
	}
	return a
}

// GetAttr is stat(2), or fstat(2) where there is a handle.
func (f *front) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st unix.Stat_t
	err := f.reach(in.NodeId, in.Flags(), in.Fh(), func(dirfd int, name string, flags int) error {
		return unix.Fstatat(dirfd, name, &st, flags)
	})
	if err != nil {
		return status(err)
	}
	out.SetTimeout(forever)
	fillAttr(&st, &out.Attr)
	return fuse.OK
}

// Statx is statx(2), where it asks for the time of birth.
func (f *front) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var st unix.Statx_t
	err := f.reach(in.NodeId, in.GetattrFlags, in.Fh, func(dirfd int, name string, flags int) error {
		return unix.Statx(dirfd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	})
	if err != nil {
		return status(err)
	}
	out.SetTimeout(forever)
	out.FromStatx(&st)
	return fuse.OK
}

// reach calls stat with the arguments that mean a handle's file, or the inode.
func (f *FS) reach(id uint64, flags uint32, fh uint64, stat func(dirfd int, name string, flags int) error) error {
	if flags&fuse.FUSE_GETATTR_FH != 0 {
		if h := f.handles.get(fh); h != nil {
			return stat(h.fd, "", unix.AT_EMPTY_PATH)
		}
	}
	n := f.table.get(id)
	if n == nil {
		return unix.ESTALE
	}
	path := f.share(n)
	defer f.names.RUnlock()
	p, err := f.place(n, path)
	if err != nil {
		return err
	}
	defer p.close()
	return stat(p.target())
}

func (f *FS) statNode(n *inode, path string, st *unix.Stat_t) error {
	p, err := f.place(n, path)
	if err != nil {
		return err
	}
	defer p.close()
	return p.stat(st)
}

// SetAttr is truncate, chmod, chown and utimensat. The kernel sends a size
// apart from modes and owners; if it ever sends both, the size comes first.
func (f *front) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := f.table.get(in.NodeId)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	acks, err := f.setAttr(cancel, n, in, out)
	return f.after(&in.InHeader, err, nil, acks...)
}

func (f *front) setAttr(cancel <-chan struct{}, n *inode, in *fuse.SetAttrIn, out *fuse.AttrOut) (acks []op.Ack, err error) {
	path, end := f.begin(n)
	defer end()
	p, err := f.place(n, path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if size, ok := in.GetSize(); ok {
		var h *handle
		if fh, ok := in.GetFh(); ok {
			h = f.handles.get(fh)
		}
		var kill *fuse.Caller
		if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 {
			kill = &in.Caller
		}
		acks, err = f.truncate(cancel, n, path, p, h, int64(size), kill)
		if err != nil {
			return acks, err
		}
	}
	if in.Valid&fields != 0 || in.Valid&fuse.FATTR_SIZE == 0 {
		ack, err := f.setAttrs(cancel, n, path, p, in)
		if ack != nil {
			acks = append(acks, ack)
		}
		if err != nil {
			return acks, err
		}
	}
	var st unix.Stat_t
	if err := p.stat(&st); err != nil {
		return acks, err
	}
	out.SetTimeout(forever)
	fillAttr(&st, &out.Attr)
	return acks, nil
}

const (
	owners = fuse.FATTR_UID | fuse.FATTR_GID
	fields = owners | fuse.FATTR_MODE | fuse.FATTR_ATIME | fuse.FATTR_MTIME
)

// setAttrs changes owner, mode and times as one op. A request without any field
// takes set-ID bits away; see keeps. If a later one of these fails, what changed
// until then is ordered all the same, and the error goes to the caller.
func (f *front) setAttrs(cancel <-chan struct{}, n *inode, path string, p place, in *fuse.SetAttrIn) (op.Ack, error) {
	o := &op.Op{Kind: op.SetAttr, Path: path}
	asked := in.Valid
	if asked&fields == 0 {
		if keep, err := f.keeps(n, p, &in.Caller); keep || err != nil {
			return op.Done, err
		}
		asked |= owners
	}
	var late error
	ack, err := f.change(cancel, o, func() error {
		var valid op.AttrMask
		for _, step := range []struct {
			field uint32
			valid op.AttrMask
			apply func(place, *fuse.SetAttrIn) error
		}{
			// A new owner clears the set-ID bits, so the mode comes after it.
			{owners, op.AttrOwner | op.AttrMode, place.setOwner},
			{fuse.FATTR_MODE, op.AttrMode, func(p place, in *fuse.SetAttrIn) error {
				if n.typ == unix.S_IFLNK {
					return unix.EOPNOTSUPP // and fchmodat would follow it
				}
				return p.chmod(in.Mode & 07777)
			}},
			{fuse.FATTR_ATIME, op.AttrAtime, place.utimes},
			{fuse.FATTR_MTIME, op.AttrMtime, place.utimes},
		} {
			if asked&step.field == 0 {
				continue
			}
			if err := step.apply(p, in); err != nil {
				if valid == 0 {
					return err
				}
				late = err
				break
			}
			valid |= step.valid
		}
		var st unix.Stat_t
		if err := p.stat(&st); err != nil {
			return err
		}
		o.Attr = results(&st, valid)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if o.Attr.Valid&op.AttrMtime != 0 {
		f.times.settle(n)
	}
	return ack, late
}

func (p place) setOwner(in *fuse.SetAttrIn) error {
	uid, gid := -1, -1
	if v, ok := in.GetUID(); ok {
		uid = int(v)
	}
	if v, ok := in.GetGID(); ok {
		gid = int(v)
	}
	var before, after unix.Stat_t
	if err := p.stat(&before); err != nil {
		return err
	}
	if err := p.chown(uid, gid); err != nil {
		return err
	}
	// What the system call leaves because we may do anything: set-group-ID
	// without group execution, if the caller is not in the group.
	const bits = unix.S_ISGID | unix.S_IXGRP
	if before.Mode&bits != unix.S_ISGID || before.Mode&unix.S_IFMT == unix.S_IFDIR ||
		member(&in.Caller, before.Gid) || capable(&in.Caller, unix.CAP_FSETID) {
		return nil
	}
	if err := p.stat(&after); err != nil {
		return err
	}
	return p.chmod(after.Mode & 07777 &^ unix.S_ISGID)
}

func (p place) chown(uid, gid int) error {
	dirfd, name, flags := p.target()
	return unix.Fchownat(dirfd, name, uid, gid, flags)
}

// chmod must not be called for a symbolic link.
func (p place) chmod(mode uint32) error {
	if path, follow := p.proc(); follow {
		return unix.Fchmodat(unix.AT_FDCWD, path, mode, 0)
	}
	return unix.Fchmodat(p.at.FD, p.at.Name, mode, 0)
}

func (p place) utimes(in *fuse.SetAttrIn) error {
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	times := []unix.Timespec{omit, omit}
	for i, t := range []struct {
		set, now uint32
		sec      uint64
		nsec     uint32
	}{
		{fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec},
		{fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec},
	} {
		switch {
		case in.Valid&t.set == 0:
		case in.Valid&t.now != 0:
			times[i].Nsec = unix.UTIME_NOW
		default:
			times[i] = unix.Timespec{Sec: int64(t.sec), Nsec: int64(t.nsec)}
		}
	}
	dirfd, name, flags := p.target()
	return unix.UtimesNanoAt(dirfd, name, times, flags)
}

// truncate sets the size, and clears set-ID bits if kill names the process that
// may not keep them. The caller holds n's locks.
func (f *FS) truncate(cancel <-chan struct{}, n *inode, path string, p place, h *handle, size int64, kill *fuse.Caller) (acks []op.Ack, err error) {
	var fd int
	if h != nil && h.writable() {
		fd = h.fd
	} else {
		if fd, err = p.open(unix.O_WRONLY | unix.O_NONBLOCK); err != nil {
			return nil, err
		}
		defer unix.Close(fd)
	}
	o := &op.Op{Kind: op.Truncate, Path: path, Attr: op.Attr{Valid: op.AttrSize, Size: size}}
	ack, err := f.change(cancel, o, func() error {
		f.times.changed(n) // even by one that fails
		return restart(func() error { return unix.Ftruncate(fd, size) })
	})
	if err != nil {
		return nil, err
	}
	acks = append(acks, ack)
	if kill != nil {
		ack, err := f.killPrivileges(cancel, path, fd, kill)
		if ack != nil {
			acks = append(acks, ack)
		}
		return acks, err
	}
	return acks, nil
}

// killPrivileges clears set-user-ID and set-group-ID as a change of the data
// by an ordinary user does, as an op of its own. The ack is nil if there was
// nothing to clear.
func (f *FS) killPrivileges(cancel <-chan struct{}, path string, fd int, caller *fuse.Caller) (op.Ack, error) {
	mode, kill, err := privileged(fd, caller)
	if err != nil || !kill {
		return nil, err
	}
	o := &op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: mode}}
	return f.change(cancel, o, func() error { return unix.Fchmod(fd, mode&07777) })
}

// StatFs describes the file system below.
func (f *front) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	at, err := f.tree.At(op.Root)
	if err != nil {
		return status(err)
	}
	defer at.Close()
	var st unix.Statfs_t
	if err := restart(func() error { return unix.Fstatfs(at.FD, &st) }); err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), NameLen: uint32(st.Namelen), Frsize: uint32(st.Frsize),
	}
	return fuse.OK
}
