package fs

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
)

// held are the replies that mirrors have yet to allow. A handler that has made
// its change returns at once, with the reply filled in; the reply waits here,
// and no goroutine does. The kernel's caller waits for the reply, so that for
// it nothing is different.
//
//  1. The handler ends with FS.after, which enters the request and asks each
//     ack to call back. The acks may do so before 2.
//  2. The worker brings the reply (keep).
//  3. The last ack sends it, or the error that took its place.
type held struct {
	send     func(reply []byte)
	distrust func(node uint64) // makes the kernel ask anew

	count atomic.Int64 // of waiting, so that nobody needs mu where nothing is held
	mu    sync.Mutex   // guards waiting and all that is in it
	// waiting holds every request from 1 until its reply is on its way.
	waiting map[uint64]*heldReply
}

// heldReply is one reply and what it waits for.
type heldReply struct {
	node  uint64 // the inode that the request is about
	acks  int    // not heard from yet
	err   error
	reply []byte // nil before keep
	undo  func() // what the handler has prepared for a caller who will not hear of it; may be nil
}

func newHeld(send func([]byte), distrust func(uint64)) *held {
	return &held{send: send, distrust: distrust, waiting: make(map[uint64]*heldReply)}
}

// enter is step 1.
func (h *held) enter(request, node uint64, acks []op.Ack, undo func()) {
	h.count.Add(1)
	h.mu.Lock()
	h.waiting[request] = &heldReply{node: node, acks: len(acks), undo: undo}
	h.mu.Unlock()
	for _, ack := range acks {
		ack.Then(func(err error) { h.acked(request, err) })
	}
}

// keep is step 2. It reports false if nothing holds the reply back: the caller
// sends it.
func (h *held) keep(request uint64, reply []byte) bool {
	if h.count.Load() == 0 {
		return false
	}
	h.mu.Lock()
	r := h.waiting[request]
	switch {
	case r == nil:
		h.mu.Unlock()
		return false
	case r.acks > 0:
		r.reply = append([]byte(nil), reply...)
		h.mu.Unlock()
		return true
	}
	h.release(request)
	h.mu.Unlock()
	if r.err == nil {
		return false
	}
	h.fail(request, r)
	return true
}

// acked is step 3. It does not block.
func (h *held) acked(request uint64, err error) {
	h.mu.Lock()
	r := h.waiting[request]
	r.acks--
	if r.err == nil {
		r.err = err
	}
	if r.acks > 0 || r.reply == nil {
		h.mu.Unlock()
		return
	}
	h.release(request)
	h.mu.Unlock()
	if r.err != nil {
		h.fail(request, r)
		return
	}
	h.send(r.reply)
}

// release forgets a request. The caller holds mu.
func (h *held) release(request uint64) {
	delete(h.waiting, request)
	h.count.Add(-1)
}

// fail tells the caller of a change that has happened here that its fate is
// unknown.
func (h *held) fail(request uint64, r *heldReply) {
	if r.undo != nil {
		r.undo()
	}
	reply := make([]byte, outHeaderSize)
	errorReply(reply, request, status(r.err))
	h.send(reply)
	h.distrust(r.node)
}

// has reports whether the reply to a request is held back.
func (h *held) has(request uint64) bool {
	if h.count.Load() == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting[request] != nil
}

// after ends a handler: its reply, or failed if that is not nil, goes out once
// all of its changes may be acknowledged. The caller holds no lock and returns
// the status as its own. An interrupt ends no wait: the changes have happened
// and must not look as if they had not. If the mirrors' answer is an error, the
// caller gets that one, and undo is called first, if there is one.
func (f *FS) after(in *fuse.InHeader, failed error, undo func(), acks ...op.Ack) fuse.Status {
	acks = slices.DeleteFunc(acks, func(a op.Ack) bool { return a == op.Done })
	if len(acks) > 0 {
		f.held.enter(in.Unique, in.NodeId, acks, undo)
	}
	return status(failed)
}
