package fs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The part of the protocol that is needed before and behind the handlers:
// struct fuse_in_header, fuse_out_header and fuse_interrupt_in of the kernel's
// include/uapi/linux/fuse.h.
const (
	inHeaderSize  = 40
	outHeaderSize = 16
	opForget      = 2
	opInterrupt   = 36
	opBatchForget = 42
)

// forgets reports whether a request says that the kernel has forgotten files.
func forgets(request []byte) bool {
	code := opcodeOf(request)
	return code == opForget || code == opBatchForget
}

func opcodeOf(request []byte) uint32 { return binary.NativeEndian.Uint32(request[4:]) }
func uniqueOf(request []byte) uint64 { return binary.NativeEndian.Uint64(request[8:]) }

// interruptedBy returns the request that an interrupt is about.
func interruptedBy(request []byte) uint64 { return binary.NativeEndian.Uint64(request[inHeaderSize:]) }

// interrupt makes the request by which the kernel would interrupt another.
func interrupt(unique uint64) []byte {
	b := make([]byte, inHeaderSize+8)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], opInterrupt)
	binary.NativeEndian.PutUint64(b[inHeaderSize:], unique)
	return b
}

// errorReply writes a reply that only says how a request failed, and returns
// its size.
func errorReply(b []byte, unique uint64, status fuse.Status) int {
	binary.NativeEndian.PutUint32(b, outHeaderSize)
	binary.NativeEndian.PutUint32(b[4:], uint32(-int32(status)))
	binary.NativeEndian.PutUint64(b[8:], unique)
	return outHeaderSize
}
