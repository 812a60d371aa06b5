package exact

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is an io_uring that has one call or one chain of calls under way at a
// time. What calls refer to lies in memory of its own, which nothing moves.
type ring struct {
	fd      int
	rings   []byte // the kernel's and ours: heads, tails, answers
	entries []byte // the calls
	memory  []byte
	used    int // of memory, by the chain that is being made

	sqTail, cqHead, cqTail *uint32
	sqMask, cqMask         uint32
	array                  []byte
	answers                []byte
	filled                 int // calls of the chain
}

// Opcodes and sizes of the kernel's include/uapi/linux/io_uring.h.
const (
	ringFsync      = 3
	ringReadFixed  = 4
	ringWriteFixed = 5
	ringFallocate  = 17
	ringOpenat     = 18
	ringClose      = 19
	ringRead       = 22
	ringWrite      = 23
	ringRenameat   = 35
	ringUnlinkat   = 36
	ringMkdirat    = 37
	ringSymlinkat  = 38
	ringLinkat     = 39
	ringFsetxattr  = 41
	ringFtruncate  = 55

	ringLinked = 1 << 2 // of a call: the next one waits for it
	ringAsync  = 1 << 4 // of a call: a kernel thread makes it

	entrySize, answerSize = 64, 16
	ringSize              = 8
	// half of the memory is the registered buffer.
	ringMemory = 256 << 10
)

func newRing() (r *ring, err error) {
	var params [120]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringSize, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return nil, errno
	}
	r = &ring{fd: int(fd)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(params[at:]) }
	const features, sq, cq = 20, 40, 80
	if word(features)&1 == 0 {
		return nil, errors.New("a kernel older than 5.4")
	}
	cqes := word(cq + 20)
	size := max(int(word(sq+24)+4*word(0)), int(cqes+answerSize*word(4)))
	const atEntries = 0x10000000
	if r.rings, err = unix.Mmap(r.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, err
	}
	if r.entries, err = unix.Mmap(r.fd, atEntries, int(word(0))*entrySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, err
	}
	if r.memory, err = unix.Mmap(-1, 0, ringMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, err
	}
	at := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }
	r.sqTail, r.sqMask = at(word(sq+4)), *at(word(sq + 8))
	r.cqHead, r.cqTail, r.cqMask = at(word(cq)), at(word(cq+4)), *at(word(cq + 8))
	r.array, r.answers = r.rings[word(sq+24):], r.rings[cqes:]
	fixed := unix.Iovec{Base: &r.memory[ringMemory/2], Len: ringMemory / 2}
	const registerBuffers = 0
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, fd, registerBuffers, uintptr(unsafe.Pointer(&fixed)), 1, 0, 0); errno != 0 {
		return nil, errno
	}
	return r, nil
}

func (r *ring) close() {
	for _, m := range [][]byte{r.rings, r.entries, r.memory} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	_ = unix.Close(r.fd)
}

// call is one call, with its fields by the kernel's names.
type call struct {
	opcode, flags byte
	fd            int
	off, addr     uint64
	len, opFlags  uint32
}

// put puts data where calls may refer to it and returns its address.
func (r *ring) put(data string) uint64 {
	at := r.used
	r.used += copy(r.memory[at:ringMemory/2], data) + 1
	r.memory[r.used-1] = 0
	return addressOf(r.memory[at:])
}

// fixed is the registered buffer.
func (r *ring) fixed() []byte { return r.memory[ringMemory/2:] }

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }

// add makes c the next call of the chain.
func (r *ring) add(c call) {
	e := r.entries[r.filled*entrySize:][:entrySize]
	clear(e)
	e[0], e[1] = c.opcode, c.flags
	binary.NativeEndian.PutUint32(e[4:], uint32(c.fd))
	binary.NativeEndian.PutUint64(e[8:], c.off)
	binary.NativeEndian.PutUint64(e[16:], c.addr)
	binary.NativeEndian.PutUint32(e[24:], c.len)
	binary.NativeEndian.PutUint32(e[28:], c.opFlags)
	binary.NativeEndian.PutUint64(e[32:], uint64(r.filled))
	tail := *r.sqTail + uint32(r.filled)
	binary.NativeEndian.PutUint32(r.array[4*(tail&r.sqMask):], uint32(r.filled))
	r.filled++
}

// run makes the calls of the chain and returns what each returned.
func (r *ring) run() ([]int32, error) {
	results := make([]int32, r.filled)
	atomic.AddUint32(r.sqTail, uint32(r.filled))
	submit := r.filled
	for missing := r.filled; missing > 0; {
		const getEvents = 1
		n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(submit), uintptr(missing), getEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return nil, errno
		}
		if errno == 0 {
			submit -= int(n)
		}
		for *r.cqHead != atomic.LoadUint32(r.cqTail) {
			answer := r.answers[answerSize*(*r.cqHead&r.cqMask):]
			results[binary.NativeEndian.Uint64(answer)] = int32(binary.NativeEndian.Uint32(answer[8:]))
			atomic.AddUint32(r.cqHead, 1)
			missing--
		}
	}
	r.filled, r.used = 0, 0
	return results, nil
}
