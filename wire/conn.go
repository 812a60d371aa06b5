package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mergeSize bounds what a merging connection holds back.
const mergeSize = 64 << 10

// directSize is the size from which on a write is not worth a copy.
const directSize = 16 << 10

// merging is a connection whose writes are gathered: yamux writes a header and
// a body one after the other, and each would be a system call, a TLS record and
// a wake-up of the peer. Small writes go into a buffer, which one goroutine
// sends as soon as it is idle. So nothing waits for a timer, and what is
// written while a write is under way goes out together. A large write goes out
// at once, behind what has gathered: the body behind its header.
type merging struct {
	net.Conn
	raw  net.Conn      // below Conn's encryption; closing it cannot block
	wake chan struct{} // room for one: there is something to send, or the end
	done chan struct{} // closed when the sender has ended

	mu      sync.Mutex
	room    sync.Cond // on mu: the buffer was taken, sending has changed, or failed is set
	pending []byte    // guarded by mu
	spare   []byte    // guarded by mu: the other buffer; nil while it is being sent
	sending bool      // guarded by mu: somebody writes to Conn
	failed  error     // guarded by mu: no write succeeds any more
}

var errClosed = errors.New("connection closed")

func newMerging(c, raw net.Conn) *merging {
	m := &merging{
		Conn: c, raw: raw, wake: make(chan struct{}, 1), done: make(chan struct{}),
		pending: make([]byte, 0, mergeSize), spare: make([]byte, 0, mergeSize),
	}
	m.room.L = &m.mu
	go m.send()
	return m
}

// Write takes p into the buffer, or writes it if it is large. It blocks while
// the buffer is full. An error of the connection shows at a later call.
func (m *merging) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(p) >= directSize {
		return m.direct(p)
	}
	n := 0
	for n < len(p) {
		for m.failed == nil && len(m.pending) == mergeSize {
			m.room.Wait()
		}
		if m.failed != nil {
			return n, m.failed
		}
		k := min(len(p)-n, mergeSize-len(m.pending))
		m.pending = append(m.pending, p[n:n+k]...)
		n += k
		m.nudge()
	}
	return n, nil
}

// direct writes p behind what is pending. The caller holds mu.
func (m *merging) direct(p []byte) (int, error) {
	for m.sending && m.failed == nil {
		m.room.Wait()
	}
	if m.failed != nil {
		return 0, m.failed
	}
	if err := m.flush(p); err != nil {
		return 0, m.failed // which may have been Close's
	}
	if len(m.pending) > 0 {
		m.nudge()
	}
	return len(p), nil
}

// nudge wakes the sender.
func (m *merging) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// flush writes what is pending, and p behind it. The caller holds mu, which is
// released meanwhile, and nobody else is sending.
func (m *merging) flush(p []byte) error {
	out := m.pending
	m.pending, m.spare, m.sending = m.spare[:0], nil, true
	m.room.Broadcast()
	m.mu.Unlock()
	err := writeTogether(m.Conn, out, p)
	m.mu.Lock()
	m.spare, m.sending = out[:0], false
	if err != nil && m.failed == nil {
		m.failed = err
	}
	m.room.Broadcast()
	return err
}

// send writes what gathers until the connection fails or is closed. Closing
// sends what was written before.
func (m *merging) send() {
	defer close(m.done)
	for range m.wake {
		m.mu.Lock()
		for m.sending {
			m.room.Wait()
		}
		ended := m.failed != nil
		err := m.flush(nil)
		more := len(m.pending) > 0
		m.mu.Unlock()
		if ended && !more || err != nil {
			return
		}
		if more {
			m.nudge()
		}
	}
}

// lastWords bounds how long Close takes.
const lastWords = time.Second

// Close sends what was written and closes the connection, within a second. It
// ends its own direction first and reads until the peer has ended the other:
// closing with bytes unread would send a reset, which can overtake what was
// written last.
func (m *merging) Close() error {
	m.mu.Lock()
	if m.failed == nil {
		m.failed = errClosed
	}
	m.room.Broadcast()
	m.mu.Unlock()
	// Errors from here on mean that the connection is dead already.
	_ = m.raw.SetDeadline(time.Now().Add(lastWords))
	m.nudge()
	<-m.done
	if half, ok := m.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		// Whoever still reads Conn gets only a part of what comes, and nobody
		// is left to use it.
		_, _ = io.Copy(io.Discard, m.raw)
	}
	// Not Conn: TLS would wait for another five seconds to take leave of a
	// peer that does not read. The protocol has a goodbye of its own.
	return m.raw.Close()
}

// Options of a connection between nodes.
const (
	// notSent bounds what waits in the kernel unsent, so that the log's cursor
	// is close to what is on the wire.
	notSent = 128 << 10
	// userTimeout is how long sent bytes may stay unacknowledged by the peer's
	// kernel before the connection is given up.
	userTimeout = 20 * time.Second
)

// tune sets the options on a TCP connection. They are for speed and for
// noticing death early; a kernel that refuses one still carries the bytes.
func tune(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		_ = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
