package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Syncer brings files to stable storage. One fsync alone is quickest in fsync(2)
// itself. Many at once are left to the kernel's own workers (IOCB_CMD_FSYNC of
// io_submit(2)): a Go thread that blocks keeps its processor from everything
// else until the runtime's monitor notices. Where the kernel takes no more, or
// none at all, goroutines wait.
type Syncer struct {
	count   atomic.Int64 // syncs under way
	crowd   atomic.Int64 // above 0 if some were side by side lately
	context uint64       // aio_context_t, 0 if there is none
	eventfd int          // counts syncs that have ended: eventfd(2)
	ended   *os.File     // eventfd's, for the poller
	after   func()       // called after each batch of syncs that were told of
	reaper  sync.WaitGroup
	waiting sync.WaitGroup // goroutines in fsync(2)

	mu      sync.Mutex             // guards all below
	running map[uint64]func(error) // whom to tell of each sync that the kernel has
	last    uint64                 // its newest key
	closing bool
}

// maxSyncs is how many syncs the kernel has at a time.
const maxSyncs = 256

// NewSyncer returns a Syncer, which its owner closes. Syncs that end at about
// the same time are told of one after the other, and then after is called, once
// for all of them.
func NewSyncer(after func()) *Syncer {
	s := &Syncer{running: make(map[uint64]func(error)), after: after}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return s
	}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, maxSyncs, uintptr(unsafe.Pointer(&s.context)), 0); errno != 0 {
		unix.Close(fd)
		s.context = 0
		return s
	}
	s.eventfd, s.ended = fd, os.NewFile(uintptr(fd), "eventfd")
	s.reaper.Go(s.reap)
	return s
}

// Close returns when every sync has ended and everybody was told. Nobody starts
// one any more.
func (s *Syncer) Close() {
	s.waiting.Wait()
	if s.context == 0 {
		return
	}
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	one := [8]byte{}
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = s.ended.Write(one[:]) // cannot fail: the counter is far from full
	s.reaper.Wait()
	_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, uintptr(s.context), 0, 0)
	s.ended.Close()
}

// Alone reports whether a sync that begins now is likely to be the only one.
// Its caller does begin one.
func (s *Syncer) Alone() bool {
	if s.count.Load() > 0 {
		s.Crowd()
		return false
	}
	if s.crowd.Load() == 0 {
		return true
	}
	s.crowd.Add(-1)
	return false
}

// Crowd says that somebody was kept from a sync of his own by one that was
// thought to be alone.
func (s *Syncer) Crowd() {
	const memory = 100 // syncs after the last that was not alone
	s.crowd.Store(memory)
}

// Wait makes what was written to fd durable, or with dataOnly its data alone
// (fdatasync(2)), and returns when it is. An error is final: the kernel tells of
// a loss once.
func (s *Syncer) Wait(fd int, dataOnly bool) error {
	s.count.Add(1)
	defer s.count.Add(-1)
	if dataOnly {
		return retry(func() error { return unix.Fdatasync(fd) })
	}
	return retry(func() error { return unix.Fsync(fd) })
}

// Start is Wait for a caller that does not wait: done is called with the result
// by another goroutine. fd may be closed as soon as Start has returned.
func (s *Syncer) Start(fd int, dataOnly bool, done func(error)) {
	if s.submit(fd, dataOnly, done) {
		return
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	s.waiting.Go(func() {
		if err == nil {
			err = errors.Join(s.Wait(own, dataOnly), unix.Close(own))
		}
		done(err)
		s.after()
	})
}

// control is the kernel's struct iocb. What is not named has to be zero.
type control struct {
	data    uint64
	_       [8]byte // key and flags of reads and writes
	opcode  uint16
	_       uint16 // priority
	fd      uint32
	_       [32]byte // where a read or write would go
	flags   uint32
	eventfd uint32
}

// The values of control.opcode and control.flags that are used here.
const (
	opFsync     = 2
	opFdatasync = 3
	flagEventfd = 1
)

// submit hands a sync to the kernel, and reports false if it does not take it.
func (s *Syncer) submit(fd int, dataOnly bool, done func(error)) bool {
	if s.context == 0 {
		return false
	}
	c := &control{opcode: opFsync, fd: uint32(fd), flags: flagEventfd, eventfd: uint32(s.eventfd)}
	if dataOnly {
		c.opcode = opFdatasync
	}
	s.mu.Lock()
	s.last++
	s.count.Add(1)
	c.data = s.last
	s.running[c.data] = done
	s.mu.Unlock()
	batch := []*control{c}
	_, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(s.context), 1, uintptr(unsafe.Pointer(&batch[0])))
	if errno != 0 {
		s.mu.Lock()
		delete(s.running, c.data)
		s.count.Add(-1)
		s.mu.Unlock()
		return false
	}
	return true
}

// event is the kernel's struct io_event.
type event struct {
	data   uint64
	_      uint64 // where the struct iocb was
	result int64
	_      int64
}

// reap tells of syncs that have ended, until Close. That one has is all that the
// eventfd is for, so it is never read.
func (s *Syncer) reap() {
	events := make([]event, 64)
	conn, err := s.ended.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool {
			s.collect(events)
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.closing && len(s.running) == 0
		})
	}
	if err != nil {
		panic(fmt.Sprintf("wait for an eventfd: %v", err)) // it is open, and has no other errors
	}
}

// collect tells of the syncs that have ended by now.
func (s *Syncer) collect(events []event) {
	for told := 0; ; {
		got, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(s.context), 0, uintptr(len(events)), uintptr(unsafe.Pointer(&events[0])), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			panic(fmt.Sprintf("io_getevents: %v", errno)) // its arguments are right
		}
		n := int(got)
		for _, e := range events[:n] {
			s.tell(e)
		}
		if told += n; n == len(events) {
			continue
		}
		if told > 0 {
			s.after()
		}
		return
	}
}

func (s *Syncer) tell(e event) {
	s.mu.Lock()
	done := s.running[e.data]
	delete(s.running, e.data)
	s.count.Add(-1)
	s.mu.Unlock()
	var err error
	if e.result < 0 {
		err = unix.Errno(-e.result)
	}
	done(err)
}

// SyncDir makes the names in a directory durable. It need not be in a Tree.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
