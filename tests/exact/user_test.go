package exact

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// user is who makes calls.
type user struct {
	name     string
	uid, gid int
	groups   []uint32
	// keep are capabilities that an ordinary user has all the same; drop are
	// those that root lacks.
	keep, drop []uint
}

var (
	root  = user{name: "root"}
	alice = user{name: "alice", uid: 1000, gid: 1000, groups: []uint32{1000, 2000, 2001}}
	bob   = user{name: "bob", uid: 1001, gid: 1001, groups: []uint32{1001, 2000}}
	carol = user{name: "carol", uid: 1002, gid: 1002}
	// tame is root without what ext4 asks for before it keeps set-ID bits.
	tame = user{name: "tame", groups: []uint32{2000}, drop: []uint{unix.CAP_FSETID}}
	// owner may do to others' files what their owners may.
	fowner = user{name: "fowner", uid: 1003, gid: 1003, keep: []uint{unix.CAP_FOWNER}}
)

// as makes the calls of fn as somebody else. Identities are of threads: this
// one ends with fn.
func (t *tape) as(u user, fn func()) {
	t.note("as %s", u.name)
	done := make(chan error)
	go func() {
		// Never unlocked: the thread must not be used again.
		runtime.LockOSThread()
		if err := u.become(); err != nil {
			done <- err
			return
		}
		fn()
		done <- nil
	}()
	if err := <-done; err != nil {
		panic(fmt.Sprintf("become %s: %v", u.name, err))
	}
	t.note("as root again")
}

func (u user) become() error {
	var groups unsafe.Pointer
	if len(u.groups) > 0 {
		groups = unsafe.Pointer(&u.groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.groups)), uintptr(groups), 0); errno != 0 {
		return errno
	}
	if len(u.keep) > 0 {
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), uintptr(u.gid)); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), uintptr(u.uid)); errno != 0 {
		return errno
	}
	if len(u.keep)+len(u.drop) == 0 {
		return nil
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return err
	}
	if u.uid != 0 {
		caps = [2]unix.CapUserData{}
	}
	for _, c := range u.keep {
		caps[c/32].Permitted |= 1 << (c % 32)
		caps[c/32].Effective |= 1 << (c % 32)
	}
	for _, c := range u.drop {
		caps[c/32].Permitted &^= 1 << (c % 32)
		caps[c/32].Effective &^= 1 << (c % 32)
	}
	return unix.Capset(&head, &caps[0])
}
