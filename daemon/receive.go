package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// ReceiverConfig is what a Receiver works with.
type ReceiverConfig struct {
	Store     *Store
	Tree      *tree.Tree
	Heartbeat time.Duration // between two signs of life; three without any end a session
	Logger    *slog.Logger
	Software  string // name and version, for the messages of both sides
	// Keep is called before a resync may change the replica. Its error puts the
	// resync off. Consistent is called once it is recorded that the replica is
	// consistent again; it must not wait for a session.
	Keep       func(context.Context) error
	Consistent func()
	// Full is called when a session has ended because the disk is full. It must
	// not wait for a session.
	Full func()
	// DivergenceLimit bounds what is kept of divergences, in bytes; 0 is
	// divergence.DefaultLimit.
	DivergenceLimit int64
	// Changed is called, without locks held, whenever Status may have changed.
	Changed func()
	// Degraded is called when the node has recorded that it is no longer in
	// sync. It must not wait for the session to end.
	Degraded func(reason string)
}

// MirrorStatus is what a mirror knows of its own standing.
type MirrorStatus struct {
	InSync      bool
	Reason      string // why not in sync
	Connected   bool
	Resyncing   bool
	Primary     string // name as last heard
	PrimaryNode op.NodeID
	Position    op.Position // of the last op applied; zero before the first session of this process
	Durable     op.LSN      // every barrier up to here is on stable storage
	Commit      op.LSN      // commit position as last heard in the stream
	LastHeard   time.Time
	Strict      bool // a failing op ends the session instead of being reported
}

// Receiver is a node as a mirror: it takes the primary's sessions, one at a
// time, and keeps between them what the next one may resume from.
//
// Order of durable writes (RULES.md 5, 7, 10): at Begin, before the first put,
// epoch and 'not in sync' (session.begin); each expulsion and join before the
// ack that covers it (applier.membership); 'not in sync' before a Goodbye
// (Receiver.leave).
type Receiver struct {
	cfg       ReceiverConfig
	newSyncer func(after func()) syncer // a test's own, to hold syncs up or fail them; else nil
	// syncArchive makes durable what is kept of a divergence; a test's own, or nil.
	syncArchive func(f *os.File) error
	archive     *archive // of the last session that had one; owned by the current session
	cannot      string   // why the last archive failed; owned by the current session

	fencing sync.Mutex // one Fence at a time; taken before mu

	mu      sync.Mutex    // guards all below; no I/O but a look at the replica under it
	current *session      // being greeted, running or ending
	level   *progress     // what the last session left to resume from; nil: nothing
	floor   op.Epoch      // while Fence works: no lower epoch is greeted
	closed  *wire.Refusal // once Stop or Detach was called: the answer to every hello
	// settled: this process has joined, or resumed as a member, and has not begun a
	// resync since. Only then hot regions may be forgotten (RULES.md 4,
	// KeepOutOfSync).
	settled bool
	// unrecorded is the reason for being out of sync that could not be made
	// durable. It stands until the next Begin or Join is recorded.
	unrecorded string
}

// NewReceiver returns a Receiver without a session.
func NewReceiver(cfg ReceiverConfig) *Receiver {
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Keep == nil {
		cfg.Keep = func(context.Context) error { return nil }
	}
	if cfg.Consistent == nil {
		cfg.Consistent = func() {}
	}
	if cfg.Full == nil {
		cfg.Full = func() {}
	}
	if cfg.Degraded == nil {
		cfg.Degraded = func(string) {}
	}
	r := &Receiver{cfg: cfg}
	if st := cfg.Store.Get(); st.Role == Mirror {
		r.level = st.Stopped.resumed()
	}
	return r
}

// RefusedError says that a session was refused, and what the peer had said.
type RefusedError struct {
	Hello   wire.Hello
	Refusal *wire.Refusal
}

func (e *RefusedError) Error() string { return "refused a session: " + e.Refusal.Message }

// Unwrap returns the refusal.
func (e *RefusedError) Unwrap() error { return e.Refusal }

var (
	errReplaced = errors.New("the primary has opened a newer session")
	errDetached = errors.New("a promotion takes this node")
	errFenced   = errors.New("another node fences this one")
)

// Serve runs one session of the ops lane from hello to its end, and closes it.
// It returns nil after the primary's goodbye, a RefusedError if the session was
// refused, and otherwise what ended it. When it returns nothing of the session
// runs any more.
func (r *Receiver) Serve(ctx context.Context, ws *wire.Session) error {
	g, ctx := errgroup.WithContext(ctx)
	s := newSession(r, ws, g)
	g.Go(func() error {
		<-ctx.Done()
		ws.Close()
		return nil
	})
	g.Go(func() error { return s.run(ctx) })
	err := g.Wait()
	r.release(s)
	if errors.Is(err, errGoodbye) {
		return nil
	}
	return err
}

// admit makes s the current session, or returns why not. A session that s
// replaces is closed and waited for: two never apply to one replica, and what
// the old one received counts for what s can resume from.
func (r *Receiver) admit(ctx context.Context, s *session) (*progress, *wire.Refusal) {
	for {
		r.mu.Lock()
		refusal := r.refuse(&s.hello)
		old := r.current
		if refusal == nil && old == nil {
			r.current = s
			level := r.level
			r.mu.Unlock()
			return level, nil
		}
		r.mu.Unlock()
		if refusal != nil {
			return nil, refusal
		}
		old.end(errReplaced)
		select {
		case <-old.done:
		case <-ctx.Done():
			return nil, &wire.Refusal{Code: wire.CodeBusy, Message: fmt.Sprintf("mirror %s still finishes its last session with %s (a running fsync): try again", r.name(), old.hello.Name)}
		}
	}
}

// release forgets an ended session and keeps what the next one may resume from.
func (r *Receiver) release(s *session) {
	r.mu.Lock()
	if r.current == s {
		r.current = nil
		if s.applier != nil {
			r.level = s.applier.level()
		}
	}
	r.mu.Unlock()
	close(s.done)
	if s.applier != nil {
		s.noteHeard()
		r.cfg.Changed()
	}
}

// Status returns the mirror's standing now.
func (r *Receiver) Status() MirrorStatus {
	state := r.cfg.Store.Get()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := MirrorStatus{
		InSync:      state.InSync && r.unrecorded == "",
		Reason:      state.Reason,
		Primary:     state.PrimaryName,
		PrimaryNode: state.Epoch.Owner,
		LastHeard:   state.PrimaryHeard,
	}
	if r.unrecorded != "" {
		st.Reason = r.unrecorded
	}
	if r.level != nil {
		st.Position = op.Position{Line: r.level.line, LSN: r.level.applied}
		st.Durable, st.Commit, st.Strict = r.level.applied, r.level.commit, r.level.strict
	}
	if s := r.current; s != nil && s.applier != nil {
		at := s.applier.progress()
		st.Connected = true
		st.Position = op.Position{Line: at.line, LSN: at.applied}
		st.Durable, st.Commit, st.Strict = s.applier.acks.durable(), at.commit, at.strict
		st.Resyncing = !at.strict
		st.LastHeard = s.heard.last()
	}
	return st
}

// Stop ends the mirror cleanly: nothing further is applied, running fsyncs are
// waited for, 'not in sync' is recorded with the reason, and only then the
// primary is told. If ctx ends before the fsyncs do, it is recorded then.
func (r *Receiver) Stop(ctx context.Context, reason string) error {
	leave := &leaveError{reason: reason, clean: true}
	s := r.close(&wire.Refusal{Code: wire.CodeBusy, Message: fmt.Sprintf("mirror %s stops: start it again", r.name())})
	if s == nil {
		return r.leave(leave)
	}
	s.end(leave)
	select {
	case <-s.done:
		// A session that was not yet running, or ended by itself just now, has
		// recorded nothing.
		if state := r.cfg.Store.Get(); !state.InSync && state.Reason == reason {
			return nil
		}
		return r.leave(leave)
	case <-ctx.Done():
		err := r.leave(leave)
		s.wire.Close()
		return errors.Join(err, fmt.Errorf("stop the mirror: running fsyncs: %w", context.Cause(ctx)))
	}
}

// Detach ends the session, once what was received is applied, and refuses new
// ones: a promotion takes the node. It records nothing.
func (r *Receiver) Detach(ctx context.Context) error {
	s := r.close(&wire.Refusal{Code: wire.CodeNotAMirror, Message: fmt.Sprintf("%s is being promoted: it is no mirror any more", r.name())})
	if s == nil {
		return nil
	}
	s.end(errDetached)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the session with %s: %w", s.hello.Name, context.Cause(ctx))
	}
}

// close refuses all further sessions and returns the current one.
func (r *Receiver) close(why *wire.Refusal) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = why
	}
	return r.current
}

// Fence records that a higher epoch exists. It ends a session of a lower one
// first and lets none in again, so that from its return on nothing is
// acknowledged to a lower epoch (RULES.md 14, FenceOthers). In between, agree
// (nil: yes) sees the state that the ended session left, which may know a
// smaller set than an earlier answer said; it runs inside the transaction and
// uses neither Store nor Receiver. After its error nothing is recorded and the
// session may resume. The in-sync flag stays as it is. An epoch that is
// not higher is refused with code higher_epoch.
func (r *Receiver) Fence(ctx context.Context, epoch op.Epoch, agree func(State) error) error {
	r.fencing.Lock()
	defer r.fencing.Unlock()
	r.mu.Lock()
	r.floor, r.settled = epoch, false
	s := r.current
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.floor = op.Epoch{}
		r.mu.Unlock()
	}()
	if s != nil && s.hello.Line.Epoch.Compare(epoch) < 0 {
		s.end(errFenced)
		select {
		case <-s.done:
		case <-ctx.Done():
			return fmt.Errorf("end the session with %s: %w", s.hello.Name, context.Cause(ctx))
		}
	}
	if err := r.cfg.Store.Update(func(st *State) error {
		if epoch.Compare(st.Epoch) <= 0 {
			return higherEpoch(st, "epoch "+epoch.String())
		}
		if agree != nil {
			if err := agree(st.clone()); err != nil {
				return err
			}
		}
		st.See(epoch, 0, time.Now().UTC())
		return nil
	}); err != nil {
		return err
	}
	r.cfg.Changed()
	return nil
}

// leaveError ends a session because this mirror leaves the in-sync set by
// itself: its disk failed, or it stops.
type leaveError struct {
	reason string
	err    error     // nil if the mirror just stops
	clean  bool      // it stops
	told   bool      // an event tells of it already
	at     *progress // where it stops; nil: not known
}

func (e *leaveError) Error() string { return e.reason }
func (e *leaveError) Unwrap() error { return e.err }

// leave records that this mirror is not in sync. The caller tells the primary
// only afterwards.
func (r *Receiver) leave(l *leaveError) error {
	was, reason := false, l.reason
	stopped := r.stopped(l)
	err := r.cfg.Store.Update(func(st *State) error {
		was = st.InSync
		if st.Role == Mirror {
			if stopped != nil {
				// Without a session since the last stop it is still what it was then.
				stopped.Member = st.InSync || st.Stopped != nil && st.Stopped.Member
			}
			st.Stopped = stopped
			st.InSync, st.Reason = false, reason
		}
		r.cfg.Store.doubt(st, l.err)
		return nil
	})
	r.mu.Lock()
	r.level = nil
	r.unrecorded = ""
	if err != nil {
		r.unrecorded = reason
	}
	r.mu.Unlock()
	if err != nil {
		r.cfg.Logger.Error("this mirror is not in sync and cannot record it: do not promote it after a restart", "reason", reason, "error", err)
	}
	if was || err != nil {
		r.degraded(reason)
	}
	if errors.Is(l.err, syscall.ENOSPC) || errors.Is(l.err, syscall.EDQUOT) {
		r.cfg.Full()
	}
	switch {
	case l.told:
	case disksFault(l.err):
		r.event("disk-error", reason)
	case l.err != nil:
		r.event("not-in-sync", reason)
	}
	r.cfg.Changed()
	return err
}

// stopped is where a mirror that stops cleanly may go on, once its replica is on
// stable storage. The hot set need not be looked at then: it is empty but for
// what a resync had under way, which the primary knows.
func (r *Receiver) stopped(l *leaveError) *Stopped {
	if !l.clean {
		return nil
	}
	at := l.at
	if at == nil {
		r.mu.Lock()
		at = r.level
		r.mu.Unlock()
	}
	if at == nil {
		return nil
	}
	if err := r.cfg.Tree.Sync(); err != nil {
		r.cfg.Logger.Error("stopped without knowing that the replica is on stable storage", "error", err)
		return nil
	}
	return &Stopped{Line: at.line, LSN: at.applied, Offset: at.offset, Commit: at.commit, Strict: at.strict}
}

// resumed is the progress of a mirror that was stopped there.
func (s *Stopped) resumed() *progress {
	if s == nil {
		return nil
	}
	// What was strict has been synced since: a join that was on its way may come.
	return &progress{line: s.Line, applied: s.LSN, offset: s.Offset, commit: s.Commit, strict: s.Strict, synced: s.Strict}
}

// degraded tells everybody that the node is not in sync any more.
func (r *Receiver) degraded(reason string) {
	r.cfg.Logger.Warn("not in sync", "reason", reason)
	r.cfg.Degraded(reason)
}

func (r *Receiver) event(kind, text string) {
	if err := r.cfg.Store.Event(kind, text); err != nil {
		r.cfg.Logger.Warn("event not recorded", "kind", kind, "text", text, "error", err)
	}
}

// name is how this node is called in messages.
func (r *Receiver) name() string {
	if st := r.cfg.Store.Get(); st.Name != "" {
		return st.Name
	}
	return r.cfg.Tree.Dir()
}

// joined tells everybody that the node is in sync.
func (r *Receiver) joined() {
	r.mu.Lock()
	r.unrecorded, r.settled = "", true
	r.mu.Unlock()
	r.cfg.Logger.Info("in sync")
	r.event("in-sync", "in sync")
}

// mayForget reports whether hot regions may be forgotten at all (RULES.md 4,
// KeepOutOfSync).
func (r *Receiver) mayForget() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled
}

// fail takes this mirror out of the set because its replica could not be made
// durable, which no later sync makes up for (guarantee 8).
func (r *Receiver) fail(err error) error {
	leave := &leaveError{reason: reasonFor(err) + ": " + err.Error(), err: err}
	r.mu.Lock()
	r.settled = false
	s := r.current
	r.mu.Unlock()
	if s != nil {
		s.end(leave)
	}
	return errors.Join(leave, r.leave(leave))
}
