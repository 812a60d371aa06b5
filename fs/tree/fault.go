package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskFaults are the errors that say more of the disk than of what it was asked
// for, in words for operators.
var diskFaults = []struct {
	errno syscall.Errno
	words string
}{
	{unix.ENOSPC, "disk full"},
	{unix.EDQUOT, "disk quota exceeded"},
	{unix.EROFS, "file system is read-only"},
	{unix.EIO, "disk failing"},
}

// DiskFault reports whether err is the disk's fault: whoever tries again will
// meet it again.
func DiskFault(err error) bool { return FaultOf(err) != "" }

// FaultOf says what is wrong with the disk, "" if err is not its fault.
func FaultOf(err error) string {
	for _, f := range diskFaults {
		if errors.Is(err, f.errno) {
			return f.words
		}
	}
	return ""
}
