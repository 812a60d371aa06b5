// Package receive is the mirror's end of replication: it takes the sessions of a
// primary, applies their ops to the replica, in their order, and answers for what
// it has. Package mirror is the other end.
//
//	receive.go     the sessions, one at a time; refuse.go which ones
//	session.go     one of them; hello.go its beginning; control.go its messages
//	resume.go      where a mirror can go on
//	applier.go     what it does with the stream; fault.go where it cannot
//	member.go      its place in the set, and that of others
//	acks.go        what it answers; syncs.go what it makes durable meanwhile
//	archive.go     what it keeps before it is overwritten
//	checkpoint.go  what it may forget of the regions that were changed
//	leave.go       leaving the set by itself; fence.go refusing all lower epochs
package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// Config is what a Receiver works with.
type Config struct {
	Store     *state.Store
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
	// NewSyncer makes what syncs the files of a session; nil: a tree.Syncer.
	NewSyncer func(after func()) Syncer
	// Changed is called, without locks held, whenever Status may have changed.
	Changed func()
}

// Status is what a mirror knows of its own standing.
type Status struct {
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
	cfg Config
	// syncArchive makes durable what is kept of a divergence; a test's own, or nil.
	syncArchive func(f *os.File) error
	archive     *archive // of the last session that had one; owned by the current session
	cannot      string   // why the last archive failed; owned by the current session

	fencing sync.Mutex // one Fence at a time; taken before mu

	mu      sync.Mutex    // guards all below; no I/O but a look at the replica under it
	current *session      // being greeted, running or ending
	level   *progress     // what the last session left to resume from; nil: nothing
	floor   op.Epoch      // while Fence works: no lower epoch is greeted, and nothing is forgotten
	closed  *wire.Refusal // once Stop or Detach was called: the answer to every hello
	// settled: this process has joined, or resumed as a member, and has not begun a
	// resync since. Only then hot regions may be forgotten (RULES.md 4,
	// KeepOutOfSync).
	settled bool
	// unrecorded is the reason for being out of sync that could not be made
	// durable. It stands until the next Begin or Join is recorded.
	unrecorded string
}

// New returns a Receiver without a session.
func New(cfg Config) *Receiver {
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
	if cfg.NewSyncer == nil {
		cfg.NewSyncer = func(after func()) Syncer { return tree.NewSyncer(after) }
	}
	r := &Receiver{cfg: cfg}
	if st := cfg.Store.Get(); st.Role == state.Mirror {
		r.level = resumed(st.Stopped)
	}
	return r
}

// refusedError says that a session was refused, and what the peer had said.
type refusedError struct {
	Hello   wire.Hello
	Refusal *wire.Refusal
}

func (e *refusedError) Error() string { return "refused a session: " + e.Refusal.Message }

// Unwrap returns the refusal.
func (e *refusedError) Unwrap() error { return e.Refusal }

var (
	errReplaced = errors.New("the primary has opened a newer session")
	errDetached = errors.New("a promotion takes this node")
	errFenced   = errors.New("another node fences this one")
)

// Serve runs one session of the ops lane from hello to its end, and closes it.
// It returns nil after the primary's goodbye, a refusedError if the session was
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
		s.noteHeard(false)
		r.cfg.Changed()
	}
}

// Status returns the mirror's standing now.
func (r *Receiver) Status() Status {
	known := r.cfg.Store.Get()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{
		InSync:      known.InSync && r.unrecorded == "",
		Reason:      known.Reason,
		Primary:     known.PrimaryName,
		PrimaryNode: known.Epoch.Owner,
		LastHeard:   known.PrimaryHeard,
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

// degraded says that it is recorded that the node is not in sync any more.
func (r *Receiver) degraded(reason string) {
	r.cfg.Logger.Warn("not in sync", "reason", reason)
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
	return r.settled && r.floor == op.Epoch{}
}
