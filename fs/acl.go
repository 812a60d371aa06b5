package fs

import (
	"errors"
	"strconv"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// The kernel checks permissions by the access lists that it reads from us. What
// they do to new files and to modes happens below, by the same rules; a mirror
// comes to the same lists, since it has the same default lists and sets the
// resulting mode.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// hasACLs reports whether the file system below keeps access lists. Where it
// does not, the kernel must not ask: it takes the refusal for a failed check.
func (f *FS) hasACLs() bool {
	at, err := f.tree.At(op.Root)
	if err != nil {
		return false
	}
	defer at.Close()
	_, err = unix.Getxattr(procPath(at.FD), aclAccess, nil)
	return err == nil || errors.Is(err, unix.ENODATA)
}

// masked returns the mode to ask for when an object is made in a directory. A
// default list there stands in for the caller's umask.
func masked(dir string, mode, umask uint32) uint32 {
	if mode&umask == 0 {
		return mode
	}
	if _, err := unix.Getxattr(dir, aclDefault, nil); err == nil {
		return mode
	}
	return mode &^ umask
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// aclMode fills in the mode that a new access list led to. The kernel says if
// the caller may not keep set-group-ID.
func (p place) aclMode(in *fuse.SetXAttrIn, o *op.Op) error {
	var st unix.Stat_t
	if err := p.stat(&st); err != nil {
		return err
	}
	if in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 && st.Mode&unix.S_ISGID != 0 {
		st.Mode &^= unix.S_ISGID
		if err := p.chmod(st.Mode & 07777); err != nil {
			return err
		}
	}
	o.Attr = results(&st, op.AttrMode)
	return nil
}
