// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
)

// begin starts all nodes, the first one as the primary.
func (s *simulation) begin() {
	for i := range s.nodes {
		n := s.nodes[len(s.nodes)-1-i]
		role := Mirror
		if i == len(s.nodes)-1 {
			role = Primary
		}
		if err := n.start(role); err != nil {
			s.fail("%v", err)
		}
	}
}

// round runs one simulation.
func (s *simulation) round() {
	s.begin()
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for k := range simClients {
		clients.Go(func() { s.client(ctx, k) })
	}
	time.Sleep(2 * time.Second)
	for range 4 + s.rand.IntN(12) {
		s.happen()
		time.Sleep(time.Duration(s.rand.Int64N(int64([]time.Duration{100 * time.Millisecond, 2 * time.Second, 15 * time.Second}[s.rand.IntN(3)]))))
		s.crownAll(false)
		s.bury()
	}
	s.mend()
	stop()
	clients.Wait()
	s.compare()
	s.end()
}

func (s *simulation) end() {
	for _, n := range s.nodes {
		n.kill(false, false)
	}
}

// bury waits for processes that are dying.
func (s *simulation) bury() {
	for _, n := range s.nodes {
		if p := n.alive.Load(); p != nil && p.isDead() {
			n.end()
		}
	}
}

// any returns a random node, of those that are up, or down, or a random other one
// if there is none.
func (s *simulation) any(up bool) *simNode {
	for range 10 {
		if n := s.nodes[s.rand.IntN(len(s.nodes))]; (n.alive.Load() != nil) == up {
			return n
		}
	}
	return s.nodes[s.rand.IntN(len(s.nodes))]
}

// happen has one thing happen.
func (s *simulation) happen() {
	r := s.rand
	n := s.any(true)
	p := n.alive.Load()
	switch r.IntN(20) {
	case 0, 1, 2, 3:
		if p != nil {
			p.arm(r, []int64{5, 50, 500}[r.IntN(3)])
			s.sleep(context.Background(), 3*time.Second)
			s.bury()
		}
	case 4:
		n.kill(r.IntN(2) == 0, r.IntN(2) == 0)
	case 5:
		n.stop()
		if r.IntN(2) == 0 {
			s.restart(n)
		}
	case 6, 7, 8, 9:
		if n = s.any(false); n.alive.Load() == nil {
			s.restart(n)
		}
	case 10, 11:
		other := s.any(true)
		cut := r.IntN(3) > 0
		s.say("link %s-%s cut: %v", n.name, other.name, cut)
		s.network.sever(n.addr, other.addr, cut)
	case 12:
		s.say("%s is cut off", n.name)
		for _, other := range s.nodes {
			s.network.sever(n.addr, other.addr, true)
		}
	case 13:
		s.say("all links are healed")
		s.network.heal(s.addrs())
	case 14:
		slow := []time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 4 * time.Second}[r.IntN(3)]
		s.say("delays of up to %v", slow)
		s.network.delay(slow)
	case 15, 16, 17:
		s.promote(n, r.IntN(3) == 0)
	case 18:
		if p != nil {
			p.faulty.Store(1 + r.Int64N(30))
		}
	case 19:
		if n = s.any(false); n.alive.Load() == nil && n != s.chief() {
			n.lost()
		}
	}
}

func (s *simulation) addrs() []string {
	var addrs []string
	for _, n := range s.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// restart starts a node that is down, as what it has to be.
func (s *simulation) restart(n *simNode) {
	role := Mirror
	if n == s.chief() {
		role = Primary
	}
	err := n.start(role)
	if errors.Is(err, ErrDeposed) || errors.Is(err, ErrIsMirror) {
		err = n.start(Mirror)
	}
	if err != nil {
		s.fail("%s does not start: %v", n.name, err)
	}
}

// promote asks a mirror to take over.
func (s *simulation) promote(n *simNode, force bool) {
	p := n.alive.Load()
	if p == nil || p.n.cfg.Role == Primary {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.say("%s is asked to take over, force: %v", n.name, force)
	result, err := p.n.Promote(ctx, admin.PromoteRequest{Force: force})
	s.say("promotion of %s: epoch %s, promised: %v, error: %v", n.name, result.Epoch, result.Promised, err)
	s.crownAll(err == nil && result.Promised)
}

// lost takes a node's state away, as if it were damaged. The operator empties
// its replica, too.
func (m *simNode) lost() {
	m.sim.say("%s has lost its state", m.name)
	m.must, m.power = nil, false
	m.disk.past, m.disk.changes, m.disk.floor = nil, nil, 0
	if err := errors.Join(os.RemoveAll(filepath.Join(m.dir, "state")), os.RemoveAll(m.disk.replica), makeReplica(m.disk.replica)); err != nil {
		m.sim.fail("%v", err)
	}
}
