package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// Before a region changes it is recorded as hot, durably, on primary and mirror.
// What that costs is measured against the same program on nodes whose hot set is
// everything from the beginning: there nothing has to be recorded any more. The
// program has no other way to do without.

// hotLoads are the loads that it is measured on.
func hotLoads() []struct {
	name, title, phase string
	work               work
} {
	// Short, since what else happens on the machine shall meet both of a pair. A
	// program that goes on for longer has fewer records an op, not more.
	const long, appends = time.Second, "append"
	return []struct {
		name, title, phase string
		work               work
	}{
		{"create", "4 KiB files made in one directory", "create", work{Kind: "create", Threads: 1, Time: long, Keep: true}},
		{"untar", "a source tree unpacked", "untar", work{Kind: "archive", Threads: 1, Size: 1000, Time: long}},
		{"append4k", "4 KiB appends, every 8th synced", appends, work{Kind: "grow", Threads: 1, Size: 4 << 10, Every: 8, Time: long, Keep: true}},
		{"append1m", "1 MiB appends", appends, work{Kind: "grow", Threads: 1, Size: 1 << 20, Time: long, Keep: true}},
	}
}

// hot measures what the hot set costs, in pairs of samples one behind the other.
func (r recovery) hot(ctx context.Context, p *place, add func(figure)) (err error) {
	recorded, err := p.startHot(ctx, "recovery-hot", r.pairs, func(string) error { return nil })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recorded.stop()) }()
	all, err := p.startHot(ctx, "recovery-all-hot", r.pairs, everythingHot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.stop()) }()
	systems := []*system{recorded, all}
	touched := keepTouched(systems)
	defer touched()
	for _, load := range hotLoads() {
		var alone records
		rates := make([][]float64, len(systems))
		for n := range r.pairs {
			for k := range systems {
				which := (k + n) % len(systems)
				got, err := systems[which].measure(ctx, load.work, int64(n))
				if err != nil {
					return err
				}
				rates[which] = append(rates[which], got[load.phase].rate())
			}
			if err := alone.add(filepath.Join(p.dir, "records"), load.work, max(announced*int(rates[1][n]), 1)); err != nil {
				return err
			}
		}
		with, without := spreadOf(rates[0]), spreadOf(rates[1])
		add(figure{
			Name: load.name, Title: "recording hot regions: " + load.title, Value: overhead(rates[0], rates[1]), Unit: " %", Bound: 3,
			About: fmt.Sprintf("%d pairs; %s and %s ops/s", r.pairs, quantity(with.Median), quantity(without.Median)),
		})
		add(figure{
			Name: load.name + "-alone", Title: "  the same by the time of the records alone", Value: once(100 * nodes * alone.perStep() * without.Median), Unit: " %", Bound: 3,
			About: fmt.Sprintf("%s records of %s a thousand ops, on either node; a look at the others takes %s", digits(alone.perThousand()), period(alone.each()), period(alone.rest/time.Duration(alone.steps))),
		})
	}
	touched()
	// Only if it still is what it was, the comparison was one.
	if err := all.endNodes(); err != nil {
		return err
	}
	for _, dir := range all.states() {
		err := withRegions(dir, func(_ *bolt.DB, s *region.Store) error {
			if !slices.Contains(s.Hot(), region.Everything) {
				return fmt.Errorf("%s: not everything was hot any more", dir)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nodes that record a change, one behind the other: the primary before it makes
// it, and the mirror before it applies it.
const nodes = 2

// announced is for how many seconds of a load its records are counted. A file
// that grows needs most of them in the first.
const announced = 10

// overhead is how much longer an op takes where regions are recorded, in
// percent: the median of the pairs.
func overhead(with, without []float64) spread {
	var values []float64
	for i := range with {
		values = append(values, 100*(without[i]/with[i]-1))
	}
	return spreadOf(values)
}

// keepTouched changes something on each system every second, until the function
// that it returns has been called: what is not touched for long is hot no more.
func keepTouched(systems []*system) (end func()) {
	stop := make(chan struct{})
	var touching sync.WaitGroup
	for _, s := range systems {
		touching.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case now := <-tick.C:
					// One that fails is found out by what is hot in the end.
					_ = os.Chtimes(s.dir, now, now)
				case <-stop:
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(stop); touching.Wait() })
}

// startHot starts a mount with one mirror twice. Meanwhile prepare is called for
// the state directory of each node. What was made before is hot no more.
func (p *place) startHot(ctx context.Context, name string, pairs int, prepare func(state string) error) (*system, error) {
	s, err := p.start(ctx, configuration{Name: name, Kind: mirrored, Mirrors: 1, Sync: "op"})
	if err != nil {
		return s, err
	}
	err = func() error {
		for _, load := range hotLoads() {
			if !load.work.Keep {
				continue
			}
			dir := s.kept(load.work)
			if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
				return err
			}
			for _, replica := range []string{s.below, filepath.Join(s.root, mirrorName0)} {
				scatter(filepath.Join(replica, dir))
			}
			for n := range pairs {
				if err := os.MkdirAll(filepath.Join(s.dir, dir, fmt.Sprintf("ready%d", n)), 0o755); err != nil {
					return err
				}
			}
		}
		if err := s.endNodes(); err != nil {
			return err
		}
		// Without checkpoints a mark of everything covers for as long as the bench
		// runs; with them it would soon be refined.
		for i := range s.nodes {
			s.nodes[i].args = append(s.nodes[i].args, "--checkpoint-every", "1h")
		}
		for _, dir := range s.states() {
			if err := prepare(dir); err != nil {
				return err
			}
		}
		return s.startNodes(ctx)
	}()
	if err != nil {
		err = errors.Join(fmt.Errorf("start %s: %w", name, err), s.stop())
	}
	return s, err
}

// endNodes ends all nodes, the primary first.
func (s *system) endNodes() error {
	for _, n := range slices.Backward(s.nodes) {
		if err := s.stopNode(n.name, unix.SIGTERM); err != nil {
			return err
		}
	}
	return nil
}

// states are the nodes' state directories.
func (s *system) states() []string {
	dirs := []string{daemon.DefaultStateDir(s.below)}
	for _, n := range s.nodes[:len(s.nodes)-1] {
		dirs = append(dirs, daemon.DefaultStateDir(filepath.Join(s.root, n.name)))
	}
	return dirs
}

// everythingHot has a node that does not run begin with everything hot: as if a
// directory had come to the place of the root, of which nothing is known.
func everythingHot(state string) error {
	return withRegions(state, func(_ *bolt.DB, s *region.Store) error {
		unknown := func(string) (region.Stat, error) { return region.Stat{}, unix.EIO }
		ticket, err := s.Begin(&op.Op{Kind: op.Adopt, Path: op.Root}, unknown)
		ticket.Leave(0)
		return err
	})
}

// withRegions opens the records of a node that does not run.
func withRegions(state string, fn func(*bolt.DB, *region.Store) error) (err error) {
	db, err := bolt.Open(filepath.Join(state, "state.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("open the state in %s: %w", state, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := region.Open(db)
	if err != nil {
		return err
	}
	return fn(db, s)
}
