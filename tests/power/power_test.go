package power

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// driveSize has room for a journal and for all rounds.
const driveSize = 96 << 20

// world is a cluster whose nodes change places.
type world struct {
	t       *testing.T
	c       *harness.Cluster
	random  *rand.Rand
	primary *harness.Node
}

func newWorld(t *testing.T, level mirror.Level, mirrors int) *world {
	drives := map[string]int64{"primary": driveSize}
	for i := range mirrors {
		drives[fmt.Sprintf("mirror%d", i+1)] = driveSize
	}
	c := harness.NewCluster(t, harness.Options{
		Mirrors: mirrors, Processes: true, Manual: true, Drives: drives, Mirroring: daemon.Mirroring{Sync: level},
	})
	// The seed repeats who loses power and when, what drives keep, what writers do.
	w := &world{t: t, c: c, random: rand.New(rand.NewPCG(seed.New(t), 0)), primary: c.Primary}
	// Past the proxies of this process: writers' threads have copies of its
	// descriptors, and a copy of a connection keeps that from ending.
	for _, n := range c.Mirrors {
		w.start(n, daemon.Mirror)
	}
	w.start(c.Primary, daemon.Primary)
	c.Primary.WaitInSync(mirrors)
	return w
}

// others returns all nodes but the primary.
func (w *world) others() []*harness.Node {
	return slices.DeleteFunc(w.c.Nodes(), func(n *harness.Node) bool { return n == w.primary })
}

// start starts a node in a role, with all others as its mirrors if it is the
// primary.
func (w *world) start(n *harness.Node, role daemon.Role) {
	w.t.Helper()
	n.Config.Mirror.Peers, n.Config.Mirror.MinInSync = nil, 0
	if role == daemon.Primary {
		n.Config.Mirror.Peers, n.Config.Mirror.MinInSync = w.peers(), 1
	}
	n.Start(role)
}

func (w *world) peers() []mirror.PeerConfig {
	var peers []mirror.PeerConfig
	for _, n := range w.others() {
		peers = append(peers, mirror.PeerConfig{Addr: n.Addr})
	}
	return peers
}

// victims chooses who loses power.
func (w *world) victims() []*harness.Node {
	for {
		var chosen []*harness.Node
		for _, n := range w.c.Nodes() {
			if w.random.IntN(2) == 0 {
				chosen = append(chosen, n)
			}
		}
		if len(chosen) > 0 {
			return chosen
		}
	}
}

// round writes, cuts, looks at what is left, and brings everything level again.
func (w *world) round(number int) {
	w.t.Helper()
	r := w.write(number)
	victims := w.victims()
	w.c.LosePower(w.random.Uint64(), victims...)
	dead := slices.Contains(victims, w.primary)
	r.hold()
	w.c.PowerOn(victims...)
	looked := victims
	if dead {
		// Those that go on have applied what they have heard, and may take over.
		looked = w.c.Nodes()
		for _, n := range looked {
			if !slices.Contains(victims, n) {
				n.Until("the session to end", disconnected)
			}
		}
	}
	if wrong := r.check(looked); len(wrong) > 0 {
		w.t.Fatalf("round %d: after the power cut:\n%s", number, strings.Join(wrong, "\n"))
	}
	took := "goes on"
	if dead {
		if err := r.group.Wait(); err == nil {
			w.t.Error("the primary is dead, and no writer has noticed")
		}
		took = w.succeed(victims)
	} else {
		for _, n := range victims {
			w.start(n, daemon.Mirror)
		}
	}
	w.primary.WaitInSync(len(w.others()))
	r.stop()
	if err := r.group.Wait(); err != nil && !dead {
		w.t.Errorf("round %d: a writer on a primary that has power: %v", number, err)
	}
	w.equal(number)
	names := make([]string, len(victims))
	for i, n := range victims {
		names[i] = n.Name
	}
	w.t.Logf("round %d: %s lost power; %s %s", number, strings.Join(names, ", "), w.primary.Name, took)
}

// run is the writers of one round.
type run struct {
	writers []*writer
	group   errgroup.Group
	stop    context.CancelFunc
	held    []promises // of each writer, as of the cut
}

// write starts writers and returns after a while.
func (w *world) write(round int) *run {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	r := &run{stop: stop}
	var ready sync.WaitGroup
	for i := range 2 {
		wr := newWriter(w.primary.Mountpoint, fmt.Sprintf("round%d-%d", round, i), rand.New(rand.NewPCG(w.random.Uint64(), 0)))
		r.writers = append(r.writers, wr)
		ready.Add(1)
		r.group.Go(func() error { return wr.run(ctx, ready.Done) })
	}
	ready.Wait()
	// The instant of a cut may be any, so it is by the clock.
	time.Sleep(time.Duration(30+w.random.IntN(300)) * time.Millisecond)
	return r
}

// hold remembers what was promised until now.
func (r *run) hold() {
	for _, wr := range r.writers {
		r.held = append(r.held, wr.held())
	}
}

// check returns in what nodes' replicas break the promises.
func (r *run) check(nodes []*harness.Node) []string {
	var wrong []string
	for _, n := range nodes {
		for i, wr := range r.writers {
			wrong = append(wrong, r.held[i].check(n.InReplica(wr.name))...)
		}
	}
	return wrong
}

// disconnected says that a mirror has applied all that it will hear of its dead
// primary.
func disconnected(s admin.Status) bool { return s.Receiving != nil && !s.Receiving.Connected }

// succeed gives the volume a primary after the power cut of the last one: the
// same, or a mirror.
func (w *world) succeed(victims []*harness.Node) string {
	w.t.Helper()
	old, mirrors := w.primary, w.others()
	for _, n := range victims {
		if n != old {
			w.start(n, daemon.Mirror)
		}
	}
	if w.random.IntN(2) == 0 {
		w.start(old, daemon.Primary)
		return "starts again"
	}
	w.primary = mirrors[w.random.IntN(len(mirrors))]
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	request := admin.PromoteRequest{Mountpoint: w.primary.Mountpoint}
	for _, p := range w.peers() {
		request.Mirrors = append(request.Mirrors, p.Addr)
	}
	if _, err := w.primary.Admin().Promote(ctx, request); err != nil {
		w.t.Fatalf("promoting %s after the power cut: %v", w.primary.Name, err)
	}
	w.start(old, daemon.Mirror)
	return "is promoted"
}

// equal compares every replica with the primary's.
func (w *world) equal(round int) {
	w.t.Helper()
	report, err := w.primary.Admin().Verify(w.t.Context())
	if err != nil {
		w.t.Fatalf("round %d: verify: %v", round, err)
	}
	for _, p := range report.Peers {
		if !p.Checked || len(p.Differences) > 0 {
			w.t.Errorf("round %d: after the resync %s differs: %+v", round, p.Name, p)
		}
	}
}

// clear removes all that was written. Every round has compared it; the cluster
// compares once more in the end, and holes too. But where a power cut has left
// an extent that was never written, ext4 tells a hole from data by what is in
// the page cache.
func (w *world) clear() {
	w.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.primary.Mountpoint, "round*"))
	if err != nil || len(dirs) == 0 {
		w.t.Fatalf("what was written: %q, %v", dirs, err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestPowerLoss cuts the power of any nodes at random instants. ROUNDS is how
// often.
func TestPowerLoss(t *testing.T) {
	for _, tt := range []struct {
		level   mirror.Level
		mirrors int
	}{{mirror.SyncOp, 1}, {mirror.SyncBarrier, 2}} {
		t.Run(fmt.Sprintf("%s-%d", tt.level, tt.mirrors), func(t *testing.T) {
			w := newWorld(t, tt.level, tt.mirrors)
			for i := range harness.Number("ROUNDS", 8) {
				w.round(i)
			}
			w.clear()
		})
	}
}

// TestLyingDrives lets drives answer flushes that they do not do. A test that
// finds nothing wrong then would find nothing ever.
func TestLyingDrives(t *testing.T) {
	for i := range 10 {
		w := newWorld(t, mirror.SyncOp, 1)
		for _, d := range w.c.Drives {
			d.Plan("flush: OK")
		}
		r := w.write(i)
		w.c.LosePower(w.random.Uint64(), w.c.Nodes()...)
		r.hold()
		_ = r.group.Wait() // whatever they say of a dead mount
		for _, d := range w.c.Drives {
			if err := d.PowerOn(); err != nil {
				t.Logf("found, as it must be: %v", err)
				return
			}
		}
		if wrong := r.check(w.c.Nodes()); len(wrong) > 0 {
			t.Logf("found, as it must be: %s", wrong[0])
			return
		}
	}
	t.Error("drives lose what was synced, and nothing is found wrong")
}
