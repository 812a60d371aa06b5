// Package daemon is a node: one process that keeps one replica of one volume,
// as its primary or as one of its mirrors.
//
//	config.go      what a node is given; check.go what is refused before anything is touched
//	node.go        its life, from the first lock to the last
//	listen.go      sessions of peers, by lane; view.go what it has at a path, for those who ask
//	status.go      what it shows; notify.go what it tells the service manager
//
// A mirror:
//
//	standby.go     the role
//	promote.go     from mirror to primary; decide.go rules whether and what it is worth
//
// A primary:
//
//	term.go        what a reign begins with; depose.go its end by a higher epoch
//	primary.go     the role: one reign
//	alone.go       the order of ops where there is no mirror
//	failing.go     when its disk has failed
//	verify.go      when it verifies by itself, and what is kept of it
//
// What it does that is no role's stands in packages of its own: state (what it
// durably knows), receive (the primary's sessions), keep (the last consistent
// state during a resync), divergence (what it alone may have) and admin (what it
// shows, and is told to do).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/daemon/receive"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sync/errgroup"
)

// node is a running node. What it is made of is opened once, by open, and
// closed once, by close; only its role changes.
type node struct {
	cfg     Config
	log     *slog.Logger
	store   *state.Store
	lock    *state.Lock
	tree    *tree.Tree
	keeper  *keep.Keeper
	admin   net.Listener
	peers   net.Listener // nil: nobody can connect
	started time.Time
	// A simulation's own network, its syncs of a mirror's files, what a mirror
	// takes for committed, and the step to a new line; nil: the real ones.
	connect   func(ctx context.Context, addr string) (net.Conn, error)
	newSyncer func(after func()) receive.Syncer
	committed func(really func(op.LSN) bool) func(op.LSN) bool
	step      func() uint64

	// promotions carries requests from the admin server to the role, which
	// answers each of them. Only the role itself changes the role.
	promotions chan promotion
	serving    bool // Ready was called; owned by run

	mu   sync.Mutex // guards role
	role role       // what the node does now; nil before its role has begun
}

// role is what a node does: stand by as a mirror, or reign as the primary. The
// methods are called by the servers while the role does its work.
type role interface {
	// serveOps runs a session of the ops lane to its end.
	serveOps(ctx context.Context, s *wire.Session) error
	// fence records durably that a higher epoch exists; when it returns nil
	// nothing is acknowledged under a lower one any more.
	fence(ctx context.Context, req fenceRequest) error
	// fill adds the role's part of the status.
	fill(s *admin.Status)
	waitInSync(ctx context.Context, n int) error
	verify(ctx context.Context, versions bool) (*mirror.VerifyReport, error)
	mend(ctx context.Context, choices []mirror.Choice) ([]mirror.Mended, error)
	resync(req admin.ResyncRequest) (admin.ResyncResult, error)
}

// Run runs a node until ctx ends or it cannot go on. A primary unmounts then,
// with a last barrier; a mirror records that it is not in sync and says
// goodbye. cfg.Ready is called once the node serves.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.prepared()
	if err != nil {
		return err
	}
	n := &node{cfg: cfg, log: cfg.Logger, started: time.Now(), promotions: make(chan promotion)}
	if err := n.open(ctx); err != nil {
		return errors.Join(err, n.close())
	}
	return errors.Join(n.serve(ctx), n.close())
}

// open takes what the node needs, in an order in which a refusal leaves no
// trace: what is durable comes last.
func (n *node) open(ctx context.Context) error {
	var err error
	if n.store, err = state.Open(n.cfg.StateDir); err != nil {
		return err
	}
	if n.lock, err = state.LockReplica(n.cfg.Replica, n.cfg.StateDir); err != nil {
		return err
	}
	if err := admit(n.cfg, n.store.Get()); err != nil {
		return err
	}
	if n.cfg.Role == Primary {
		if err := fs.CleanStale(n.cfg.Mountpoint); err != nil {
			return fmt.Errorf("mount point: %w", err)
		}
	}
	if n.tree, err = tree.Open(n.cfg.Replica); err != nil {
		return err
	}
	if n.cfg.Waits != nil {
		n.tree.Waits = n.cfg.Waits
	}
	n.keeper = keep.New(n.cfg.KeepConsistent, n.store, n.tree, n.log, n.event)
	if n.cfg.Listen != "" {
		var lc net.ListenConfig
		if n.peers, err = lc.Listen(ctx, "tcp", n.cfg.Listen); err != nil {
			return fmt.Errorf("listen for peers: %w", err)
		}
	}
	if n.admin, err = admin.Listen(n.cfg.StateDir); err != nil {
		return err
	}
	return n.store.ClaimReplica(n.cfg.Replica)
}

// close gives back what open took, as far as it came.
func (n *node) close() error {
	var errs []error
	if n.keeper != nil {
		n.keeper.Close()
	}
	if n.admin != nil {
		errs = append(errs, n.admin.Close())
	}
	if n.peers != nil {
		if err := n.peers.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.tree != nil {
		errs = append(errs, n.tree.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// serve runs the servers and the role. The servers outlive the role, so that a
// node can be watched while it stops; if one of them fails the role ends.
func (n *node) serve(ctx context.Context) error {
	servers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, servers := errgroup.WithContext(servers)
	g.Go(func() error { return admin.Serve(servers, n.admin, n, n.log) })
	if n.peers != nil {
		g.Go(func() error { return n.listen(servers) })
	}
	roles, end := context.WithCancel(ctx)
	defer end()
	context.AfterFunc(servers, end)
	g.Go(func() error {
		defer stop()
		return n.run(roles)
	})
	return g.Wait()
}

// run plays the roles, one after the other.
func (n *node) run(ctx context.Context) error {
	if err := n.keeper.Finish(); err != nil {
		return err
	}
	n.keeper.Sweep()
	if n.cfg.Role == Primary {
		t, err := n.begin()
		if err != nil {
			return err
		}
		return n.reign(ctx, t)
	}
	t, err := n.standBy(ctx)
	if t == nil || err != nil {
		return err
	}
	return n.reign(ctx, *t)
}

// play makes r what the node does.
func (n *node) play(r role) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.role = r
}

// playing returns what the node does, or an error while that has not begun.
func (n *node) playing() (role, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.role == nil {
		return nil, admin.Errorf(admin.CodeStarting, "the node is still starting: try again")
	}
	return n.role, nil
}

// ready tells whoever started the node that it serves, once, and the service
// manager what it is at each change of its role.
func (n *node) ready(line string) {
	if n.serving {
		n.log.Info(line)
	} else {
		n.serving = true
		n.cfg.Ready(line)
	}
	notify(n.log, "READY=1", "STATUS="+line)
}

// stopping tells the service manager that the node begins to end.
func (n *node) stopping() { notify(n.log, "STOPPING=1") }

// event records what an operator should know. Losing one must not stop a node.
func (n *node) event(kind, text string) {
	if err := n.store.Event(kind, text); err != nil {
		n.log.Error("event not recorded", "event", kind, "text", text, "error", err)
	}
}

// kept tells why regions were not forgotten.
func (n *node) kept(err error) {
	n.log.Error("regions are kept that need no comparison any more", "error", err)
}

// software is how peers see the program.
func (n *node) software() string { return "standbyfs " + n.cfg.Version }
