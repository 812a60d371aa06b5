package wire

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection whose reads and writes the runtime does not take
// for calls that may block, which on a non-blocking descriptor they never do:
// where there is nothing to do they end, and the poller waits. The runtime
// would give the processor to another thread whenever 64 KiB take longer than
// 20 us, and be woken every 20 us to look for that, which costs more than what
// the other thread could do meanwhile.
type socket struct {
	net.Conn
	raw syscall.RawConn // Conn's, for the poller
}

// written changes before anything is sent and is looked at when something has
// come, which says nothing but that the one happens before the other: package
// syscall, too, tells it the race detector, which cannot see it where both ends
// are in one process.
var written atomic.Uint64

// quick returns c as a socket, or as it is where that cannot be.
func quick(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &socket{c, raw}
}

// Read reads what has come.
func (s *socket) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = s.raw.Read(func(fd uintptr) bool {
		n, errno = call(unix.SYS_READ, fd, p)
		return errno != unix.EAGAIN
	})
	written.Load()
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, s.failed("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p.
func (s *socket) Write(p []byte) (n int, err error) {
	written.Add(1)
	var errno syscall.Errno
	err = s.raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			var k int
			if k, errno = call(unix.SYS_WRITE, fd, p[n:]); errno != 0 {
				return errno != unix.EAGAIN
			}
			n += k
		}
		return true
	})
	if err == nil && errno != 0 {
		err = s.failed("write", errno)
	}
	return n, err
}

// failed is an error as package net makes it.
func (s *socket) failed(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: errno}
}

// call reads into p or writes from it. p is not empty.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
