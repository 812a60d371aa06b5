package fs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptor is an open file of the replica. It may have several users: a file
// that loses its name while it is open is reached through what has it open, so
// that no call on it needs a descriptor that there may not be. It is closed by
// its last user.
type descriptor struct {
	fd    int
	users atomic.Int32
}

// newDescriptor has one user.
func newDescriptor(fd int) *descriptor {
	d := &descriptor{fd: fd}
	d.users.Store(1)
	return d
}

// share adds a user. The caller knows of another one that stays meanwhile.
func (d *descriptor) share() *descriptor {
	d.users.Add(1)
	return d
}

// release takes a user away. There may be no descriptor at all.
func (d *descriptor) release() {
	if d != nil && d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}
