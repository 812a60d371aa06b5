package cluster

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// TestFirstSyncShowsProgress adopts a directory and brings a mirror level over
// a slow network, while writes go on.
func TestFirstSyncShowsProgress(t *testing.T) {
	const size = 32 << 20
	content := bytes.Repeat([]byte("fifteen letters"), size/15)
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Manual: true, Adopt: func(replica string) {
		if err := os.WriteFile(filepath.Join(replica, "adopted"), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}})
	c.Nets[0].Set(harness.MustFault("up:slow(8000000)"))
	c.Mirrors[0].Start(daemon.Mirror)
	c.Primary.Start(daemon.Primary)
	p := untilPeer(c, 0, "progress", func(p mirror.PeerStatus) bool {
		return p.Resync != nil && p.Resync.Total > 0 && p.Resync.Done > 0 && p.Resync.Done < p.Resync.Total && p.Resync.Rate > 0 && p.Resync.Left > 0
	})
	if p.State != mirror.StateResync || p.InSync {
		t.Errorf("in the middle of its first sync the mirror is %+v", p)
	}
	if r := p.Resync; r.Total != uint64(len(content)) {
		t.Errorf("progress %+v of %d bytes", *r, len(content))
	}
	m := c.Mirrors[0].Until("the resync", func(s admin.Status) bool { return s.Receiving != nil && s.Receiving.Connected })
	if m.InSync || m.Verdict != admin.Degraded {
		t.Errorf("in the middle of its first sync the mirror says in sync %t, %s", m.InSync, m.Verdict)
	}
	mustWrite(t, c.Primary, "during", "the first sync")
	if err := os.Rename(c.Primary.Path("adopted"), c.Primary.Path("renamed")); err != nil {
		t.Fatal(err)
	}
	c.Nets[0].Set(harness.Good)
	c.Primary.WaitInSync(1)
	mustRead(t, c.Mirrors[0].InReplica("during"), "the first sync")
	mustRead(t, c.Mirrors[0].InReplica("renamed"), string(content))
}

// TestConvergesUnderWriter brings a mirror level over a network that is slower
// than a program that writes all the time.
func TestConvergesUnderWriter(t *testing.T) {
	content := bytes.Repeat([]byte("sixteen letters."), 1<<20)
	c := harness.NewCluster(t, harness.Options{
		Mirrors: 1, Manual: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout, RingBytes: 32 << 20},
		Adopt: func(replica string) {
			if err := os.WriteFile(filepath.Join(replica, "adopted"), content, 0o640); err != nil {
				t.Fatal(err)
			}
		},
	})
	c.Primary.Start(daemon.Primary)
	file, err := os.Create(c.Primary.Path("written"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ended, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	defer writer.Wait()
	defer stop()
	writer.Go(func() {
		for n := int64(0); ended.Err() == nil; n++ {
			if _, err := file.WriteAt(content[:1<<20], n%8<<20); err != nil {
				t.Error(err)
				return
			}
		}
	})
	c.Nets[0].Set(harness.MustFault("up:slow(20000000)"))
	c.Mirrors[0].Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
}

// TestPause holds up a first sync: changes go on to reach the mirror, nothing
// else does, also after the mirror has reconnected and the primary has
// restarted, until it is resumed.
func TestPause(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Manual: true, Processes: true, Adopt: func(replica string) {
		if err := os.WriteFile(filepath.Join(replica, "adopted"), []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
	}})
	command := func(code int, args ...string) harness.Result {
		t.Helper()
		r := harness.Command(t, append([]string{"resync"}, args...)...)
		if r.Code != code {
			t.Errorf("resync %q: exit code %d, want %d: %s", args, r.Code, code, r.Stderr)
		}
		return r
	}
	m := c.Mirrors[0]
	c.Primary.Start(daemon.Primary)
	says(t, command(0, "pause", c.Primary.Replica, c.Nets[0].Addr()).Stdout, "paused")
	c.Mirrors[1].Start(daemon.Mirror)
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1) // the other one

	held := func(round string) {
		t.Helper()
		resyncs := func(p mirror.PeerStatus) bool { return p.Connected && p.Resync != nil }
		untilPeer(c, 0, "a resync", resyncs)
		mustWrite(t, c.Primary, round, "live")
		harness.Eventually(t, "a change reaches the paused mirror", func() bool {
			text, err := os.ReadFile(m.InReplica(round))
			return err == nil && string(text) == "live"
		})
		p := untilPeer(c, 0, "a resync", resyncs)
		if !p.Paused || p.InSync || p.Resync.Sent != 0 {
			t.Errorf("%s: the mirror is %+v, its resync %+v", round, p, p.Resync)
		}
		if _, err := os.Stat(m.InReplica("adopted")); err == nil {
			t.Errorf("%s: what the mirror lacks was sent", round)
		}
		s := c.Primary.Status()
		says(t, s.Summary(), "degraded", "paused by the operator")
	}
	held("paused")
	c.Nets[0].Set(harness.MustFault("cut"))
	untilPeer(c, 0, "the cut", func(p mirror.PeerStatus) bool { return !p.Connected })
	c.Nets[0].Set(harness.Good)
	held("reconnected")
	c.Primary.MustStop()
	c.Primary.Start(daemon.Primary)
	held("restarted")

	says(t, command(1, "resume", c.Primary.Replica, "nobody").Stderr, "nobody", m.Name)
	command(2, "resume", m.Replica)
	says(t, command(0, "resume", c.Primary.Mountpoint, m.Name).Stdout, m.Name, "go on")
	c.Primary.WaitInSync(2)
	mustRead(t, m.InReplica("adopted"), "content")
	if s := c.Primary.Status(); s.Verdict != admin.Healthy {
		t.Errorf("after it was resumed: %s", s.Summary())
	}
}

// TestFallsOffTheRing keeps a mirror away for longer than the ring remembers:
// what differs is found by comparing, and only that is sent.
func TestFallsOffTheRing(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout, RingBytes: 4 << 20}})
	mustWrite(t, c.Primary, "same", strings.Repeat("s", 8<<20))
	before := peer(c.Primary.Status(), c.Nets[0].Addr())
	c.Nets[0].Set(harness.MustFault("cut"))
	for _, name := range []string{"one", "two", "three"} {
		mustWrite(t, c.Primary, name, strings.Repeat(name, 800_000))
	}
	c.Nets[0].Set(harness.Good)
	c.Primary.WaitInSync(1)
	after := peer(c.Primary.Status(), c.Nets[0].Addr())
	if after.Resyncs != before.Resyncs+1 {
		t.Errorf("before %d resyncs, after %d", before.Resyncs, after.Resyncs)
	}
	mustRead(t, c.Mirrors[0].InReplica("three"), strings.Repeat("three", 800_000))
}

// TestPrimaryRestartExpelsWhoIsAway restarts a primary while its mirror is
// away. The mirror is still in the set, so nothing is acknowledged until it is
// back or expelled.
func TestPrimaryRestartExpelsWhoIsAway(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	node := c.Mirrors[0].Status().Node
	c.Primary.MustStop()
	if s := stateOf(t, c.Primary); len(s.Set) != 1 || s.Set[0] != node {
		t.Fatalf("after a clean stop the set is %v, want the mirror in it", s.Set)
	}
	c.Nets[0].Set(harness.MustFault("cut"))
	c.Primary.Start(daemon.Primary)
	mustWrite(t, c.Primary, "file", "alone")
	if s := c.Primary.Status(); len(s.Mirroring.Set) != 0 {
		t.Errorf("a call has returned and the set is %v", s.Mirroring.Set)
	}
	c.Nets[0].Set(harness.Good)
	c.Primary.WaitInSync(1)
	mustRead(t, c.Mirrors[0].InReplica("file"), "alone")
}

// TestMirrorRemembersResync restarts a mirror in the middle of a resync: it
// must not believe to be in sync.
func TestMirrorRemembersResync(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Manual: true, Processes: true, Adopt: func(replica string) {
		if err := os.WriteFile(filepath.Join(replica, "adopted"), make([]byte, 0), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(replica, "big"), bytes.Repeat([]byte("b"), 8<<20), 0o640); err != nil {
			t.Fatal(err)
		}
	}})
	m := c.Mirrors[0]
	c.Nets[0].Set(harness.MustFault("up:slow(2000000)"))
	m.Start(daemon.Mirror)
	c.Primary.Start(daemon.Primary)
	untilPeer(c, 0, "a resync", func(p mirror.PeerStatus) bool { return p.Resync != nil && p.Resync.Sent > 1<<20 })
	m.Kill()
	if s := stateOf(t, m); s.InSync {
		t.Error("killed in the middle of a resync, it is in sync")
	}
	c.Nets[0].Set(harness.Good)
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
}

var cutsFlag = flag.Int("cuts", 8, "how many sessions TestCutAnywhere ends early, in each direction")

// TestCutAnywhere ends the connections after some number of bytes, somewhere
// between the first hello and a little after the join: wherever that is, the
// mirror gets in sync as soon as the network is good.
func TestCutAnywhere(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m, net := c.Mirrors[0], c.Nets[0]
	mustWrite(t, c.Primary, "file", strings.Repeat("f", 3000))
	for _, direction := range []string{"up", "down"} {
		for range *cutsFlag {
			n := 1 + rand.IntN(5000)
			m.MustStop()
			net.Set(harness.MustFault(fmt.Sprintf("%s:close(%d)", direction, n)))
			before := net.Conns()
			m.Start(daemon.Mirror)
			harness.Eventually(t, "a session to end, or to be good enough", func() bool {
				return net.Conns() > before+1 || peer(c.Primary.Status(), net.Addr()).InSync
			})
			net.Set(harness.Good)
			c.Primary.WaitInSync(1)
			mustWrite(t, c.Primary, "file", fmt.Sprint(direction, n))
			mustRead(t, m.InReplica("file"), fmt.Sprint(direction, n))
			if t.Failed() {
				t.Fatalf("after %s:close(%d)", direction, n)
			}
		}
	}
}
