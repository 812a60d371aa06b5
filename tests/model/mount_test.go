package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// passthrough is harness.Passthrough, and leaves no goroutine.
func passthrough(t *testing.T) (replica, mountpoint string, unmount func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if !t.Failed() {
			goleak.VerifyNone(t, before)
		}
	})
	return harness.Passthrough(t, t.TempDir())
}

// TestPassthrough runs the model against a mount that mirrors nothing.
func TestPassthrough(t *testing.T) {
	replica, mountpoint, unmount := passthrough(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.Mkdir(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	a := arena{plain: plain, judged: mountpoint}
	for _, seed := range seeds(t, 12) {
		a.run(t, seed, options(seed), nil)
	}
	unmount()
	differ, err := Compare(plain, replica, Options{Unwritten: true}.aspects())
	if err != nil {
		t.Fatal(err)
	}
	if len(differ) > 0 {
		t.Errorf("after the mount is gone the replica differs:\n%s", strings.Join(differ, "\n"))
	}
}

// ackTimeout is how long a call waits for a mirror that is away. It is short,
// so that runs go on, and long enough for a busy machine not to expel anybody
// who is there.
const ackTimeout = 300 * time.Millisecond

// cluster returns a primary with mirrors whose mount obeys what the model
// knows of set-user-ID bits and devices.
func cluster(t *testing.T, o harness.Options) *harness.Cluster {
	t.Helper()
	o.Manual = true
	c := harness.NewCluster(t, o)
	c.Primary.Config.Suid, c.Primary.Config.Dev = true, true
	for _, m := range c.Mirrors {
		m.Start(daemon.Mirror)
	}
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(o.Mirrors)
	return c
}

// TestMirrored runs the model against a mount with two mirrors. The cluster
// compares their replicas when the test ends.
func TestMirrored(t *testing.T) {
	for _, sync := range []mirror.Level{mirror.SyncOp, mirror.SyncBarrier} {
		t.Run(string(sync), func(t *testing.T) {
			c := cluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{Sync: sync}})
			a := arena{plain: t.TempDir(), judged: c.Primary.Mountpoint}
			for _, seed := range seeds(t, 4) {
				a.run(t, seed, options(seed), nil)
			}
			for _, p := range c.Primary.Status().Mirroring.Peers {
				if !p.InSync || p.Resyncs != 1 {
					t.Errorf("peer %s: in sync %t after %d resyncs: it must never have left", p.Name, p.InSync, p.Resyncs)
				}
			}
		})
	}
}

// disturbances are what happens to a mirror in the middle of a run. Each is
// given the cluster and the mirror's number, and returns how it ends.
var disturbances = map[string]func(t *testing.T, c *harness.Cluster, i int, r *rand.Rand) (end func()){
	// The connection ends again and again: resumed from the ring.
	"cut": func(t *testing.T, c *harness.Cluster, i int, _ *rand.Rand) func() {
		c.Nets[i].Set(harness.MustFault("cut"))
		return func() { c.Nets[i].Set(harness.Good) }
	},
	"reset": func(t *testing.T, c *harness.Cluster, i int, _ *rand.Rand) func() {
		c.Nets[i].Set(harness.MustFault("reset"))
		return func() { c.Nets[i].Set(harness.Good) }
	},
	"slow": func(t *testing.T, c *harness.Cluster, i int, _ *rand.Rand) func() {
		c.Nets[i].Set(harness.MustFault("delay(3ms) up:slow(2000000)"))
		return func() { c.Nets[i].Set(harness.Good) }
	},
	// The mirror is stopped and comes back: resumed from the ring.
	"restart": func(t *testing.T, c *harness.Cluster, i int, _ *rand.Rand) func() {
		c.Mirrors[i].MustStop()
		return func() { c.Mirrors[i].Start(daemon.Mirror) }
	},
	// It comes back as after a kill: what was hot is compared while the run goes on.
	"kill": func(t *testing.T, c *harness.Cluster, i int, _ *rand.Rand) func() {
		m := c.Mirrors[i]
		m.MustStop()
		edit(t, m, func(s *state.Store) error {
			return s.Update(func(s *state.State) error { s.Stopped = nil; return nil })
		})
		return func() { m.Start(daemon.Mirror) }
	},
	// While it is away somebody spoils its replica, and what it knew is lost:
	// everything is compared.
	"spoil": func(t *testing.T, c *harness.Cluster, i int, r *rand.Rand) func() {
		m := c.Mirrors[i]
		m.MustStop()
		spoil(t, m, r)
		return func() { m.Start(daemon.Mirror) }
	},
}

// spoil makes random changes in a replica, such as no restart would leave
// behind: it runs a sequence of its own in each of its directories.
func spoil(t *testing.T, m *harness.Node, r *rand.Rand) {
	t.Helper()
	edit(t, m, func(s *state.Store) error {
		return s.Regions().Forget(func(also func(*bolt.Tx) error) error {
			return s.Update(func(s *state.State) error { s.Stopped = nil; return nil }, also)
		})
	})
	var dirs []string
	err := filepath.WalkDir(m.Replica, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && len(dirs) < 8 {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		w := NewWorld(dir)
		for _, s := range Generate(r.Uint64(), 40, Options{}) {
			if strings.HasPrefix(s.Path, "run") || s.Path == "." {
				continue
			}
			w.Do(s)
		}
		w.Close()
	}
}

// edit changes what a stopped node durably knows.
func edit(t *testing.T, n *harness.Node, change func(*state.Store) error) {
	t.Helper()
	s, err := state.Open(n.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(s), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDisturbed runs the model while one mirror is away, is slow, or comes back
// with something else, again and again. Nothing of it may show under the mount,
// and in the end both mirrors are equal to the primary.
func TestDisturbed(t *testing.T) {
	for name, disturb := range disturbances {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
			a := arena{plain: t.TempDir(), judged: c.Primary.Mountpoint}
			for _, seed := range seeds(t, 2) {
				r := rand.New(rand.NewPCG(seed, 1))
				end := func() {}
				next, ends := 50+r.IntN(100), -1
				a.run(t, seed, options(seed), func(i int) {
					switch {
					case i == ends:
						end()
						end, ends, next = func() {}, -1, i+50+r.IntN(150)
					case i == next && ends < 0:
						t.Logf("seed %d, step %d: %s", seed, i, name)
						end, ends = disturb(t, c, r.IntN(2), r), i+1+r.IntN(100)
					}
				})
				end()
			}
			c.Primary.WaitInSync(2)
		})
	}
}

// TestAdopted starts a primary on a directory that is not empty, with mirrors
// that join while the model runs.
func TestAdopted(t *testing.T) {
	seed := seeds(t, 1)[0]
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Manual: true, Adopt: func(replica string) {
		for i := range 5 {
			dir := filepath.Join(replica, fmt.Sprintf("old%d", i))
			if err := unix.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			w := NewWorld(dir)
			defer w.Close()
			for _, s := range Generate(seed+uint64(i)+500, 400, Options{Huge: true}) {
				w.Do(s)
			}
		}
	}})
	c.Primary.Config.Suid, c.Primary.Config.Dev = true, true
	c.Primary.Start(daemon.Primary)
	a := arena{plain: t.TempDir(), judged: c.Primary.Mountpoint}
	a.run(t, seed, options(seed), func(i int) {
		switch i {
		case 100:
			c.Mirrors[0].Start(daemon.Mirror)
		case 200:
			c.Mirrors[1].Start(daemon.Mirror)
		}
	})
	c.Primary.WaitInSync(2)
}
