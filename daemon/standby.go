package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/receive"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// standby is the role of a mirror: it applies what its primary sends.
type standby struct {
	*receive.Receiver
	node     *node
	detached bool   // by a promotion; owned by standBy
	forget   func() // ends its checkpoints, and waits for that

	mu   sync.Mutex    // guards news
	news chan struct{} // closed and renewed when the Receiver's status may have changed
}

// standBy runs the role until ctx ends, which returns nil, or until a promotion
// has succeeded, which returns the term to reign in.
func (n *node) standBy(ctx context.Context) (*term, error) {
	if err := n.checkEmpty(); err != nil {
		return nil, err
	}
	if err := n.keeper.Check(); err != nil {
		return nil, err
	}
	if err := n.demote(); err != nil {
		return nil, err
	}
	s := n.beginStandby()
	defer func() { s.forget() }()
	n.play(s)
	n.ready(fmt.Sprintf("mirror: %s listens on %s", n.cfg.Replica, n.peers.Addr()))
	for {
		select {
		case p := <-n.promotions:
			t, err := s.promote(ctx, p)
			if t != nil || err != nil {
				return t, err
			}
			if s.detached {
				// Given up after the session had been ended: stand by anew.
				s.forget()
				s = n.beginStandby()
				n.play(s)
			}
		case <-ctx.Done():
			n.stopping()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.StopTimeout)
			defer cancel()
			if err := s.Stop(stop, "the mirror was stopped"); err != nil {
				return nil, fmt.Errorf("stop the mirror: %w", err)
			}
			return nil, nil
		}
	}
}

func (n *node) newStandby() *standby {
	s := &standby{node: n, news: make(chan struct{})}
	s.Receiver = receive.New(receive.Config{
		Store: n.store, Tree: n.tree, Heartbeat: n.cfg.Mirror.Heartbeat,
		Logger: n.log, Software: n.software(), Changed: s.changed, DivergenceLimit: n.cfg.DivergenceLimit,
		Keep: n.keeper.Keep, Consistent: n.keeper.Sweep, Full: n.keeper.MakeRoom, NewSyncer: n.newSyncer,
	})
	return s
}

// beginStandby returns a standby that makes checkpoints, which forget ends.
func (n *node) beginStandby() *standby {
	s := n.newStandby()
	ctx, stop := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	checkpoint := s.Checkpoint()
	if n.committed != nil {
		checkpoint.Committed = n.committed(checkpoint.Committed)
	}
	owned.Go(func() { n.store.Regions().Checkpoints(ctx, n.cfg.Mirror.CheckpointEvery, checkpoint, n.kept) })
	s.forget = func() { stop(); owned.Wait() }
	return s
}

// checkEmpty refuses a replica with something in it on a mirror's first use: a
// resync would remove it. The hello of a primary is checked in the same way.
func (n *node) checkEmpty() error {
	st := n.store.Get()
	name, err := receive.Unexpected(&st, n.cfg.Replica)
	if err != nil {
		return fmt.Errorf("look into replica %s: %w", n.cfg.Replica, err)
	}
	if name != "" {
		return fmt.Errorf("replica %s is not empty on first use (it holds %q) and a resync would remove what is there: empty it, or give the mirror another directory, or, if this is a copy whose state is lost, run `standbyfs state reset %s`, and it is compared in full", n.cfg.Replica, name, n.cfg.Replica)
	}
	return nil
}

// demote records that a node which was the primary is a mirror now. Its
// replica may hold what nobody else has, so it counts as behind, and what a
// resync overwrites is archived (RULES.md 15).
func (n *node) demote() error {
	was := n.store.Get().Role
	if err := n.store.Update(func(s *state.State) error {
		s.Name = n.cfg.Name
		if s.Role == Primary {
			s.Role, s.InSync, s.Set, s.ArchiveUntilJoined, s.Stopped = Mirror, false, nil, true, nil
			s.Reason = "it was the primary and has not been brought level since"
			s.Level(n.store.Alive())
		}
		return nil
	}); err != nil {
		return err
	}
	if was == Primary {
		n.event("demoted", "the primary was started as a mirror")
	}
	return nil
}

func (s *standby) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

// until returns nil once holds does, looking again at each change.
func (s *standby) until(ctx context.Context, holds func(receive.Status) bool) error {
	for {
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		if holds(s.Status()) {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *standby) serveOps(ctx context.Context, session *wire.Session) error {
	return s.Serve(ctx, session)
}

// fence refuses, unless forced, a node that this mirror knows to be out of the
// in-sync set: its session may then go on.
func (s *standby) fence(ctx context.Context, req fenceRequest) error {
	agree := func(st state.State) error {
		if st.Role == Primary {
			return &wire.Refusal{Code: wire.CodeBusy, Message: fmt.Sprintf("%s is taking over itself: try again", st.Name)}
		}
		if req.Force || slices.Contains(st.Set, req.Epoch.Owner) {
			return nil
		}
		return &wire.Refusal{Code: wire.CodeBusy, Message: fmt.Sprintf("%s knows an in-sync set without %s", st.Name, req.Name)}
	}
	if err := s.Fence(ctx, req.Epoch, agree); err != nil {
		return err
	}
	s.node.event("fenced", fmt.Sprintf("%s takes over with epoch %s: no lower one is followed any more", req.Name, req.Epoch))
	return nil
}

func (s *standby) fill(to *admin.Status) {
	m := s.Status()
	to.Deposed = false // it follows whoever took over
	to.PrimaryHeard = m.LastHeard
	if st := s.node.store.Get(); !st.Overtaken() { // otherwise it is told from the state
		to.InSync, to.Why = m.InSync, m.Reason
	}
	to.Receiving = &admin.Receiving{
		Connected: m.Connected, Resyncing: m.Resyncing,
		Primary: m.PrimaryNode, PrimaryName: m.Primary,
		Line: m.Position.Line, Applied: m.Position.LSN, Durable: m.Durable, Commit: m.Commit,
		Heartbeat: s.node.cfg.Mirror.Heartbeat,
		MinInSync: s.node.store.Get().Policy.MinInSync,
	}
}

func (s *standby) waitInSync(context.Context, int) error {
	return admin.Errorf(admin.CodeNotPrimary, "%s is a mirror: only its primary knows who is in sync", s.node.cfg.Replica)
}

func (s *standby) verify(context.Context, bool) (*mirror.VerifyReport, error) {
	return nil, admin.Errorf(admin.CodeNotPrimary, "%s is a mirror: run verify on its primary", s.node.cfg.Replica)
}

func (s *standby) mend(context.Context, []mirror.Choice) ([]mirror.Mended, error) {
	return nil, admin.Errorf(admin.CodeNotPrimary, "%s is a mirror: repair on its primary", s.node.cfg.Replica)
}

func (s *standby) resync(admin.ResyncRequest) (admin.ResyncResult, error) {
	return admin.ResyncResult{}, admin.Errorf(admin.CodeNotPrimary, "%s is a mirror: its primary decides about resyncs", s.node.cfg.Replica)
}
