package fs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
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
