package mirror

import (
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// Small frames share chunks, each twice as large as the one before while they
// follow each other. A large frame is a chunk of its own, and the next one for
// small frames is the smallest: few may come before the next large frame.
const (
	smallestChunk = 16 << 10
	largestChunk  = 1 << 20
)

// toAll addresses an entry to every peer.
const toAll = ^uint32(0)

// ring holds the newest entries of a line, encoded once for all peers. It is a
// list of chunks; a full ring drops its oldest chunk whole. A chunk's bytes do
// not change while anybody sends from them, though the ring moves on: read pins
// the chunk, and only the memory of one that is dropped without a pin is used
// again. All other memory is the garbage collector's. (A circular buffer was the
// first design. It lets a slow peer hold up everybody, or send bytes of two
// entries.)
//
// Memory that is used again is there: a page that is touched for the first time
// takes the kernel longer than the bytes on it take to encrypt.
//
// LSNs in a ring are consecutive. The ring has no lock: the log's guards it.
type ring struct {
	chunks []*chunk
	bytes  int64
	limit  int64
	size   int      // of the next chunk for small frames, in bytes
	next   op.LSN   // of the next entry
	offset uint64   // bytes of all entries of this line
	spare  [][]byte // of dropped chunks, for large frames; at most spares
}

// spares is how much memory of dropped chunks is kept. Each large frame takes
// one and drops about one.
const spares = 8

type chunk struct {
	first   op.LSN
	pins    int // runs of it that are being sent
	buf     []byte
	entries []entry
}

type entry struct {
	end int    // of the frame in buf
	to  uint32 // one bit a peer
}

func newRing(limit int64) *ring { return &ring{limit: limit, next: 1, size: smallestChunk} }

// append gives frame the next LSN and keeps it: a large one itself, of a small
// one a copy.
func (r *ring) append(frame []byte, to uint32) op.LSN {
	lsn := r.next
	r.next++
	r.offset += uint64(len(frame))
	wire.Seal(frame, lsn, r.offset)
	if len(frame) >= wire.LargeData {
		r.add(&chunk{first: lsn, buf: frame, entries: []entry{{len(frame), to}}})
		r.size = smallestChunk
		return lsn
	}
	c := r.tail(len(frame))
	if c == nil {
		c = &chunk{first: lsn, buf: make([]byte, 0, max(r.size, len(frame)))}
		r.size = min(2*r.size, largestChunk)
		r.add(c)
	}
	c.buf = append(c.buf, frame...)
	c.entries = append(c.entries, entry{len(c.buf), to})
	return lsn
}

// add makes c the newest chunk, and room for it.
func (r *ring) add(c *chunk) {
	r.chunks = append(r.chunks, c)
	r.bytes += int64(cap(c.buf))
	for r.bytes > r.limit && len(r.chunks) > 1 {
		old := r.chunks[0]
		r.bytes -= int64(cap(old.buf))
		r.chunks = slices.Delete(r.chunks, 0, 1)
		if old.pins == 0 && cap(old.buf) >= wire.LargeData && len(r.spare) < spares {
			r.spare = append(r.spare, old.buf[:0])
		}
	}
}

// memory returns memory for a large frame of n bytes, or nil. It is not much
// larger than that, since it counts whole.
func (r *ring) memory(n int) []byte {
	for i, b := range r.spare {
		if cap(b) >= n && cap(b) <= n+n/4 {
			r.spare = slices.Delete(r.spare, i, i+1)
			return b
		}
	}
	if len(r.spare) == spares {
		r.spare = slices.Delete(r.spare, 0, 1) // frames have another size now
	}
	return nil
}

// tail returns the newest chunk if n more bytes fit without moving it.
func (r *ring) tail(n int) *chunk {
	if len(r.chunks) == 0 {
		return nil
	}
	if c := r.chunks[len(r.chunks)-1]; cap(c.buf)-len(c.buf) >= n {
		return c
	}
	return nil
}

// oldest returns the LSN of the oldest entry held, or next.
func (r *ring) oldest() op.LSN {
	if len(r.chunks) == 0 {
		return r.next
	}
	return r.chunks[0].first
}

// read returns a run of frames addressed to the peer with the given bit, from
// LSN from on and about limit bytes long, and the LSN behind it. Entries for
// others are passed over; an empty run means that there is nothing to send up
// to the returned LSN. It reports false if from has fallen off the ring. The
// run's chunk is pinned until unpin is called under the ring's lock; a run that
// may still be read when its sender has failed stays pinned.
func (r *ring) read(from op.LSN, bit uint32, limit int) (sent run, next op.LSN, ok bool) {
	if from < r.oldest() || from > r.next {
		return run{}, from, false
	}
	i, _ := slices.BinarySearchFunc(r.chunks, from+1, func(c *chunk, lsn op.LSN) int {
		if c.first < lsn {
			return -1
		}
		return 1
	})
	for _, c := range r.chunks[max(i-1, 0):] {
		for k := int(from - c.first); k < len(c.entries); k++ {
			begin := 0
			if k > 0 {
				begin = c.entries[k-1].end
			}
			if c.entries[k].to&bit == 0 {
				from++
				continue
			}
			end := begin
			for k < len(c.entries) && c.entries[k].to&bit != 0 && (end == begin || end-begin < limit) {
				end = c.entries[k].end
				from++
				k++
			}
			c.pins++
			return run{c.buf[begin:end:end], c}, from, true
		}
	}
	return run{}, from, true
}

// run is what read has found.
type run struct {
	frames []byte
	of     *chunk // nil if there is nothing to send
}

// unpin says that nobody reads the run any more. The log's lock is held.
func (r run) unpin() {
	if r.of != nil {
		r.of.pins--
	}
}

// drop forgets all entries: every cursor has fallen off. LSNs go on.
func (r *ring) drop() {
	r.chunks, r.bytes = nil, 0
	r.next++ // so that the newest cursor has fallen off too
}
