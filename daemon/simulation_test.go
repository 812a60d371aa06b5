// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

// A simulation runs two or three whole nodes, but for FUSE, TLS and the command
// line, on a fake clock and a network in memory. Clients change the volume at
// random and count barriers; meanwhile processes die at any step, with or
// without their power, links are cut, disks fail, mirrors are promoted, also by
// force, and state files are lost. Then everything is healed. Whatever has
// happened, no acknowledged barrier may be lost that is promised to be kept, and
// in the end all replicas are equal.
//
//	sim_network_test.go  links between nodes
//	sim_disk_test.go     what a process leaves behind
//	sim_node_test.go     nodes and their processes
//	sim_client_test.go   changes, and what must not be lost
//	sim_lies_test.go     disks that break the rules
//	sim_archive_test.go  what must be kept of a divergence
//	sim_trace_test.go    what the model says happens without a rule
//	sim_rules_test.go    ... of each rule
//	sim_apart_test.go    a process of its own for each test
//	sim_round_test.go    what happens
//	sim_end_test.go      how all is healed, and what holds then
//
// All of it follows from a seed but for the order in which goroutines run, which
// an even seed nearly fixes, too (see processors). A failed round prints its seed:
// SEED=n go test -run TestSimulation ./daemon runs it again, ROUNDS=n until it
// fails or as often, LOG=1 with all that nodes log. Without SEED, ROUNDS=n runs
// as many new ones.
type simulation struct {
	dir     string
	seed    uint64
	rand    *rand.Rand // of what happens; owned by round
	network *simNetwork
	policy  Mirroring
	nodes   []*simNode
	pace    time.Duration // the longest pause of a client
	began   time.Time
	clock   atomic.Int64 // of all times that ops set

	mu       sync.Mutex // guards all below
	reigns   []simReign
	waiting  []simHeir
	floor    simCounts // acknowledged, and not to be lost
	history  simHistory
	next     simCounts
	barriers int
	deaths   int
	log      []string
	failed   []string
}

// time is a time for an op to set, later than all before.
func (s *simulation) time() op.Time { return op.Time{Sec: s.clock.Add(1), Nsec: 5} }

func (s *simulation) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%8.3f %s", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...)))
}

func (s *simulation) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(format, args...)
}

func (s *simulation) failLocked(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.failed = append(s.failed, text)
	s.log = append(s.log, fmt.Sprintf("%8.3f FAILED: %s", time.Since(s.began).Seconds(), text))
}

func (s *simulation) died() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths++
}

// logger is where a node logs to.
func (s *simulation) logger(name string) slog.Handler {
	if os.Getenv("LOG") == "" {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(simLog{s, name}, &slog.HandlerOptions{Level: slog.LevelDebug})
}

type simLog struct {
	s    *simulation
	name string
}

// Write takes one line.
func (l simLog) Write(p []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(p)), " ")
	l.s.say("  %s: %s", l.name, text)
	return len(p), nil
}

func (s *simulation) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// pause lasts at most so long.
func (s *simulation) pause(most time.Duration) { time.Sleep(rand.N(most)) }

func peerAt(addr string) mirror.PeerConfig { return mirror.PeerConfig{Addr: addr} }

// newSimulation makes the nodes of a round, which are down.
func newSimulation(dir string, seed uint64) *simulation {
	s := bareSimulation(dir, seed)
	r := s.rand
	s.pace = []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second}[r.IntN(3)]
	nodes := 2 + r.IntN(2)
	s.policy = Mirroring{
		Sync: []mirror.Level{mirror.SyncOp, mirror.SyncBarrier}[r.IntN(2)], MinInSync: r.IntN(nodes),
		OnShortage: []mirror.Shortage{mirror.ShortageBlock, mirror.ShortageFail}[r.IntN(2)],
		AckTimeout: 3 * time.Second, RingBytes: 1 << 20, CheckpointEvery: 2 * time.Second,
	}
	s.makeNodes(nodes)
	s.say("seed %d: %d nodes, sync %s, min_in_sync %d, on_shortage %s, pace %v", seed, nodes, s.policy.Sync, s.policy.MinInSync, s.policy.OnShortage, s.pace)
	return s
}

func bareSimulation(dir string, seed uint64) *simulation {
	return &simulation{
		dir: dir, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), network: newSimNetwork(seed), began: time.Now(), history: newSimHistory(),
	}
}

func (s *simulation) makeNodes(n int) {
	for i := range n {
		s.nodes = append(s.nodes, s.newNode(string(rune('A'+i)), 7000+i))
	}
}

// anyReign returns a process that serves clients as the primary; nil: none does.
func (s *simulation) anyReign(r *rand.Rand) *simProcess {
	var all []*simProcess
	for _, n := range s.nodes {
		if p := n.alive.Load(); p != nil && p.serves() {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[r.IntN(len(all))]
}

// chief is the node that reigns by all that is known.
func (s *simulation) chief() *simNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reigns[len(s.reigns)-1].of
}

// simSeeds are those of the rounds that a test runs.
func simSeeds(t *testing.T, n int) []uint64 {
	read := func(name string) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return 0
		}
		value, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return value
	}
	rounds := int(read("ROUNDS"))
	if seed := read("SEED"); seed > 0 {
		return slices.Repeat([]uint64{seed}, max(rounds, 1))
	}
	if rounds > 0 {
		n = rounds
	}
	first, seeds := uint64(time.Now().UnixNano())%1e9*1e6, make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}

// simulate runs a round, on disks that lie, and returns what failed, with
// everything that happened.
func simulate(t *testing.T, seed uint64, lie func(*simLies)) *simulation {
	return inBubble(t, seed, func(dir string) *simulation {
		s := newSimulation(dir, seed)
		for _, n := range s.nodes {
			if lie != nil {
				n.lie(lie)
			}
		}
		s.round()
		return s
	})
}

// processors is how many a round has: every second one has a single one, on which
// goroutines take turns in nearly the same order each time.
func processors(seed uint64) int {
	if seed%2 == 0 {
		return 1
	}
	return runtime.NumCPU()
}

// inBubble runs a simulation in a bubble of its own.
func inBubble(t *testing.T, seed uint64, run func(dir string) *simulation) *simulation {
	cryptotest.SetGlobalRandom(t, seed) // nodes draw their IDs
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors(seed)))

	// Timers that yamux keeps in a pool must not go from one bubble to the next.
	runtime.GC()
	runtime.GC()
	dir, err := os.MkdirTemp("/dev/shm", "standbyfs-sim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var s *simulation
	synctest.Test(t, func(*testing.T) { s = run(dir) })
	runtime.GC()
	runtime.GC()
	return s
}

// TestSimulation: whatever happens, nothing is lost that was acknowledged, and
// once all is healed all replicas are equal.
func TestSimulation(t *testing.T) {
	if byItself(t) {
		return
	}
	seeds := simSeeds(t, 20)
	began := time.Now()
	barriers, deaths, reigns, promised, kept := 0, 0, 0, 0, 0
	for _, seed := range seeds {
		s := simulate(t, seed, nil)
		barriers, deaths, kept = barriers+s.barriers, deaths+s.deaths, kept+s.history.taken
		for _, r := range s.reigns[1:] {
			if reigns++; r.promised {
				promised++
			}
		}
		if len(s.failed) > 0 || os.Getenv("LOG") != "" {
			t.Logf("SEED=%d:\n%s", seed, strings.Join(s.log, "\n"))
			for _, f := range s.failed {
				t.Errorf("SEED=%d: %s", seed, f)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d rounds from SEED=%d on, %v each: %d barriers acknowledged, %d deaths, %d promotions, of which %d promised everything, %d pieces kept",
		len(seeds), seeds[0], time.Since(began)/time.Duration(len(seeds)), barriers, deaths, reigns, promised, kept)
}

// TestSimulationNotices: the simulation finds out about nodes that break the
// rules.
func TestSimulationNotices(t *testing.T) {
	if byItself(t) {
		return
	}
	for _, broken := range []struct {
		rule string
		lie  func(*simLies)
	}{
		{"no hot set", noHot}, {"one region forgotten", oneRegion}, {"no stale maps", noStale},
		{"acknowledged early", early}, {"joined from the page cache", pageCache}, {"nothing archived", unarchived},
	} {
		t.Run(broken.rule, func(t *testing.T) {
			// Most are noticed in the first ten rounds from here on.
			const first, most = 20, 400
			for seed := uint64(first); seed < first+most; seed++ {
				if s := simulate(t, seed, broken.lie); len(s.failed) > 0 {
					t.Logf("SEED=%d: %s", seed, s.failed[0])
					return
				}
			}
			t.Errorf("not noticed in %d rounds", most)
		})
	}
}
