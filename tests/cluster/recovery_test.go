package cluster

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// coldFiles is how many files nobody touches in these tests. A repair that looks
// at more than a few of them did not know where to look.
const coldFiles = 400

// recovery is a cluster whose primary has cold files that were checkpointed.
func recovery(t *testing.T, mirrors, minInSync int) *harness.Cluster {
	t.Helper()
	c := harness.NewCluster(t, harness.Options{Mirrors: mirrors, Processes: true, Mirroring: daemon.Mirroring{MinInSync: minInSync, AckTimeout: ackTimeout}})
	for d := range 10 {
		if err := os.Mkdir(c.Primary.Path(fmt.Sprintf("cold%d", d)), 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range coldFiles / 10 {
			mustWrite(t, c.Primary, fmt.Sprintf("cold%d/%d", d, f), "cold")
		}
	}
	cool(t, c)
	return c
}

// cool waits until nothing is hot any more on any node.
func cool(t *testing.T, c *harness.Cluster) {
	t.Helper()
	for _, n := range c.Nodes() {
		n.Until("nothing is hot", func(s admin.Status) bool { return s.Hot == 0 })
	}
}

// looked is how many paths the last resync of each mirror looked at.
func looked(t *testing.T, primary *harness.Node, name string) int {
	t.Helper()
	events, err := primary.Admin().Events(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	level := regexp.MustCompile(regexp.QuoteMeta(name) + ` is level: (\d+) paths`)
	for i := len(events) - 1; i >= 0; i-- {
		if m := level.FindStringSubmatch(events[i].Text); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s was never brought level", name)
	return 0
}

func equal(t *testing.T, a, b *harness.Node) {
	t.Helper()
	if differ := harness.DifferentReplicas(t, a.Replica, b.Replica); len(differ) > 0 {
		t.Errorf("the replicas of %s and %s differ:\n%s", a.Name, b.Name, strings.Join(differ, "\n"))
	}
}

// A mirror that was killed is compared where it was hot, and nowhere else.
func TestMirrorKilled(t *testing.T) {
	c := recovery(t, 1, 0)
	m := c.Mirrors[0]
	mustWrite(t, c.Primary, "cold0/hot", "before the kill")
	m.Kill()
	mustWrite(t, c.Primary, "cold1/away", "while it is away")
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
	if n := looked(t, c.Primary, m.Name); n > coldFiles/2 {
		t.Errorf("%d paths were looked at", n)
	}
	equal(t, c.Primary, m)
}

// A primary that was killed and starts again compares with its mirror what is
// hot on either side.
func TestPrimaryKilled(t *testing.T) {
	c := recovery(t, 1, 1)
	mustWrite(t, c.Primary, "cold0/hot", "before the kill")
	c.Primary.Kill()
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(1)
	if n := looked(t, c.Primary, c.Mirrors[0].Name); n > coldFiles/2 {
		t.Errorf("%d paths were looked at", n)
	}
	equal(t, c.Primary, c.Mirrors[0])
}

// A long absence is made up for from the primary's map, which survives its own
// restart.
func TestLongAbsence(t *testing.T) {
	c := recovery(t, 1, 0)
	m := c.Mirrors[0]
	m.Kill()
	mustWrite(t, c.Primary, "cold3/away", "while it is away")
	c.Primary.Until("the mirror is out", func(s admin.Status) bool { return len(s.Mirroring.Set) == 0 })
	c.Primary.Until("nothing is hot", func(s admin.Status) bool { return s.Hot == 0 })
	c.Primary.Kill()
	c.Primary.Start(daemon.Primary)
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
	if n := looked(t, c.Primary, m.Name); n > coldFiles/2 {
		t.Errorf("%d paths were looked at", n)
	}
	mustRead(t, m.InReplica("cold3/away"), "while it is away")
	equal(t, c.Primary, m)
}

// While a mirror is away a directory goes, with all that is in it, and an empty
// one comes to its name, with the same times.
func TestEmptyDirectoryInItsPlace(t *testing.T) {
	c := recovery(t, 1, 0)
	m := c.Mirrors[0]
	p := c.Primary.Path
	ways := map[string]func() error{
		"renamed": func() error { return os.Rename(p("renamed/e"), p("renamed/f")) },
		"exchanged": func() error {
			return errors.Join(
				os.WriteFile(p("exchanged/f"), nil, 0o600),
				unix.Renameat2(unix.AT_FDCWD, p("exchanged/e"), unix.AT_FDCWD, p("exchanged/f"), unix.RENAME_EXCHANGE),
				os.Remove(p("exchanged/e")))
		},
		"removed": func() error { return os.RemoveAll(p("removed/e")) },
		"parent":  func() error { return errors.Join(os.Rename(p("parent"), p("moved")), os.Mkdir(p("parent"), 0o755)) },
	}
	for way := range ways {
		must(t, os.MkdirAll(p(way+"/e/sub"), 0o755))
		mustWrite(t, c.Primary, way+"/e/file", "there before")
		mustWrite(t, c.Primary, way+"/e/sub/file", "there before")
	}
	cool(t, c)
	m.Kill()
	for way, change := range ways {
		st, err := os.Stat(p(way + "/e"))
		must(t, err)
		must(t, change())
		must(t, os.Mkdir(p(way+"/e"), 0o755))
		must(t, os.Chtimes(p(way+"/e"), st.ModTime(), st.ModTime()))
	}
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
	equal(t, c.Primary, m)
}

// A deposed primary comes back as a mirror without a full comparison. What it
// did alone is made equal, and what the new primary did is brought.
func TestDeposedReturns(t *testing.T) {
	c := recovery(t, 1, 0)
	old, heir := c.Primary, c.Mirrors[0]
	c.Nets[0].Set(harness.MustFault("stall"))
	mustWrite(t, old, "cold0/alone", "acknowledged by the old one alone")
	old.Kill()
	if err := unix.Unmount(old.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	heir.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: old.Addr}}
	if _, err := heir.Admin().Promote(t.Context(), admin.PromoteRequest{Mountpoint: heir.Mountpoint, Mirrors: []string{old.Addr}, Force: true}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, heir, "cold1/new", "by the new one")
	old.Start(daemon.Mirror)
	heir.WaitInSync(1)
	if n := looked(t, heir, old.Name); n > coldFiles/2 {
		t.Errorf("%d paths were looked at", n)
	}
	if _, err := os.Lstat(old.InReplica("cold0/alone")); !os.IsNotExist(err) {
		t.Errorf("what the old one did alone is still there: %v", err)
	}
	equal(t, heir, old)
}

// After a promotion the other survivor is reconciled by regions, whether it is
// ahead of the new primary or behind it, and so is the old primary when it comes
// back; a restart of the new primary in between loses nothing of that.
func TestSurvivors(t *testing.T) {
	c := recovery(t, 2, 1)
	old, heir, other := c.Primary, c.Mirrors[0], c.Mirrors[1]
	mustWrite(t, old, "cold0/all", "on all")
	c.Nets[1].Set(harness.MustFault("stall"))
	mustWrite(t, old, "cold1/without", "not on the other one")
	c.Nets[0].Set(harness.MustFault("stall"))
	gone := make(chan error, 1)
	go func() { gone <- write(old, "cold2/nowhere", "acknowledged to nobody") }()
	old.Until("it is ordered", func(s admin.Status) bool { return s.Mirroring.LSN > s.Mirroring.Commit })
	old.Kill()
	<-gone // with an error, or none if it was quick: nobody was promised anything
	if err := unix.Unmount(old.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if _, err := heir.Admin().Promote(t.Context(), admin.PromoteRequest{Mountpoint: heir.Mountpoint, Mirrors: []string{other.Addr, old.Addr}}); err != nil {
		t.Fatal(err)
	}
	heir.WaitInSync(1)
	if n := looked(t, heir, other.Name); n > coldFiles/2 {
		t.Errorf("of the survivor %d paths were looked at", n)
	}
	mustWrite(t, heir, "cold3/new", "by the new one")
	heir.Until("nothing is hot", func(s admin.Status) bool { return s.Hot == 0 })
	heir.Kill()
	heir.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: other.Addr}, {Addr: old.Addr}}
	heir.Start(daemon.Primary)
	old.Start(daemon.Mirror)
	heir.WaitInSync(2)
	for _, n := range []*harness.Node{other, old} {
		if looked := looked(t, heir, n.Name); looked > coldFiles/2 {
			t.Errorf("of %s %d paths were looked at", n.Name, looked)
		}
		mustRead(t, n.InReplica("cold1/without"), "not on the other one")
		mustRead(t, n.InReplica("cold3/new"), "by the new one")
		equal(t, heir, n)
	}
}

// A clean restart, of the mirror or of the primary, compares nothing at all.
func TestCleanRestart(t *testing.T) {
	c := recovery(t, 1, 0)
	m := c.Mirrors[0]
	before := c.Primary.Status().Mirroring.Peers[0].Resyncs
	m.MustStop()
	mustWrite(t, c.Primary, "cold0/while", "while it is stopped")
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
	if now := c.Primary.Status().Mirroring.Peers[0]; now.Resyncs != before {
		t.Errorf("the mirror was resynced after a clean restart, %d times", now.Resyncs-before)
	}
	mustWrite(t, c.Primary, "cold0/after", "joined")
	c.Primary.MustStop()
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(1)
	if now := c.Primary.Status().Mirroring.Peers[0]; now.Resyncs != 0 || now.Resumes == 0 {
		t.Errorf("after a clean restart of the primary: %d resyncs, %d resumes", now.Resyncs, now.Resumes)
	}
	mustWrite(t, c.Primary, "cold0/again", "after all")
	mustRead(t, m.InReplica("cold0/again"), "after all")
	equal(t, c.Primary, m)
}
