// Package mirror is the sending side of standbyfs: it gives every op its place
// in one order, keeps the newest ones for the mirrors, counts their
// acknowledgements, and brings a mirror level that is behind.
//
//	log.go      order: an op, its position, its way into the ring
//	admit.go    when a change may begin; ack.go what its call waits for
//	ring.go     the ops that a peer may still need, encoded once
//	expand.go   ops that cross the border of what is mirrored
//	rules.go    which paths are mirrored, and how strictly
//	hot.go      what is recorded before a change, and what may be forgotten
//	insync.go   who is in sync, which calls may return
//	member.go   expulsion and join: durable first
//	fence.go    the end of a reign; lost.go when every mirror is compared anew
//	status.go   how things stand; config.go what a log is given
//
// One mirror:
//
//	peer.go     one goroutine per mirror: dial, stream, listen
//	meeting.go  whether either has gone back to an older state
//	hello.go    where its stream begins; control.go the messages beside it
//	repair.go   bringing it level, having it join, and again
//	resync.go   one resync, in the mirror's own op stream; pause.go holding it up
//	pending.go  what it still has to look at; progress.go how much that is
//	flight.go   how much work is on its way to it
//	surface.go  what is put and compared of an object; content.go a file's data
//	survey.go   many small objects at once
//	moves.go    renames that it has missed
//	links.go    files with several names; heirs.go ops by a name that is not pending
//
// All replicas:
//
//	verify.go   comparing all mirrors at exact positions; verifying.go what one says
//	item.go     who agrees about a difference; view.go what each has
//	mend.go     settling it; verdict.go who is wrong; restore.go what the primary lacks
//	pace.go     how much of the disks work in the background may take
package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sync/errgroup"
)

// Log orders the ops of one line and sends them to the mirrors. It implements
// the Committer of package fs.
//
// The plain version: take a lock, run the system call, number the op, append
// it to the ring, release the lock, wait for the acks. What makes it hard is
// that system calls take long and the lock would make the file system run them
// one at a time.
//
// So the order is taken in two steps. The caller holds the locks of the file
// system that order its op against every op it conflicts with; under these the
// system call runs, and only then, under the log's short lock, the op gets its
// LSN and its frame goes into the ring. Invariants:
//
//  1. Ops that conflict have LSNs in the order of their system calls, since
//     the caller's locks are held over both.
//  2. An op that failed has no LSN. An op that has one is in the ring, and what
//     is in the ring has taken effect here.
//  3. No lock is held while anybody waits for a mirror.
//
// The obvious design, numbering before the system call, lost: a failed call
// would leave a hole that every peer has to be told of.
type Log struct {
	cfg   Config
	rules *rules
	fence fence
	sync  *inSync
	look  region.Look
	start time.Time // the zero of the clock that waiting calls are timed by

	newest atomic.Uint64 // LSN of the newest op; set with mu held

	mu    sync.Mutex // guards ring, peers' cursors and pendings, news, room; never held over I/O
	ring  *ring
	peers []*peer
	news  chan struct{} // closed and renewed when the status changed
	room  chan struct{} // closed and renewed when a peer came nearer, or went away
	// losses counts what the disk has lost (Lost). Guarded by mu, as peers' are.
	losses uint64

	resyncPace, verifyPace pace

	memberMu sync.Mutex    // serialises decisions about the set; held over Register.Decide, taken before mu
	verifies chan struct{} // holds a token while a verify runs; put in before any lock is taken
	verify   *verify       // the one that runs; guarded by mu

	source Source // set by Run before any peer is started
}

// New makes the log of a line. Nothing is sent before Run.
func New(cfg Config) (*Log, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	// A mirror with nothing else to say must be heard of before it is expelled.
	cfg.Heartbeat = min(cfg.Heartbeat, cfg.AckTimeout/3)
	if cfg.Failed == nil {
		cfg.Failed = func(error) {}
	}
	rules, err := newRules(cfg.Sync, cfg.Rules)
	if err != nil {
		return nil, err
	}
	var shortage error
	if cfg.OnShortage == ShortageFail {
		shortage = fmt.Errorf("below min_in_sync %d, whether all mirrors have this op is unknown: %w", cfg.MinInSync, op.ErrShortage)
	}
	l := &Log{
		cfg:      cfg,
		rules:    rules,
		look:     Look(cfg.Tree, rules.mirrored),
		sync:     newInSync(cfg.Set, cfg.MinInSync, shortage),
		start:    time.Now(),
		ring:     newRing(cfg.RingBytes),
		news:     make(chan struct{}),
		verifies: make(chan struct{}, 1),
		room:     make(chan struct{}),

		resyncPace: newPace(cfg.ResyncRate), verifyPace: newPace(cfg.VerifyRate),
	}
	if cfg.Regions != nil {
		// What was hot before counts as changed by the first op of this line: it is
		// kept while a member of the old set has neither come back nor been
		// expelled (RULES.md 4).
		cfg.Regions.Restart(1)
	}
	for i, p := range cfg.Peers {
		l.peers = append(l.peers, newPeer(l, i, p))
	}
	return l, nil
}

// Run keeps the sessions with all peers until ctx ends or the log is fenced
// for good, and then waits for every goroutine it started. Source must stay
// usable until Run has returned.
func (l *Log) Run(ctx context.Context, src Source) error {
	l.source = src
	tasks, ctx := errgroup.WithContext(ctx)
	for _, p := range l.peers {
		tasks.Go(func() error { p.run(ctx); return nil })
	}
	tasks.Go(func() error { l.watch(ctx); return nil })
	if l.cfg.Regions != nil {
		tasks.Go(func() error {
			l.cfg.Regions.Checkpoints(ctx, l.cfg.CheckpointEvery, l.checkpoint(ctx), l.kept)
			return nil
		})
	}
	err := tasks.Wait()
	l.sync.fail(errStopped)
	return err
}

// errStopped answers calls that still wait when the log has stopped.
var errStopped = errors.New("mirroring has stopped: whether the mirrors have this op is unknown")

// Mirrored reports whether changes of path travel to mirrors.
func (l *Log) Mirrored(path string) bool { return l.rules.mirrored(path) }

// Commit runs apply and gives o its position. The caller has been admitted and
// holds the locks that order o against every op it conflicts with. Commit does
// not wait for anybody.
func (l *Log) Commit(_ context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	if err := l.fence.check(); err != nil {
		return nil, err
	}
	crossing := l.border(o) // not nil: it may mean something else to the mirrors
	// What has to be looked up in the tree as it is before the change.
	heirs, err := l.heirs(o)
	if err != nil {
		return nil, err
	}
	// Durable before the change, however that ends.
	hot, err := l.heat(o)
	if err != nil {
		return nil, err
	}
	if err := apply(); err != nil {
		hot.Leave(0)
		return nil, err
	}
	l.inherit(heirs)
	var ack op.Ack
	if crossing == nil {
		ack, err = l.order(o, toAll)
	} else {
		ack, err = crossing.order(o)
	}
	// Ops of others may be as new. That keeps what is hot for longer, never for less.
	hot.Leave(op.LSN(l.newest.Load()))
	l.remember(o)
	return ack, err
}

// order encodes o and gives it its place. The op has taken effect already, so
// there is no way back: if it cannot be encoded every mirror has to be
// compared anew. A large write becomes several ops, whose caller waits for the
// last.
func (l *Log) order(o *op.Op, to uint32) (op.Ack, error) {
	for o.Kind == op.Write && len(o.Data) > largestWrite {
		first, rest := *o, *o
		first.Data, first.Flags, first.Attr = o.Data[:largestWrite], 0, op.Attr{}
		rest.Data, rest.Off = o.Data[largestWrite:], o.Off+largestWrite
		if _, err := l.order(&first, to); err != nil {
			return nil, err
		}
		o = &rest
		runtime.Gosched() // to the senders
	}
	// A large frame becomes the ring's own, a small one is copied into it.
	var frame []byte
	if len(o.Data) >= wire.LargeData {
		l.mu.Lock()
		frame = l.ring.memory(wire.FrameSize(o))
		l.mu.Unlock()
	} else {
		buf := framePool.Get().(*[]byte)
		frame = (*buf)[:0]
		defer func() {
			if len(frame) < wire.LargeData {
				*buf = frame
				framePool.Put(buf)
			}
		}()
	}
	frame, err := wire.AppendOp(frame, l.cfg.Line.Epoch.Number, o)
	if err != nil {
		l.disown(fmt.Sprintf("%v: %v", o, err))
		return nil, fmt.Errorf("encode %v: %w", o, err)
	}
	l.mu.Lock()
	lsn := l.put(frame, o, to)
	l.mu.Unlock()
	l.wake(to)
	return l.ack(o, lsn), nil
}

// encode returns o's frame in memory of its own.
func (l *Log) encode(o *op.Op) ([]byte, error) {
	return wire.AppendOp(nil, l.cfg.Line.Epoch.Number, o)
}

// framePool keeps the buffers that frames are encoded in before they are
// copied into the ring.
var framePool = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// put is the one place where an LSN is given. The caller holds mu.
func (l *Log) put(frame []byte, o *op.Op, to uint32) op.LSN {
	lsn := l.ring.append(frame, to)
	l.newest.Store(uint64(lsn))
	for _, p := range l.peers {
		if p.pending != nil && !o.Kind.Repair() {
			p.pending.follow(o)
		}
		if to != toAll && to&p.bit != 0 { // of a resync or a verify
			p.flight.add(l.ring.offset, work(o, frame))
		}
		if to&p.bit == 0 && p.cursor == lsn {
			p.cursor++ // it has all before, and this is not for it: no need to wake it
		}
	}
	if to == toAll {
		l.sync.ordered(lsn)
	}
	return lsn
}

// largestWrite is how much data a write has in the stream, in bytes. A larger
// one becomes several in a row, whose caller waits for the last: while one is
// made, the one before is encrypted, sent and applied, all while it is in the
// processors' caches. A write is not atomic on the disk below either.
const largestWrite = 128 << 10

// now is the time since the log was made, in nanoseconds, by the monotonic clock.
func (l *Log) now() int64 { return int64(time.Since(l.start)) }

// wake tells the senders of the addressed peers that the ring grew.
func (l *Log) wake(to uint32) {
	for _, p := range l.peers {
		if to&p.bit != 0 {
			p.nudge()
		}
	}
}

// Drain returns once everything that was ordered before is applied on every
// in-sync mirror, and every barrier of it is durable there.
func (l *Log) Drain(ctx context.Context) error {
	o := &op.Op{Kind: op.Fsync, Path: op.Root, Flags: op.Barrier}
	a, err := l.order(o, toAll)
	if err != nil {
		return err
	}
	return a.Wait(ctx)
}
