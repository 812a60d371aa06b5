package model

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// threads is how many sequences run at once in the parallel tests.
const threads = 6

// crowd runs several sequences at once in the same directory and returns when
// all have ended: some by threads of this process, some by a crew each.
// Whoever comes first is left to chance, so there is no model: what counts is
// that everybody sees the same in the end.
func crowd(t *testing.T, dir string, seed uint64) {
	t.Helper()
	reachable(t)
	var all sync.WaitGroup
	for i := range uint64(threads) {
		o := Options{Crew: i%2 == 1}
		a, err := newActor(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer a.Close()
			for _, s := range Generate(seed*threads+i, *opsFlag, o) {
				a.Do(s)
			}
		})
	}
	all.Wait()
}

// TestParallelPassthrough compares what a mount shows, after many threads had
// their way, with what its replica holds.
func TestParallelPassthrough(t *testing.T) {
	replica, mountpoint, unmount := passthrough(t)
	for _, seed := range seeds(t, 3) {
		crowd(t, mountpoint, seed)
	}
	seen, err := harness.ReadSnapshot(mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	unmount()
	held, err := harness.ReadSnapshot(replica)
	if err != nil {
		t.Fatal(err)
	}
	if differ := harness.Differences(seen, held, harness.Aspects{}); len(differ) > 0 {
		t.Errorf("the mount shows one thing and the replica holds another:\n%s", strings.Join(differ, "\n"))
	}
}

// TestParallelMirrored lets many threads work on the same names, first with two
// good mirrors and then while one of them comes and goes. The cluster compares
// the replicas in the end.
func TestParallelMirrored(t *testing.T) {
	for _, level := range []mirror.Level{mirror.SyncOp, mirror.SyncBarrier} {
		t.Run(string(level), func(t *testing.T) {
			seed := seeds(t, 1)[0]
			c := cluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{Sync: level}})
			dir := c.Primary.Path("shared")
			if err := unix.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			crowd(t, dir, seed)
			for _, p := range c.Primary.Status().Mirroring.Peers {
				if !p.InSync || p.Resyncs != 1 {
					t.Errorf("peer %s: in sync %t after %d resyncs: it must never have left", p.Name, p.InSync, p.Resyncs)
				}
			}

			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for i := range uint64(3) {
					crowd(t, dir, seed+100+i)
				}
			}()
			defer func() { <-ended }()
			r := rand.New(rand.NewPCG(seed, 2))
			for round := 0; ; round++ {
				select {
				case <-ended:
					c.Primary.WaitInSync(2)
					t.Logf("%d restarts of a mirror", round)
					return
				default:
				}
				m := c.Mirrors[r.IntN(2)]
				m.MustStop()
				if round%2 == 1 {
					spoil(t, m, r)
				}
				// A process that a crew is just starting has, for a moment, a copy of
				// the descriptor that the mirror's directory was locked by.
				harness.Eventually(t, "the mirror to start again", func() bool { return m.TryStart(daemon.Mirror) == nil })
				c.Primary.WaitInSync(2)
			}
		})
	}
}

// TestParallelFromManyDirectories lets each thread work in a directory of its
// own and now and then throw it over the fence into another's.
func TestParallelFromManyDirectories(t *testing.T) {
	seed := seeds(t, 1)[0]
	c := cluster(t, harness.Options{Mirrors: 2})
	var all sync.WaitGroup
	for i := range threads {
		dir := fmt.Sprintf("thread%d", i)
		if err := unix.Mkdir(c.Primary.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			w := NewWorld(c.Primary.Path(dir))
			defer w.Close()
			for k, s := range Generate(seed+uint64(i), *opsFlag, Options{}) {
				w.Do(s)
				if k%20 == 0 {
					from := c.Primary.Path(dir + "/" + [...]string{"a", "b", "x", "y"}[r.IntN(4)])
					to := c.Primary.Path(fmt.Sprintf("thread%d/%s", r.IntN(threads), [...]string{"a", "b", "x", "y"}[r.IntN(4)]))
					unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, [...]uint{0, unix.RENAME_EXCHANGE}[r.IntN(2)])
				}
			}
		})
	}
	all.Wait()
}
