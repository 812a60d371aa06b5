package cluster

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// TestExpelsSilentMirror stalls the network: the call that waits returns only
// when the mirror is out of the set, and the status says so right then.
func TestExpelsSilentMirror(t *testing.T) {
	for _, fault := range []string{"stall", "down:stall", "up:blackhole", "cut"} {
		t.Run(fault, func(t *testing.T) {
			c := harness.NewCluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
			c.Nets[0].Set(harness.MustFault(fault))
			mustWrite(t, c.Primary, "file", "acknowledged without mirror1")
			s := c.Primary.Status()
			if p := peer(s, c.Nets[0].Addr()); p.InSync || len(s.Mirroring.Set) != 1 {
				t.Fatalf("the call has returned and the set is still %v: %+v", s.Mirroring.Set, p)
			}
			if s.Verdict != admin.Degraded || len(s.Reasons) == 0 {
				t.Errorf("the primary is %s: %q", s.Verdict, s.Reasons)
			} else {
				says(t, s.Reasons[0], "mirror1", "not in sync")
			}
			c.Primary.UntilEvent("expelled", func(e admin.Event) bool {
				return e.Kind == "expelled" && strings.Contains(e.Text, "mirror1")
			})
			mustRead(t, c.Mirrors[1].InReplica("file"), "acknowledged without mirror1")
			c.Nets[0].Set(harness.Good)
			c.Primary.WaitInSync(2)
			mustRead(t, c.Mirrors[0].InReplica("file"), "acknowledged without mirror1")
		})
	}
}

// TestShortInterruptionResumes cuts the connection and lets it come back in
// time: the mirror stays in the set and nothing is compared.
func TestShortInterruptionResumes(t *testing.T) {
	for _, fault := range []string{"cut", "reset"} {
		t.Run(fault, func(t *testing.T) {
			c := harness.NewCluster(t, harness.Options{Mirrors: 1})
			before := peer(c.Primary.Status(), c.Nets[0].Addr())
			wrote := make(chan error, 1)
			c.Nets[0].Set(harness.MustFault(fault))
			go func() { wrote <- write(c.Primary, "file", "written while away") }()
			untilPeer(c, 0, "the session to end", func(p mirror.PeerStatus) bool { return !p.Connected })
			c.Nets[0].Set(harness.Good)
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			after := peer(c.Primary.Status(), c.Nets[0].Addr())
			if !after.InSync || after.Resumes != before.Resumes+1 || after.Resyncs != before.Resyncs {
				t.Errorf("before %d resumes, %d resyncs; after %+v", before.Resumes, before.Resyncs, after)
			}
			mustRead(t, c.Mirrors[0].InReplica("file"), "written while away")
		})
	}
}

// TestExpelledResumesFromTheRing lets a mirror stay away until it is expelled.
// Its process and the ring still know everything.
func TestExpelledResumesFromTheRing(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	before := peer(c.Primary.Status(), c.Nets[0].Addr())
	c.Nets[0].Set(harness.MustFault("cut"))
	mustWrite(t, c.Primary, "file", "written alone")
	c.Nets[0].Set(harness.Good)
	c.Primary.WaitInSync(1)
	if after := peer(c.Primary.Status(), c.Nets[0].Addr()); after.Resyncs != before.Resyncs {
		t.Errorf("it was resynced: %+v", after)
	}
	mustRead(t, c.Mirrors[0].InReplica("file"), "written alone")
}

// TestBlocksBelowMinInSync: calls wait until there are mirrors enough.
func TestBlocksBelowMinInSync(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout, MinInSync: 1}})
	c.Nets[0].Set(harness.MustFault("cut"))
	wrote := make(chan error, 1)
	go func() { wrote <- write(c.Primary, "file", "patient") }()
	s := c.Primary.Until("a shortage", func(s admin.Status) bool { return s.Mirroring.Shortage })
	if s.Verdict != admin.Degraded {
		t.Errorf("in a shortage the primary is %s", s.Verdict)
	}
	says(t, strings.Join(s.Reasons, "\n"), "shortage: 0 mirrors in sync, min_in_sync is 1", "not acknowledged")
	select {
	case err := <-wrote:
		t.Fatalf("the call returned %v in a shortage", err)
	case <-time.After(2 * ackTimeout):
	}
	c.Nets[0].Set(harness.Good)
	if err := <-wrote; err != nil {
		t.Fatalf("after the shortage the call returned %v", err)
	}
	mustRead(t, c.Mirrors[0].InReplica("file"), "patient")
	c.Primary.WaitInSync(1)
}

// TestFailsBelowMinInSync: calls fail until there are mirrors enough.
func TestFailsBelowMinInSync(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{
		AckTimeout: ackTimeout, MinInSync: 1, OnShortage: mirror.ShortageFail,
	}})
	c.Nets[0].Set(harness.MustFault("cut"))
	if err := write(c.Primary, "waited", "for ack_timeout"); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the call that found out returned %v, want %v", err, syscall.EIO)
	}
	if err := write(c.Primary, "refused", "at once"); !errors.Is(err, syscall.EIO) {
		t.Fatalf("a call in a shortage returned %v, want %v", err, syscall.EIO)
	}
	if _, err := os.Stat(c.Primary.InReplica("refused")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the call that failed has left something behind: %v", err)
	}
	c.Nets[0].Set(harness.Good)
	c.Primary.WaitInSync(1)
	mustWrite(t, c.Primary, "after", "the shortage")
	mustRead(t, c.Mirrors[0].InReplica("after"), "the shortage")
}

// diskSize is small enough to be filled quickly and large enough for ext4.
const diskSize = 24 << 20

// fill writes files under a node's mount until that fails, and returns the
// error.
func fill(n *harness.Node, limit int) error {
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i*7 + i>>8)
	}
	f, err := os.Create(n.Path("big"))
	if err != nil {
		return err
	}
	defer f.Close()
	for range limit {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return f.Sync()
}

// TestMirrorDiskFull: the mirror leaves the set with that reason, the primary
// goes on, and the mirror comes back when there is room.
func TestMirrorDiskFull(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Disks: map[string]harness.DiskOptions{"mirror1": {Size: diskSize}}})
	mustWrite(t, c.Primary, "small", "before")
	ballast := c.Disks["mirror1"].Fill()
	if err := fill(c.Primary, 2); err != nil {
		t.Fatalf("the primary has room, but a write fails: %v", err)
	}
	p := untilPeer(c, 0, "the full mirror to leave", func(p mirror.PeerStatus) bool {
		return !p.InSync && strings.Contains(p.Reason, "disk full")
	})
	t.Logf("reason: %s", p.Reason)
	s := c.Mirrors[0].Until("not in sync", func(s admin.Status) bool { return !s.InSync })
	t.Logf("the mirror says: %s: %q", s.Why, s.Reasons)
	mustWrite(t, c.Primary, "small", "after")
	mustRead(t, c.Mirrors[1].InReplica("small"), "after")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.Primary.WaitInSync(2)
}

// TestMirrorDiskFails: the kernel turns the file system under the replica
// read-only.
func TestMirrorDiskFails(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Disks: map[string]harness.DiskOptions{"mirror1": {Size: diskSize, ReplicaOnly: true}}})
	mustWrite(t, c.Primary, "small", "before")
	c.Disks["mirror1"].Fail()
	mustWrite(t, c.Primary, "small", "after")
	p := untilPeer(c, 0, "the failing mirror to leave", func(p mirror.PeerStatus) bool {
		return !p.InSync && (strings.Contains(p.Reason, "read-only") || strings.Contains(p.Reason, "disk failing"))
	})
	t.Logf("reason: %s", p.Reason)
	if s := c.Mirrors[0].Status(); s.InSync {
		t.Error("the mirror believes to be in sync")
	}
	mustRead(t, c.Mirrors[1].InReplica("small"), "after")
}

// TestPrimaryDiskFull: the caller gets the errno, and replicas stay equal.
func TestPrimaryDiskFull(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Disks: map[string]harness.DiskOptions{"primary": {Size: diskSize, ReplicaOnly: true}}})
	mustWrite(t, c.Primary, "small", "before")
	if err := fill(c.Primary, 64); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk ends with %v, want %v", err, syscall.ENOSPC)
	}
	// Names need room as well, sooner or later.
	for i := range 20000 {
		err := os.Mkdir(c.Primary.Path(fmt.Sprintf("directory-%d", i)), 0o755)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatalf("mkdir on a full disk: %v", err)
		}
	}
	// A write that fails sets the file's time all the same.
	small, err := os.OpenFile(c.Primary.Path("small"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = small.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing to a full disk: %v, want %v", err, syscall.ENOSPC)
	}
	if _, err := small.Write(make([]byte, 4096)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing to a full disk once more: %v, want %v", err, syscall.ENOSPC)
	}
	if err := small.Close(); err != nil {
		t.Fatal(err)
	}
	c.Primary.WaitInSync(2)
	if err := os.Remove(c.Primary.Path("big")); err != nil {
		t.Fatal(err)
	}
	// The disk's file system frees blocks in its own time.
	harness.Eventually(t, "room again", func() bool { return write(c.Primary, "room", "again") == nil })
	for _, p := range c.Primary.Status().Mirroring.Peers {
		if !p.InSync || p.Resyncs != 1 {
			t.Errorf("mirror %s suffered from the primary's full disk: %+v", p.Name, p)
		}
	}
}

// TestLocalRulesAndAsyncMirrors: what a rule keeps local never travels, and
// nobody waits for an async mirror.
func TestLocalRulesAndAsyncMirrors(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{
		Rules: []mirror.Rule{{Match: "*.tmp", Sync: mirror.SyncLocal}},
		Peers: []mirror.PeerConfig{{}, {Async: true}},
	}})
	untilPeer(c, 1, "the async mirror to be level", func(p mirror.PeerStatus) bool { return p.State == mirror.StateAsync })
	c.Nets[1].Set(harness.MustFault("stall"))
	mustWrite(t, c.Primary, "scratch.tmp", "local")
	mustWrite(t, c.Primary, "kept", "mirrored")
	mustWrite(t, c.Primary, "late.tmp", "becomes mirrored")
	if err := os.Rename(c.Primary.Path("late.tmp"), c.Primary.Path("late")); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c.Mirrors[0].InReplica("kept"), "mirrored")
	mustRead(t, c.Mirrors[0].InReplica("late"), "becomes mirrored")
	if names, err := harness.ReadNames(c.Mirrors[0].Replica); err != nil || strings.Contains(strings.Join(names, " "), ".tmp") {
		t.Errorf("the mirror holds %q, %v", names, err)
	}
	c.Nets[1].Set(harness.Good)
	harness.Eventually(t, "the async mirror to follow", func() bool {
		text, err := os.ReadFile(c.Mirrors[1].InReplica("late"))
		return err == nil && string(text) == "becomes mirrored"
	})
	// What is local is not a difference.
	for _, p := range verify(t, c.Primary).Peers {
		if !p.Checked || len(p.Differences) > 0 {
			t.Errorf("verify: %+v", p)
		}
	}
	// But the comparison at the end of the test knows of no rules.
	if err := os.Remove(c.Primary.Path("scratch.tmp")); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c.Primary, "last", "sets the directory's time")
}
