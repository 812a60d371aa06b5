// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/daemon/receive"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	bolt "go.etcd.io/bbolt"
)

// simNode is a machine of a simulation: what outlives its processes.
type simNode struct {
	sim         *simulation
	name        string
	addr        string
	dir         string
	disk        *simDisk
	lies        atomic.Pointer[simLies] // see lie
	checkpoints time.Duration           // how often, if not as all
	id          op.NodeID
	alive       atomic.Pointer[simProcess] // nil: it is down
	failing     atomic.Bool                // its disk has failed, so that it forgets nothing

	// Of the last process that died: whether it lost its power, and what it must
	// have kept.
	power    bool
	survives string // of its last power loss: "all", "nothing", or what the dice say
	must     *simMust
}

// simProcess is one process of a node: the real one, but for FUSE, the network
// and what stands between it and its disks.
type simProcess struct {
	of     *simNode
	n      *node
	db     *bolt.DB // its state
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of it runs any more
	err    error         // of its role, once done

	strict       atomic.Bool            // it reigns: an op that fails changes nothing
	steps, dieAt atomic.Int64           // it dies at this one
	trap         atomic.Pointer[string] // or at one of this name, such as "after write"
	power, loud  bool                   // how
	faulty       atomic.Int64           // calls until its disk fails; 0 and below: never

	gate sync.RWMutex // held shared over each change; guards dead
	dead bool

	order  sync.Mutex // orders all changes of the volume; guards commit
	commit fs.Committer
	epoch  op.Epoch // of its reign
	reign  *reign
}

func (s *simulation) newNode(name string, port int) *simNode {
	dir := filepath.Join(s.dir, name)
	n := &simNode{
		sim: s, name: name, addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir,
		disk: &simDisk{replica: filepath.Join(dir, "replica")},
	}
	n.lies.Store(&simLies{})
	if err := errors.Join(makeReplica(n.disk.replica), os.Mkdir(filepath.Join(dir, "mount"), 0o755)); err != nil {
		s.fail("%v", err)
	}
	return n
}

// config is the node's configuration.
func (m *simNode) config(role Role) Config {
	cfg := Config{
		Replica: m.disk.replica, StateDir: filepath.Join(m.dir, "state"), Mountpoint: filepath.Join(m.dir, "mount"),
		Role: role, Listen: m.addr, Name: m.name, Insecure: true, StopTimeout: 10 * time.Second,
		Mirror: m.sim.policy, Ready: func(string) {}, Logger: slog.New(m.sim.logger(m.name)),
	}
	cfg.Mirror.Peers = nil
	for _, other := range m.sim.nodes {
		if other != m {
			cfg.Mirror.Peers = append(cfg.Mirror.Peers, peerAt(other.addr))
		}
	}
	if m.checkpoints > 0 {
		cfg.Mirror.CheckpointEvery = m.checkpoints
	}
	cfg.Mirror = cfg.Mirror.withDefaults()
	return cfg
}

// start starts a process. It returns an error where the node refuses the role.
func (m *simNode) start(role Role) error {
	m.sim.say("%s starts as %s", m.name, role)
	if err := m.recover(); err != nil {
		return err
	}
	cfg := m.config(role)
	p := &simProcess{of: m, done: make(chan struct{})}
	store, err := state.OpenThrough(cfg.StateDir, func(db state.Database) state.Database {
		p.db = db.(*bolt.DB)
		return simDatabase{p.db, p}
	})
	if err != nil {
		return err
	}
	m.id = store.Get().Node
	if err := errors.Join(admit(cfg, store.Get()), m.kept(store.Get())); err != nil {
		return errors.Join(err, store.Close())
	}
	t, err := tree.Open(cfg.Replica)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	t.Around = p.around
	p.n = &node{
		cfg: cfg, log: cfg.Logger, store: store, tree: t, peers: m.sim.network.listen(m.addr), started: time.Now(),
		promotions: make(chan promotion),
		connect: func(ctx context.Context, addr string) (net.Conn, error) {
			return m.sim.network.dial(ctx, m.addr, addr)
		},
		committed: m.committed, step: m.step,
		newSyncer: func(after func()) receive.Syncer { return &simSyncer{p: p, after: after} },
	}
	p.n.keeper = keep.New(keep.Off, store, t, p.n.log, p.n.event)
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	m.alive.Store(p)
	m.failing.Store(false)
	go func() {
		defer close(p.done)
		servers, stop := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() { _ = p.n.listen(servers) })
		p.err = p.run(ctx)
		stop()
		serving.Wait()
		p.n.keeper.Close()
		p.err = errors.Join(p.err, t.Close(), store.Close())
	}()
	return nil
}

// recover makes the disk what the last process left, or the power loss.
func (m *simNode) recover() error {
	if !m.power {
		return nil
	}
	m.power = false
	return m.disk.lose(m.sim.rand, m.survives)
}

// arm has the process die at a step to come.
func (p *simProcess) arm(r *rand.Rand, within int64) {
	p.power, p.loud = r.IntN(2) == 0, r.IntN(2) == 0
	p.dieAt.Store(p.steps.Load() + 1 + r.Int64N(within))
}

// step is a point at which a process can die.
func (p *simProcess) step(when, what string) {
	trap := p.trap.Load()
	if p.steps.Add(1) == p.dieAt.Load() || trap != nil && strings.HasPrefix(when+" "+what, *trap) {
		p.die(when + " " + what)
	}
}

// die ends the process here and now.
func (p *simProcess) die(where string) {
	must := p.of.sim.must(p)
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	p.of.sim.died()
	how := map[bool]string{true: "loses its power", false: "is killed"}[p.power]
	p.of.sim.say("%s %s, at: %s", p.of.name, how, where)
	p.of.power, p.of.must = p.power, must
	p.of.sim.network.gone(p.of.addr, p.loud)
	p.cancel()
}

// end waits until nothing of the process runs any more.
func (m *simNode) end() {
	p := m.alive.Load()
	if p == nil {
		return
	}
	<-p.done
	m.alive.Store(nil)
	if !p.dead && p.err != nil {
		m.sim.say("%s ended: %v", m.name, p.err)
	}
}

// kill ends the node's process without a warning, stop asks it to stop.
func (m *simNode) kill(power, loud bool) {
	if p := m.alive.Load(); p != nil {
		p.power, p.loud = power, loud
		p.die("rest")
		m.end()
	}
}

func (m *simNode) stop() {
	if p := m.alive.Load(); p != nil {
		m.sim.say("%s is stopped", m.name)
		p.cancel()
		m.end()
	}
}

// run plays the roles, as node.run does.
func (p *simProcess) run(ctx context.Context) error {
	if p.n.cfg.Role == Primary {
		t, err := p.n.begin()
		if err != nil {
			return err
		}
		return p.rule(ctx, t, false)
	}
	t, err := p.n.standBy(ctx)
	if t == nil || err != nil {
		return err
	}
	return p.rule(ctx, *t, true)
}

// rule is node.reign without a mount.
func (p *simProcess) rule(ctx context.Context, t term, promoted bool) error {
	r := &reign{node: p.n, line: t.line, mountpoint: t.mountpoint, peers: len(t.peers), synced: len(t.peers), disk: newFailing()}
	committer, err := r.committer(t)
	if err != nil {
		t.begun(err)
		return err
	}
	p.strict.Store(true)
	sessions, hangUp := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.run(sessions, p) }() // waited for below
	p.n.play(r)
	p.order.Lock()
	p.epoch, p.reign = t.line.Epoch, r
	p.order.Unlock()
	serve := func() {
		p.order.Lock()
		defer p.order.Unlock()
		p.commit = committer
	}
	if promoted {
		p.of.sim.crowning(p, serve)
	} else {
		p.of.sim.crown(p, false)
		serve()
	}
	t.begun(nil)
	for ctx.Err() == nil {
		select {
		case o := <-p.n.promotions:
			o.answer <- outcome{err: admin.Errorf(admin.CodeFailed, "the primary already")}
		case <-ctx.Done():
		}
	}
	p.order.Lock()
	p.commit = nil
	p.order.Unlock()
	p.gate.RLock()
	dead := p.dead
	p.gate.RUnlock()
	if !dead {
		bounded, cancel := context.WithTimeout(context.Background(), p.n.cfg.StopTimeout)
		defer cancel()
		if err := r.drain(bounded); err == nil {
			r.record()
		}
	}
	hangUp()
	return <-ended
}

// FlushTimes implements mirror.Source: every op here carries its times.
func (p *simProcess) FlushTimes(context.Context) error { return nil }

// Hold implements mirror.Source: nothing else changes meanwhile.
func (p *simProcess) Hold(_ string, fn func() error) error {
	p.order.Lock()
	defer p.order.Unlock()
	return fn()
}

func (p *simProcess) Mend(path string, fn func() error) error { return p.Hold(path, fn) }
func (p *simProcess) HoldAll(fn func() error) error           { return p.Hold(op.Root, fn) }

// HoldNames implements mirror.Source.
func (p *simProcess) HoldNames(dir string, _ []string, fn func() error) error {
	return p.Hold(dir, fn)
}

func (p *simProcess) isDead() bool {
	p.gate.RLock()
	defer p.gate.RUnlock()
	return p.dead
}

// serves reports whether clients are served, reigns whether the process has the
// role.
func (p *simProcess) serves() bool {
	p.order.Lock()
	defer p.order.Unlock()
	return p.commit != nil
}

func (p *simProcess) reigns() bool {
	p.order.Lock()
	defer p.order.Unlock()
	return p.reign != nil
}
