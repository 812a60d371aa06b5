package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Set-ID bits and file capabilities go with a change of the data or the owner.
// Below, any change of the data takes the capabilities away, but leaves the
// bits, since we may do anything: we clear them. Of most changes the kernel says
// whether the caller has to lose them.

// capabilities is the attribute that has a file's capabilities.
const capabilities = "security.capability"

// unprivileged returns the mode of a file once the caller, who may not keep
// set-ID bits, has changed its data. As on ext4, set-group-ID without group
// execution is no privilege and stays for members of the group.
func unprivileged(st *unix.Stat_t, caller *fuse.Caller) (mode uint32) {
	mode = st.Mode &^ unix.S_ISUID
	if mode&unix.S_ISGID != 0 && (mode&unix.S_IXGRP != 0 || !member(caller, st.Gid)) {
		mode &^= unix.S_ISGID
	}
	return mode
}

// privileged returns the mode that fd's file has once the caller has changed
// its data, and whether that is another mode.
func privileged(fd int, caller *fuse.Caller) (mode uint32, kill bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, false, err
	}
	mode = unprivileged(&st, caller)
	return mode, mode != st.Mode, nil
}

// clears returns the caller if it has to lose set-ID bits by changing fd's data,
// else nil. It is for the calls of which the kernel does not say so.
func clears(c *fuse.Caller, fd int) *fuse.Caller {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return nil // the common case, and nothing to ask
	}
	if capable(c, unix.CAP_FSETID) {
		return nil
	}
	return c
}

// keeps reports whether n keeps its set-ID bits when the kernel sends a request
// to set no attribute at all. It does so for a chown(2) that leaves the owner as
// it is, which clears them and asks for their owner, and ahead of a write(2),
// which clears them for whoever may write and lacks CAP_FSETID. If the file had
// capabilities, the kernel has removed them just before in both cases.
func (f *FS) keeps(n *inode, p place, caller *fuse.Caller) (bool, error) {
	var st unix.Stat_t
	if err := p.stat(&st); err != nil {
		return false, err
	}
	uncapped := n.uncapped.Swap(0) == caller.Pid
	if n.isDir() || unprivileged(&st, caller) == st.Mode {
		return false, nil
	}
	if n.typ == unix.S_IFREG && f.handles.writing(n) {
		return uncapped && capable(caller, unix.CAP_FSETID), nil
	}
	if st.Uid != caller.Uid && !capable(caller, unix.CAP_FOWNER) {
		return true, unix.EPERM
	}
	return false, nil
}
