package fs

import (
	"encoding/binary"
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// The kernel keeps what it was told for a day, since every change goes through
// it. There is one thing that it cannot know: that a call to which it got an
// error has changed something all the same. Then it has to ask anew, and is
// told so here.
//
// The kernel takes the locks of what it forgets, which the failed call holds
// until it has its reply. So nobody waits for these: each is a goroutine, of
// which the server sees the end. Attributes alone are forgotten without locks.

// Codes of notifications: enum fuse_notify_code of the kernel's
// include/uapi/linux/fuse.h.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
)

// distrust makes the kernel forget an inode's attributes and pages.
func (s *server) distrust(node uint64) {
	b := notification(notifyInvalInode, 24)
	binary.NativeEndian.PutUint64(b[outHeaderSize:], node) // from offset 0 to the end
	s.notify(b)
}

// distrustRange makes the kernel forget an inode's attributes and a range of its
// pages, and returns when it has. It waits for the kernel to write them: the
// caller holds no lock.
func (s *server) distrustRange(node uint64, off, size int64) {
	b := notification(notifyInvalInode, 24)
	binary.NativeEndian.PutUint64(b[outHeaderSize:], node)
	binary.NativeEndian.PutUint64(b[outHeaderSize+8:], uint64(off))
	binary.NativeEndian.PutUint64(b[outHeaderSize+16:], uint64(size))
	s.give(b)
}

// distrustAttr makes the kernel forget an inode's attributes, and returns when
// it has. This takes no lock that a call holds, so a handler may wait for it.
func (s *server) distrustAttr(node uint64) {
	b := notification(notifyInvalInode, 24)
	binary.NativeEndian.PutUint64(b[outHeaderSize:], node)
	binary.NativeEndian.PutUint64(b[outHeaderSize+8:], math.MaxUint64) // offset -1: no pages
	s.give(b)
}

// distrustName makes the kernel forget what a name means, and the attributes of
// its directory.
func (s *server) distrustName(parent uint64, name string) {
	s.notify(nameNotification(parent, name))
}

// forgetName is distrustName that returns when the kernel has. The caller holds
// no lock.
func (s *server) forgetName(parent uint64, name string) {
	s.give(nameNotification(parent, name))
}

func nameNotification(parent uint64, name string) []byte {
	b := notification(notifyInvalEntry, 16+len(name)+1)
	binary.NativeEndian.PutUint64(b[outHeaderSize:], parent)
	binary.NativeEndian.PutUint32(b[outHeaderSize+8:], uint32(len(name)))
	copy(b[outHeaderSize+16:], name)
	return b
}

// notification makes an empty message of that many bytes behind the header.
func notification(code uint32, size int) []byte {
	b := make([]byte, outHeaderSize+size)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], code)
	return b
}

// notify sends a message that answers no request.
func (s *server) notify(message []byte) {
	s.notices.Go(func() { s.give(message) })
}

// give hands a message to the kernel and returns when it was heeded.
func (s *server) give(message []byte) {
	err := s.dev.write(message)
	// ENOENT and ENOTDIR: it knows nothing of it.
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !gone(err) {
		s.log.Error("the kernel does not forget what may be wrong: remount to be sure", "error", err)
	}
}
