package receive

import (
	"io"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// acks is what the mirror has to tell the primary on the log stream: reports
// and cumulative acknowledgements. The applier and running syncs report in;
// whoever calls flush does the writing.
//
// A failed write is remembered and no more: the stream's reader learns of the
// broken connection too, and what was received is applied all the same.
type acks struct {
	mu      sync.Mutex // guards all below and serialises writes
	w       io.Writer
	epoch   uint64
	last    op.LSN // applied
	offset  uint64
	running []barrier // in the order of their LSNs; the first one is not done
	pending []byte    // frames of reports that go out before the next ack
	due     bool      // there is something the primary has not been told
	told    op.LSN    // the durable position that the primary was told last
	buf     []byte
	err     error
}

// barrier is an op whose sync runs, or is done while an earlier one runs.
type barrier struct {
	lsn  op.LSN
	done bool
}

// newAcks starts at a position. A resumed session begins with an ack: the last
// one of the session before may have been lost.
func newAcks(w io.Writer, at progress, resumed bool) *acks {
	return &acks{w: w, epoch: at.line.Epoch.Number, last: at.applied, offset: at.offset, due: resumed}
}

// applied tells that all up to lsn is applied. A barrier at lsn has begun. An
// ack is due unless nobody waits for this op before it is durable, which it may
// be already.
func (k *acks) applied(lsn op.LSN, offset uint64, awaited bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last, k.offset = lsn, offset
	k.due = k.due || awaited || k.durableLocked() == lsn
}

// report queues a report. It goes out before the ack that covers it.
func (k *acks) report(r wire.Report) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	pending, err := wire.AppendMessage(k.pending, wire.KindReport, r)
	if err != nil {
		return err
	}
	k.pending, k.due = pending, true
	return nil
}

// begin tells that the sync of the barrier at lsn runs.
func (k *acks) begin(lsn op.LSN) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = append(k.running, barrier{lsn: lsn})
}

// synced tells that the barrier at lsn is on stable storage.
func (k *acks) synced(lsn op.LSN) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.running {
		if k.running[i].lsn == lsn {
			k.running[i].done = true
		}
	}
	n := 0
	for n < len(k.running) && k.running[n].done {
		n++
	}
	if n > 0 {
		k.running = append(k.running[:0], k.running[n:]...)
		k.due = true
	}
}

// flushSynced is flush for syncs, which have nothing to say unless they have
// moved the durable position: the applier goes on, and will flush.
func (k *acks) flushSynced() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.durableLocked() > k.told {
		k.flushLocked()
	}
}

// durable returns the highest LSN up to which every barrier is on stable
// storage.
func (k *acks) durable() op.LSN {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.durableLocked()
}

func (k *acks) durableLocked() op.LSN {
	if len(k.running) > 0 {
		return min(k.last, k.running[0].lsn-1)
	}
	return k.last
}

// flush sends what is due.
func (k *acks) flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flushLocked()
}

func (k *acks) flushLocked() {
	if !k.due || k.err != nil {
		return
	}
	k.buf = append(k.buf[:0], k.pending...)
	k.told = k.durableLocked()
	k.buf = wire.AppendAck(k.buf, k.epoch, wire.Ack{Applied: k.last, Durable: k.told, Offset: k.offset})
	k.pending, k.due = k.pending[:0], false
	_, k.err = k.w.Write(k.buf)
}
