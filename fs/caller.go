package fs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A request says the user, the group and the process that it comes from. What
// else decides is asked of /proc, in the rare cases where it matters.

// capable reports whether the caller has a capability, as capable(9) below the
// mount would. Of a process that is gone only the user is known.
func capable(c *fuse.Caller, capability uint) bool {
	field, ok := processField(c, "CapEff")
	if !ok {
		return c.Uid == 0
	}
	set, err := strconv.ParseUint(field, 16, 64)
	if err != nil || set>>capability&1 == 0 {
		return false
	}
	// Capabilities in a user namespace of its own count for nothing here.
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", c.Pid))
	if err != nil {
		return c.Uid == 0
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	return err == nil && ours == theirs
}

// member reports whether the caller belongs to a group.
func member(c *fuse.Caller, gid uint32) bool {
	if c.Gid == gid {
		return true
	}
	groups, _ := processField(c, "Groups")
	return slices.Contains(strings.Fields(groups), strconv.FormatUint(uint64(gid), 10))
}

// processField returns a line of the caller's /proc/PID/status.
func processField(c *fuse.Caller, name string) (value string, ok bool) {
	if c.Pid == 0 {
		return "", false // the kernel itself, or a process that we cannot see
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Pid))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// privileged returns the mode that fd's file has once the caller, who may not
// keep set-ID bits, has changed its data, and whether that is another mode. As
// on ext4, set-group-ID without group execution is no privilege and stays for
// members of the group.
func privileged(fd int, caller *fuse.Caller) (mode uint32, kill bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, false, err
	}
	mode = st.Mode &^ unix.S_ISUID
	if mode&unix.S_ISGID != 0 && (mode&unix.S_IXGRP != 0 || !member(caller, st.Gid)) {
		mode &^= unix.S_ISGID
	}
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
