// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// mend heals everything and starts what is down.
func (s *simulation) mend() {
	s.say("everything is healed")
	s.network.heal(s.addrs())
	for _, n := range s.nodes {
		if p := n.alive.Load(); p != nil {
			p.dieAt.Store(0)
			p.faulty.Store(0)
		}
	}
	time.Sleep(time.Second)
	s.bury()
	s.crownAll(false)
	chief := s.chief()
	for _, n := range s.nodes {
		p := n.alive.Load()
		if n != chief && p != nil && p.reigns() {
			n.stop() // its operator has heard
		}
	}
	s.bury()
	for _, n := range s.nodes {
		if p := n.alive.Load(); p != nil {
			select {
			case <-p.done: // it has given up by itself
				n.end()
			default:
			}
		}
		if n.alive.Load() == nil {
			s.restart(n)
		}
	}
	time.Sleep(time.Second)
	s.crownAll(false)
	p := chief.alive.Load()
	if p != nil && p.reigns() && s.highest().Compare(p.epoch) > 0 {
		// Fenced by a promotion that was given up.
		chief.stop()
		if err := chief.start(Mirror); err != nil {
			s.fail("%v", err)
		}
		time.Sleep(time.Second)
		p = chief.alive.Load()
	}
	if p == nil || !p.reigns() {
		s.promote(chief, true)
	}
}

// highest is the highest epoch that any node knows.
func (s *simulation) highest() op.Epoch {
	var highest op.Epoch
	for _, n := range s.nodes {
		if p := n.alive.Load(); p != nil {
			if e := p.n.store.Get().Epoch; e.Compare(highest) > 0 {
				highest = e
			}
		}
	}
	return highest
}

// compare waits until all are in sync and compares the replicas.
func (s *simulation) compare() {
	chief := s.chief()
	p := chief.alive.Load()
	for range 100 { // it starts
		if p == nil || p.reigns() {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if p == nil || !p.reigns() {
		s.fail("%s does not reign in the end", chief.name)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), simCalm)
	defer cancel()
	err := p.reign.waitInSync(ctx, len(s.nodes)-1)
	for err != nil && ctx.Err() == nil { // somebody was expelled meanwhile, for what happened before
		time.Sleep(time.Second)
		err = p.reign.waitInSync(ctx, len(s.nodes)-1)
	}
	if err != nil {
		s.fail("not in sync within %v: %v; %+v", simCalm, err, p.reign.log.Status())
		return
	}
	s.say("in sync")
	if err := p.reign.drain(ctx); err != nil {
		s.fail("%v", err)
	}
	for _, n := range s.nodes {
		if lacks := countsIn(n.disk.replica).lacks(s.floor); lacks != "" {
			s.fail("%s: %s", n.name, lacks)
		}
		if n == chief {
			continue
		}
		differ, err := tree.Diff(p.n.tree, n.alive.Load().n.tree)
		if err != nil || len(differ) > 0 {
			s.fail("%s and %s differ: %q, %v", chief.name, n.name, differ, err)
		}
	}
	// Nothing stays hot for ever.
	time.Sleep(6 * s.policy.CheckpointEvery)
	for _, n := range s.nodes {
		if hot := n.alive.Load().n.store.Regions().Hot(); len(hot) > 0 && !n.failing.Load() && n.checkpoints == 0 {
			s.fail("%s still has hot regions: %v", n.name, hot)
		}
	}
}

const (
	simFsync = 5 * time.Millisecond // the longest fsync
	simCalm  = 10 * time.Minute     // how long a healed cluster may take
)
