package receive

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// The way of a frame through a mirror. The functions of this file stand in the
// same order.
//
//  1. run reads frames from the log stream and hands them on (sequential).
//  2. entry checks that a frame is the next one of this line (sequential).
//  3. apply changes the replica, exactly in the order of the stream; this is
//     where an op takes effect. change makes it, check and compare report what
//     differs, membership records (member.go), and before it save keeps what
//     may be the only copy (divergence.go) (sequential).
//  4. sync makes a barrier durable (syncs.go; parallel, up to maxSyncs). The
//     file is opened in stage 3, in order, so that it is the right one whatever
//     is renamed meanwhile; the fsync itself holds up nobody.
//  5. acks tells the primary how far 3 and 4 have come (acks.go). It is sent
//     whenever 1 goes back to the stream for more, when all that was read is
//     applied, and when syncs have moved the durable position. So acks are as
//     many as there are pauses in the input, without a timer. That an Fsync is
//     applied is told when it is durable: nobody waits for less.
//
// Stages 1 to 3 are one goroutine: session's, which ends run by closing the
// connection (what was received is still applied) or by halt (nothing more is).
// run waits for stage 4 before it returns, so nothing of it outlives the
// session.

// applier is the pipeline of one session. Its goroutine is the session's; only
// the methods halt, prepare, progress and level are for others.
type applier struct {
	store   *state.Store
	regions *region.Store
	look    region.Look
	tree    *tree.Tree
	self    op.NodeID
	sender  op.NodeID // the primary
	primary string    // name, for reasons
	archive *archive  // nil unless what is overwritten here may be the only copy
	log     *slog.Logger
	conn    net.Conn

	// What the Receiver wants to know. The first three are called with step held
	// and must not wait for the applier.
	joined   func() // recorded: this node is in sync
	whole    func() // recorded: the replica is consistent
	expelled func(reason string)
	changed  func()

	newSyncer func(after func()) Syncer // Config.NewSyncer
	acks      *acks
	syncs     syncs
	stop      atomic.Pointer[stopReason] // once set, nothing more is applied
	entryOp   op.Op                      // reused by stage 2
	resumable bool                       // set by run at its end
	mixed     bool                       // State.Mixed; owned by stage 3
	async     bool                       // this mirror follows and never joins
	frames    *wire.Reader               // made by run

	// step is held while one entry is applied: whoever takes it sees the
	// replica between two entries. It is taken before mu.
	step sync.Mutex
	mu   sync.Mutex // guards at, which changes only with step held
	at   progress
}

type stopReason struct{ err error }

func newApplier(s *session, at progress, resumed bool) *applier {
	a := &applier{
		store: s.r.cfg.Store, regions: s.r.cfg.Store.Regions(), tree: s.r.cfg.Tree, look: mirror.Look(s.r.cfg.Tree, nil), self: s.r.cfg.Store.Get().Node,
		sender:  s.hello.Node,
		conn:    hearing{s.wire.Log(), s.heard},
		primary: s.hello.Name, log: s.r.cfg.Logger,
		at: at, newSyncer: s.r.cfg.NewSyncer,
	}
	a.joined, a.whole, a.expelled, a.changed = s.r.joined, s.r.cfg.Consistent, s.r.degraded, s.r.cfg.Changed
	st := s.r.cfg.Store.Get()
	a.mixed = st.Mixed
	a.async = slices.ContainsFunc(st.Policy.Members, func(m wire.Member) bool { return m.Node == a.self && m.Mode == wire.ModeAsync })
	a.acks = newAcks(a.conn, at, resumed)
	a.syncs.room = make(chan struct{}, maxSyncs)
	return a
}

// progress returns how far the applier is.
func (a *applier) progress() progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// advance changes at. The caller holds step.
func (a *applier) advance(change func(*progress)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.at)
}

// run is stage 1. It returns with the reason why the stream ended, after all
// syncs.
func (a *applier) run() error {
	a.syncs.syncer = a.newSyncer(a.acks.flushSynced)
	defer a.syncs.syncer.Close()
	a.frames = wire.NewReader(ackingReader{a})
	var err error
	for err == nil {
		var h wire.Header
		var payload []byte
		if h, payload, err = a.frames.Next(); err == nil {
			err = a.entry(h, payload)
		} else if errors.Is(err, io.EOF) {
			err = errors.New("the log stream ended without a goodbye")
		} else {
			err = fmt.Errorf("read the log stream: %w", err)
		}
	}
	// A failed sync counts more than what it made the stream end with.
	if failed := a.syncs.wait(); failed != nil {
		err = failed
	}
	if stop := a.stop.Load(); stop != nil && !isLeave(err) {
		err = stop.err
	}
	a.acks.flush()
	a.resumable = !isLeave(err)
	return err
}

// halt ends run after the entry that is being applied.
func (a *applier) halt(err error) {
	a.stop.CompareAndSwap(nil, &stopReason{err})
	// Wakes a Read, and a Write of an ack that nobody takes. It fails only on a
	// stream that is closed, which does the same.
	_ = a.conn.SetDeadline(time.Unix(1, 0))
}

// ackingReader is the log stream; before it waits for more of it, all that was
// read has been applied.
type ackingReader struct{ a *applier }

// Read sends what there is to acknowledge and reads from the stream.
func (r ackingReader) Read(p []byte) (int, error) {
	r.a.acks.flush()
	return r.a.conn.Read(p)
}

// entry is stage 2.
func (a *applier) entry(h wire.Header, payload []byte) error {
	kind, err := a.take(h, payload)
	if err == nil && (kind == op.Join || kind == op.Expel) {
		a.changed() // not under step
	}
	return err
}

func (a *applier) take(h wire.Header, payload []byte) (op.Kind, error) {
	a.step.Lock()
	defer a.step.Unlock()
	if stop := a.stop.Load(); stop != nil {
		return op.Invalid, stop.err
	}
	// What lies beyond the session's epoch or goes back in its line is never
	// applied: the order would not be the primary's.
	if h.Epoch != a.at.line.Epoch.Number {
		return op.Invalid, protocolError("a frame of epoch %d in a session of epoch %d", h.Epoch, a.at.line.Epoch.Number)
	}
	if h.Kind == wire.KindCommit {
		return op.Invalid, a.commit(payload)
	}
	if h.LSN <= a.at.applied {
		return op.Invalid, protocolError("LSN %d follows LSN %d", h.LSN, a.at.applied)
	}
	o := &a.entryOp
	*o = op.Op{}
	if err := wire.DecodeOp(h, payload, o); err != nil {
		return op.Invalid, protocolError("LSN %d: %v", h.LSN, err)
	}
	if err := a.save(o); err != nil {
		return o.Kind, err
	}
	// RULES.md 1, HotMirror: for streamed ops and for puts.
	hot, err := a.regions.Begin(o, a.look)
	if err != nil {
		return o.Kind, leaving(err)
	}
	err = a.apply(h.LSN, o)
	hot.Leave(h.LSN) // whatever a failed op has done, it may have done something
	if err != nil {
		return o.Kind, err
	}
	a.advance(func(at *progress) { at.applied, at.offset = h.LSN, h.Offset })
	a.acks.applied(h.LSN, h.Offset, o.Kind != op.Fsync)
	return o.Kind, nil
}

func (a *applier) commit(payload []byte) error {
	lsn, err := wire.DecodeCommit(payload)
	if err != nil {
		return protocolError("commit position: %v", err)
	}
	a.advance(func(at *progress) { at.commit = max(at.commit, lsn) })
	return nil
}

// apply is stage 3. An error ends the session: in strict mode every failure,
// in a resync only one that is the disk's fault.
func (a *applier) apply(lsn op.LSN, o *op.Op) error {
	var err error
	switch {
	case o.Kind == op.Expel || o.Kind == op.Join:
		return a.membership(lsn, o)
	case o.Kind == op.Survey:
		err = a.survey(lsn, o)
	case o.Flags&op.Compare != 0:
		err = a.compare(lsn, o)
	case o.Kind == op.Check:
		err = a.check(lsn, o)
	case o.Kind == op.Hint && a.archive != nil: // what only this node may have stays where it is
	case o.Kind == op.Fsync && o.Attr.Valid == 0: // changes nothing
	default:
		err = a.change(lsn, o)
	}
	if o.Kind.Repair() && o.Flags&op.Compare == 0 {
		a.advance(func(at *progress) { at.repair = lsn })
	}
	if err == nil {
		err = a.saved(o)
	}
	if err == nil && o.Flags&op.Barrier != 0 {
		err = a.sync(lsn, o)
	}
	switch {
	case err == nil, isLeave(err):
		return err
	case a.at.strict || tree.DiskFault(err):
		return applyError(o, err)
	default:
		suspect := wire.Report{LSN: lsn, Kind: wire.ReportSuspect, Path: []byte(o.Path), What: err.Error()}
		if o.Kind.TwoPaths() {
			suspect.Path2 = []byte(o.Path2)
		}
		a.advance(func(at *progress) { at.suspect = lsn })
		return a.acks.report(suspect)
	}
}

// change makes the change.
func (a *applier) change(lsn op.LSN, o *op.Op) error {
	if !a.at.strict {
		if err := a.mix(); err != nil {
			return err
		}
	}
	switch {
	case o.Kind == op.Put && o.Flags&op.Partial != 0:
		return a.put(lsn, o)
	case a.at.strict:
		return a.tree.Apply(o)
	}
	return a.tree.ApplyLenient(o)
}

// put makes an object equal of which the primary looks at parts only. It has to
// know if there is nothing of the others.
func (a *applier) put(lsn op.LSN, o *op.Op) error {
	anew, err := a.tree.Put(o)
	if err != nil || !anew {
		return err
	}
	return a.acks.report(wire.Report{LSN: lsn, Kind: wire.ReportNew, Path: []byte(o.Path)})
}

// mix records, durably before the first change of a resync, that the replica is
// of no single moment from here on.
func (a *applier) mix() error {
	if a.mixed {
		return nil
	}
	if err := a.store.Update(func(st *state.State) error { st.Mixed = true; return nil }); err != nil {
		return unrecorded(err)
	}
	a.mixed = true
	return nil
}

// survey compares many small objects at once, for a resync or a verify, which
// then looks at each that differs. In a verify that is also how to find out which
// of them cannot be compared.
func (a *applier) survey(lsn op.LSN, o *op.Op) error {
	names, err := a.tree.CheckSurvey(o)
	if err != nil && o.Flags&op.Compare != 0 && !tree.DiskFault(err) {
		names, err = o.Names, nil
	}
	if err != nil || len(names) == 0 {
		return err
	}
	r := wire.Report{LSN: lsn, Kind: wire.ReportNames, Path: []byte(o.Path)}
	for _, name := range names {
		r.Names = append(r.Names, []byte(name))
	}
	return a.acks.report(r)
}

// check compares what the op describes with what is here, for a resync. Putting
// it right is the primary's to send.
func (a *applier) check(lsn op.LSN, o *op.Op) error {
	regions, err := a.tree.Check(o)
	if err == nil {
		a.compared(o, regions)
	}
	if err != nil || len(regions) == 0 {
		return err
	}
	return a.acks.report(wire.Report{LSN: lsn, Kind: wire.ReportDiffer, Path: []byte(o.Path), Regions: regions})
}

// compare does the same for a verify, which wants to be told in words. It takes
// nobody out of the set unless the disk fails it.
func (a *applier) compare(lsn op.LSN, o *op.Op) error {
	if o.Path == op.Root {
		a.tree.Forget(op.Root) // who moves things behind its back must not fool it
	}
	differences, err := a.tree.Compare(o)
	switch {
	case err != nil && tree.DiskFault(err):
		return err
	case err != nil:
		differences = append(differences, tree.Difference{What: "cannot be compared: " + err.Error(), Path: o.Path})
	}
	for _, d := range differences {
		err := a.acks.report(wire.Report{LSN: lsn, Kind: wire.ReportDifference, Path: []byte(o.Path), Path2: []byte(d.Path), Regions: d.Regions, What: d.What})
		if err != nil {
			return err
		}
	}
	return nil
}
