package cluster

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/model"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// TestRandomKills kills any node at random moments while a random program works
// on the mount. A primary starts again, or a mirror takes over and it comes back
// as a mirror. After each all replicas are equal. ROUNDS=300 kills as often,
// SEED repeats a run's choices. (The simulation in package daemon does the same
// without processes, a thousand times as often.)
func TestRandomKills(t *testing.T) {
	r := rand.New(rand.NewPCG(seed.New(t), 0))
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout, CheckpointEvery: time.Second}})
	nodes, primary := c.Nodes(), c.Primary
	for round := range harness.Number("ROUNDS", 4) {
		work := begin(primary.Mountpoint, r.Uint64(), uint64(r.IntN(400)))
		<-work.far
		victim := nodes[r.IntN(len(nodes))]
		takeOver := r.IntN(2) == 0
		t.Logf("round %d: %s is killed, the primary is %s, a mirror takes over: %v", round, victim.Name, primary.Name, takeOver)
		victim.Kill()
		switch {
		case victim != primary:
			<-work.farther
			victim.Start(daemon.Mirror)
			work.end()
		case !takeOver:
			work.end()
			victim.Start(daemon.Primary)
		default:
			work.end()
			primary = promoteInstead(t, nodes, victim, r)
		}
		primary.WaitInSync(len(nodes) - 1)
		for _, n := range nodes {
			if n == primary {
				continue
			}
			var differ []string
			// Times of files that nobody closed travel once these are idle.
			harness.Eventually(t, "the replicas of "+primary.Name+" and "+n.Name+" are equal", func() bool {
				differ = harness.DifferentReplicas(t, primary.Replica, n.Replica)
				return len(differ) == 0
			}, func() string { return strings.Join(differ, "\n") })
		}
	}
}

// promoteInstead has one of the others take over from a killed primary, which
// comes back as a mirror.
func promoteInstead(t *testing.T, nodes []*harness.Node, old *harness.Node, r *rand.Rand) *harness.Node {
	t.Helper()
	if err := unix.Unmount(old.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	heir := old
	for heir == old {
		heir = nodes[r.IntN(len(nodes))]
	}
	heir.Config.Mirror.Peers = nil
	var addrs []string
	for _, n := range nodes {
		if n != heir {
			addrs = append(addrs, n.Addr)
			heir.Config.Mirror.Peers = append(heir.Config.Mirror.Peers, mirror.PeerConfig{Addr: n.Addr})
		}
	}
	if _, err := heir.Admin().Promote(t.Context(), admin.PromoteRequest{Mountpoint: heir.Mountpoint, Mirrors: addrs, Force: true}); err != nil {
		t.Fatalf("promote %s: %v", heir.Name, err)
	}
	old.Start(daemon.Mirror)
	return heir
}

// work is a random program.
type work struct {
	far, farther chan struct{} // closed after some steps, and as many again
	stop         chan struct{}
	runs         sync.WaitGroup
}

func begin(mountpoint string, seed, steps uint64) *work {
	w := &work{far: make(chan struct{}), farther: make(chan struct{}), stop: make(chan struct{})}
	w.runs.Go(func() {
		world := model.NewWorld(mountpoint)
		defer world.Close()
		for i, s := range model.Generate(seed, 100_000, model.Options{}) {
			switch uint64(i) {
			case steps:
				close(w.far)
			case 2*steps + 1:
				close(w.farther)
			}
			select {
			case <-w.stop:
				return
			default:
				world.Do(s) // its errors are its own, also those of a mount that is gone
			}
		}
	})
	return w
}

func (w *work) end() {
	close(w.stop)
	w.runs.Wait()
}
