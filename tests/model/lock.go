package model

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lock takes or gives back a lock of one of the three kinds, or asks who holds
// one. It never waits.
func (w *World) lock(s Step) (text string, err error) {
	fd := w.slots[s.FD]
	if s.Kind == Flock {
		return "", unix.Flock(fd, [...]int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN}[s.Flags]|unix.LOCK_NB)
	}
	l := unix.Flock_t{
		Type:  [...]int16{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK}[s.Flags],
		Start: s.Off, Len: s.Len,
	}
	ofd := s.ID%2 == 0
	command := unix.F_SETLK
	switch {
	case s.Kind == SetLock && ofd:
		command = unix.F_OFD_SETLK
	case s.Kind == GetLock && ofd:
		command = unix.F_OFD_GETLK
	case s.Kind == GetLock:
		command = unix.F_GETLK
	}
	err = unix.FcntlFlock(uintptr(fd), command, &l)
	if err == nil && s.Kind == GetLock {
		text = fmt.Sprintf("type=%d whence=%d start=%d len=%d", l.Type, l.Whence, l.Start, l.Len)
		if l.Type != unix.F_UNLCK {
			text += fmt.Sprintf(" pid=%d ", l.Pid)
		}
	}
	return text, err
}
