package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// interrupted is a cluster whose primary is lost while its mirror is brought
// level. before is what the mirror had when that began.
func interrupted(t *testing.T, kind string) (c *harness.Cluster, before harness.Snapshot) {
	t.Helper()
	c = harness.NewCluster(t, harness.Options{
		Mirrors: 1, Mirroring: daemon.Mirroring{RingBytes: 4 << 20},
		Disks: map[string]harness.DiskOptions{"mirror1": {Size: 400 << 20, Kind: kind}},
	})
	m, net := c.Mirrors[0], c.Nets[0]
	populate(t, c.Primary.Mountpoint)
	mustWrite(t, c.Primary, "last", "before the outage")
	if s := m.Status(); s.Mixed || !s.Kept.IsZero() || s.AsOf.IsZero() {
		t.Errorf("in sync, the mirror says mixed %t, kept %s, as of %s", s.Mixed, s.Kept, s.AsOf)
	}
	m.MustStop()
	change(t, c.Primary)
	before = snapshot(t, m.Replica)
	net.Set(harness.MustFault("up:slow(4000000)"))
	m.Start(daemon.Mirror)
	untilPeer(c, 0, "a resync", func(p mirror.PeerStatus) bool { return p.Resync != nil && p.Resync.Sent > 2<<20 })
	m.Until("the resync to change something", func(s admin.Status) bool { return s.Mixed })
	net.Set(harness.MustFault("cut"))
	c.Primary.MustStop()
	m.Until("the session to end", func(s admin.Status) bool { return !s.Receiving.Connected })
	if len(harness.Differences(before, snapshot(t, m.Replica), harness.Aspects{})) == 0 {
		t.Fatal("the resync has changed nothing: this test proves nothing")
	}
	return c, before
}

// populate makes objects of all kinds in a mount.
func populate(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o750))
	for i := range 20 {
		must(t, os.WriteFile(filepath.Join(dir, "a", fmt.Sprint("file", i)), bytes.Repeat([]byte{byte(i + 1)}, 500_000), 0o640))
	}
	must(t, os.Link(filepath.Join(dir, "a", "file1"), filepath.Join(dir, "a", "b", "linked")))
	must(t, os.Symlink("a/file2", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, unix.Setxattr(filepath.Join(dir, "a", "file3"), "user.note", []byte("old"), 0))
	must(t, os.Chown(filepath.Join(dir, "a", "file4"), 1000, 1001))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("far"), 64<<20)
	must(t, err)
	must(t, f.Close())
}

// change changes most of it, more than a ring holds.
func change(t *testing.T, n *harness.Node) {
	t.Helper()
	at := n.Path
	for i := range 20 {
		must(t, os.WriteFile(at(fmt.Sprint("a/file", i)), bytes.Repeat([]byte{byte(100 + i)}, 600_000), 0o600))
	}
	must(t, os.Rename(at("a/b"), at("moved")))
	must(t, os.Remove(at("link")))
	must(t, os.Remove(at("fifo")))
	must(t, os.Mkdir(at("fifo"), 0o700))
	must(t, unix.Setxattr(at("a/file3"), "user.note", []byte("new"), 0))
	must(t, os.Chmod(n.Mountpoint, 0o700))
	mustWrite(t, n, "last", "of the outage")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, dir string) harness.Snapshot {
	t.Helper()
	s, err := harness.ReadSnapshot(dir)
	must(t, err)
	return s
}

// aside returns the one directory in a node's state that has a prefix.
func aside(t *testing.T, n *harness.Node, prefix string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.StateDir, prefix))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%s in %s: %q", prefix, n.StateDir, found)
	}
	return found[0]
}

// TestTakesConsistentState loses a primary in mid-resync. The mirror kept what it
// had before, and a forced promotion serves exactly that.
func TestTakesConsistentState(t *testing.T) {
	for _, kind := range harness.ReflinkDisks {
		t.Run(kind, func(t *testing.T) {
			c, before := interrupted(t, kind)
			m := c.Mirrors[0]
			mixed := snapshot(t, m.Replica)
			for _, d := range harness.Differences(before, snapshot(t, filepath.Join(m.StateDir, "consistent")), harness.Aspects{}) {
				t.Error("kept: ", d)
			}
			m.UntilEvent("of the copy", func(e admin.Event) bool {
				return e.Kind == "kept" && strings.Contains(e.Text, "files and directories, copied in")
			})
			m.MustStop()
			says(t, harness.Command(t, "status", m.Replica).Stdout, "its replica is mixed, and the consistent state of", "ago is kept")
			m.Start(daemon.Mirror)

			_, err := tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
			if !errors.Is(err, admin.ErrRefused) {
				t.Fatalf("promoting a mirror in mid-resync: %v, want a refusal", err)
			}
			says(t, err.Error(), "its replica is mixed; a consistent state of", "old) is kept", "--force")
			r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Mirrors: []string{c.Primary.Addr}, Force: true})
			says(t, strings.Join(r.Text, "\n"), "not promised", "the consistent state from before it is taken", "old)", "the mixed replica is put aside")
			for _, d := range harness.Differences(before, snapshot(t, m.Replica), harness.Aspects{}) {
				t.Error(d)
			}
			put := snapshot(t, aside(t, m, "mixed-*"))
			delete(put, ".")
			delete(mixed, ".")
			for _, d := range harness.Differences(mixed, put, harness.Aspects{}) {
				t.Error("put aside: ", d)
			}
			mustRead(t, m.Path("last"), "before the outage")
			mustWrite(t, m, "new", "reign")

			// The old primary knows all that is newer, and is compared with what is older.
			c.Primary.Start(daemon.Mirror)
			m.WaitInSync(1)
			mustRead(t, c.Primary.InReplica("last"), "before the outage")
			mustRead(t, c.Primary.InReplica("new"), "reign")
			if _, err := os.Stat(c.Primary.InReplica("moved")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what only the old primary had is still there: %v", err)
			}
			m.MustStop()
			if names, err := harness.ReadNames(m.StateDir); err != nil || slices.Contains(names, "consistent") {
				t.Errorf("in the state directory there are %q, %v", names, err)
			}
		})
	}
}

// TestTakesMixedState asks for what the resync had made.
func TestTakesMixedState(t *testing.T) {
	c, before := interrupted(t, "xfs")
	m := c.Mirrors[0]
	mixed := snapshot(t, m.Replica)
	r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Force: true, Take: admin.TakeMixed})
	says(t, strings.Join(r.Text, "\n"), "this replica is mixed", "as you asked for", "the consistent state of", "is put aside")
	for _, d := range harness.Differences(mixed, snapshot(t, m.Replica), harness.Aspects{}) {
		t.Error(d)
	}
	for _, d := range harness.Differences(before, snapshot(t, aside(t, m, "consistent-*")), harness.Aspects{}) {
		t.Error("put aside: ", d)
	}
}

// TestKeepsNothingWithoutReflinks has a mirror on ext4, and says what that means.
func TestKeepsNothingWithoutReflinks(t *testing.T) {
	c, _ := interrupted(t, "")
	m := c.Mirrors[0]
	_, err := tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
	if !errors.Is(err, admin.ErrRefused) {
		t.Fatalf("promoting a mirror in mid-resync: %v, want a refusal", err)
	}
	says(t, err.Error(), "its replica is mixed: parts of it are older than others", "nothing older is kept", "no reflinks")
	_, err = tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Force: true, Take: admin.TakeConsistent})
	if err == nil || !strings.Contains(err.Error(), "there is no consistent state to take") {
		t.Errorf("taking what is not there: %v", err)
	}
	r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Force: true})
	says(t, strings.Join(r.Text, "\n"), "this replica is mixed", "parts of it are older than others", "nothing older is kept", "no reflinks")

	other := c.NewNode("demanding")
	other.Config.KeepConsistent = keep.On
	if err := other.TryStart(daemon.Mirror); err == nil || !strings.Contains(err.Error(), "keep_consistent is on") || !strings.Contains(err.Error(), "keep_consistent: auto") {
		t.Errorf("starting with keep_consistent: on where that is not possible: %v", err)
	}
}

// TestKeepingHoldsNothingUp has a mirror keep many files before a resync: the
// primary waits for nothing meanwhile, and all is removed when that is through.
func TestKeepingHoldsNothingUp(t *testing.T) {
	files := harness.Number("FILES", 6_000)
	c := harness.NewCluster(t, harness.Options{
		Mirrors: 1, Mirroring: daemon.Mirroring{AckTimeout: 4 * ackTimeout, RingBytes: 4 << 20},
		Disks: map[string]harness.DiskOptions{"mirror1": {Size: 1<<30 + int64(files)<<10, Kind: "xfs"}},
		Adopt: func(replica string) {
			for i := range files {
				dir := filepath.Join(replica, fmt.Sprint(i/1000))
				if i%1000 == 0 {
					must(t, os.Mkdir(dir, 0o755))
				}
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte("text"), 0o644))
			}
		},
	})
	m := c.Mirrors[0]
	m.MustStop()
	mustWrite(t, c.Primary, "large", strings.Repeat("outage", 1<<20))
	m.Start(daemon.Mirror)
	untilPeer(c, 0, "the copy to be made, or to be there", func(p mirror.PeerStatus) bool {
		return strings.Contains(p.Reason, "keeps a copy of its consistent state first") || !m.Status().Kept.IsZero()
	})
	mustWrite(t, c.Primary, "more", strings.Repeat("meanwhile", 1<<20)) // more than twice the ring
	t.Logf("when more was written the copy was there: %t", !m.Status().Kept.IsZero())
	e := m.UntilEvent("of the copy", func(e admin.Event) bool { return e.Kind == "kept" })
	says(t, e.Text, fmt.Sprint(files+files/1000+1, " files and directories, copied in"))
	t.Log(e.Text)
	c.Primary.WaitInSync(1)
	harness.Eventually(t, "the copy to be removed", func() bool {
		names, err := harness.ReadNames(m.StateDir)
		must(t, err)
		return !slices.ContainsFunc(names, func(n string) bool { return n == "consistent" || n == "consistent.new" || n == "discarded" })
	})
	if s := m.Status(); s.Mixed || !s.Kept.IsZero() {
		t.Errorf("in sync again, the mirror says mixed %t, kept %s", s.Mixed, s.Kept)
	}

	// The same process keeps it again.
	c.Nets[0].Set(harness.MustFault("cut"))
	mustWrite(t, c.Primary, "large", strings.Repeat("second", 1<<20))
	c.Nets[0].Set(harness.Good)
	m.UntilEvent("of a second copy", func(again admin.Event) bool { return again.Kind == "kept" && again.Time.After(e.Time) })
	c.Primary.WaitInSync(1)
}

// TestKeptStateMakesRoom has a disk with no room for both the consistent state and
// what the resync makes.
func TestKeptStateMakesRoom(t *testing.T) {
	const size = 80 << 20
	c := harness.NewCluster(t, harness.Options{
		Mirrors: 1, Mirroring: daemon.Mirroring{RingBytes: 4 << 20},
		Disks: map[string]harness.DiskOptions{"mirror1": {Size: 300 << 20, Kind: "xfs"}},
	})
	m := c.Mirrors[0]
	mustWrite(t, c.Primary, "file", strings.Repeat("o", size))
	m.MustStop()
	mustWrite(t, c.Primary, "file", strings.Repeat("n", size))
	// What is left is for half of the file.
	var st unix.Statfs_t
	must(t, unix.Statfs(m.Replica, &st))
	ballast, err := os.Create(filepath.Join(c.Disks["mirror1"].Dir, "ballast"))
	must(t, err)
	defer ballast.Close()
	must(t, unix.Fallocate(int(ballast.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-size/2))
	m.Start(daemon.Mirror)
	e := m.UntilEvent("of room that was made", func(e admin.Event) bool { return e.Kind == "not-kept" })
	says(t, e.Text, "the disk was full")
	c.Primary.WaitInSync(1)
	m.UntilEvent("of the copy before", func(e admin.Event) bool { return e.Kind == "kept" })
}
