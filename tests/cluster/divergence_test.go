package cluster

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// diverge is divergeOn for nodes on no drives of their own.
func diverge(t *testing.T, before, alone func(n *harness.Node)) (old, heir *harness.Node) {
	t.Helper()
	c := divergeOn(t, nil, before, alone)
	return c.Primary, c.Mirrors[0]
}

// divergeOn lets a primary go on alone, kills it and promotes its mirror: the old
// one has what alone wrote, and does not run.
func divergeOn(t *testing.T, drives map[string]int64, before, alone func(n *harness.Node)) *harness.Cluster {
	t.Helper()
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Drives: drives, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	old, heir := c.Primary, c.Mirrors[0]
	before(old)
	c.Nets[0].Set(harness.MustFault("stall"))
	alone(old)
	old.Kill()
	if err := unix.Unmount(old.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	heir.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: old.Addr}}
	promote(t, heir, admin.PromoteRequest{Mountpoint: heir.Mountpoint, Mirrors: []string{old.Addr}, Force: true})
	return c
}

// listed runs divergence list.
func listed(t *testing.T, n *harness.Node) []struct {
	divergence.Header
	divergence.Totals
	Closed *divergence.Closed
} {
	t.Helper()
	r := harness.Command(t, "divergence", "list", n.Replica, "-o", "json")
	var all []struct {
		divergence.Header
		divergence.Totals
		Closed *divergence.Closed
	}
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || r.Code != 0 {
		t.Fatalf("divergence list: exit code %d, %v: %s", r.Code, err, r.Stdout)
	}
	return all
}

func mustSync(t *testing.T, n *harness.Node, path string, content []byte, off int64) {
	t.Helper()
	f, err := os.OpenFile(n.Path(path), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestDivergence: a deposed primary comes back. What it wrote alone is listed,
// just that, and comes back byte by byte; nobody is asked for it.
func TestDivergence(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 8*op.RegionSize/16)
	old, heir := diverge(t, func(n *harness.Node) {
		mustWrite(t, n, "same", "never changed")
		mustWrite(t, n, "text", "one\ntwo\nthree\n")
		mustWrite(t, n, "theirs", "of both")
		mustSync(t, n, "large", large, 0)
		if err := os.Mkdir(n.Path("folder"), 0o755); err != nil {
			t.Fatal(err)
		}
	}, func(n *harness.Node) {
		mustWrite(t, n, "text", "one\nTWO\nthree\n")
		mustWrite(t, n, "folder/caf\xe9", "made alone")
		mustSync(t, n, "large", []byte("alone"), 5*op.RegionSize+100)
		if err := os.Symlink("to", n.Path("folder/link")); err != nil {
			t.Fatal(err)
		}
	})
	want := make(map[string][]byte)
	for _, path := range []string{"text", "folder/caf\xe9", "large"} {
		content, err := os.ReadFile(old.InReplica(path))
		if err != nil {
			t.Fatal(err)
		}
		want[path] = content
	}
	mustWrite(t, heir, "new", "by the new one")
	if all := listed(t, old); len(all) != 0 {
		t.Errorf("before it comes back there is %+v", all)
	}
	old.Start(daemon.Mirror)
	heir.WaitInSync(1)
	heir.MustStop() // nothing of what follows needs a primary

	all := listed(t, old)
	if len(all) != 1 || all[0].Closed == nil || !all[0].Closed.Joined || all[0].Epoch != heirsEpoch(t, heir) {
		t.Fatalf("listed: %+v", all)
	}
	if all[0].Files != 4 || all[0].Bytes > 2*op.RegionSize {
		t.Errorf("%d files and %d bytes are kept: want 4, and one region of the large one", all[0].Files, all[0].Bytes)
	}
	id := all[0].ID
	shown := harness.Command(t, "divergence", "show", old.Replica, id, "-o", "json")
	var archive divergence.Archive
	if err := json.Unmarshal([]byte(shown.Stdout), &archive); err != nil || shown.Code != 0 {
		t.Fatalf("show: exit code %d, %v", shown.Code, err)
	}
	var paths []string
	for _, r := range archive.Objects {
		paths = append(paths, string(r.Paths[0]))
	}
	slices.Sort(paths)
	if wanted := []string{"folder/caf\xe9", "folder/link", "large", "text"}; !slices.Equal(paths, wanted) {
		t.Errorf("kept are %q, want %q", paths, wanted)
	}
	says(t, harness.Command(t, "divergence", "show", old.Replica, id[:10]).Stdout, `folder/caf\xe9`, "symbolic link")
	says(t, harness.Command(t, "status", old.Replica).Stdout, "divergences: 1 kept", "standbyfs divergence list "+old.Replica)

	diff := harness.Command(t, "divergence", "diff", old.Replica, id)
	if diff.Code != 1 {
		t.Errorf("diff: exit code %d", diff.Code)
	}
	says(t, diff.Stdout, "-TWO\n+two\n", "large: content differs in bytes 327780-327784", `folder/caf\xe9: is not in the replica`)
	if d := harness.Command(t, "divergence", "diff", old.Replica, id, "same"); d.Code != 2 {
		t.Errorf("diff of what is not kept: exit code %d", d.Code)
	}

	to := filepath.Join(t.TempDir(), "export")
	if e := harness.Command(t, "divergence", "export", old.Replica, id, to); e.Code != 0 {
		t.Errorf("export: exit code %d", e.Code)
	}
	for path, content := range want {
		if got, err := os.ReadFile(filepath.Join(to, divergence.FilesDir, path)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q comes back as %.40q, %v; want %.40q", path, got, err, content)
		}
	}
	if link, err := os.Readlink(filepath.Join(to, divergence.FilesDir, "folder/link")); err != nil || link != "to" {
		t.Errorf("the link comes back as %q, %v", link, err)
	}
	if d := harness.Command(t, "divergence", "drop", old.Replica, id); d.Code != 0 {
		t.Errorf("drop: exit code %d", d.Code)
	}
	if all := listed(t, old); len(all) != 0 {
		t.Errorf("after the drop there is %+v", all)
	}
	mustRead(t, old.InReplica("text"), "one\ntwo\nthree\n")
	mustRead(t, old.InReplica("new"), "by the new one")
}

func heirsEpoch(t *testing.T, n *harness.Node) op.Epoch { return stateOf(t, n).Epoch }

// TestDivergenceSurvives kills the node that comes back again and again while it
// is made equal, or takes its power away. All that it had alone is kept, once.
func TestDivergenceSurvives(t *testing.T) {
	t.Run("kills", func(t *testing.T) {
		survive(t, 300, nil, func(c *harness.Cluster) { c.Primary.Kill() })
	})
	t.Run("power losses", func(t *testing.T) {
		seed := seed.New(t)
		survive(t, 60, map[string]int64{"primary": 96 << 20}, func(c *harness.Cluster) {
			seed++
			c.LosePower(seed, c.Primary)
			c.PowerOn(c.Primary)
		})
	})
}

func survive(t *testing.T, files int, drives map[string]int64, end func(*harness.Cluster)) {
	name := func(i int) string { return "dir/file" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) }
	content := func(i int) string { return strings.Repeat(name(i)+"\n", 200) }
	c := divergeOn(t, drives, func(n *harness.Node) {
		if err := os.Mkdir(n.Path("dir"), 0o755); err != nil {
			t.Fatal(err)
		}
	}, func(n *harness.Node) {
		for i := range files {
			if err := os.WriteFile(n.Path(name(i)), []byte(content(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		mustWrite(t, n, "last", "durable")
	})
	old, heir := c.Primary, c.Mirrors[0]
	unix.Sync()            // what the old one had is on its drive
	for i := range files { // of the same names, so that each is a file of its own
		if err := os.WriteFile(heir.Path(name(i)), []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		old.Start(daemon.Mirror)
		harness.Eventually(t, "something more to be kept", func() bool {
			all := listed(t, old)
			return len(all) == 1 && (all[0].Files > files/8*round || all[0].Closed != nil)
		})
		end(c)
	}
	old.Start(daemon.Mirror)
	heir.WaitInSync(1)
	all := listed(t, old)
	if len(all) != 1 || all[0].Closed == nil || all[0].Files != files+1 {
		t.Fatalf("listed: %+v; want one with %d files", all, files+1)
	}
	to := filepath.Join(t.TempDir(), "export")
	if e := harness.Command(t, "divergence", "export", old.Replica, all[0].ID, to); e.Code != 0 {
		t.Errorf("export: exit code %d", e.Code)
	}
	for i := range files {
		mustRead(t, filepath.Join(to, divergence.FilesDir, name(i)), content(i))
		mustRead(t, old.InReplica(name(i)), "new")
	}
}

// TestDivergenceOfASurvivor: a mirror that was never primary, and is ahead of the
// one that is promoted, keeps what it is ahead by (RULES.md 9, ArchiveAny).
func TestDivergenceOfASurvivor(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	old, heir, ahead := c.Primary, c.Mirrors[0], c.Mirrors[1]
	mustWrite(t, old, "file", "on all")
	c.Nets[0].Set(harness.MustFault("stall"))
	mustWrite(t, old, "file", "not on the heir")
	old.Kill()
	if err := unix.Unmount(old.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	promote(t, heir, admin.PromoteRequest{Mountpoint: heir.Mountpoint, Mirrors: []string{ahead.Addr}, Force: true})
	heir.WaitInSync(1)
	mustRead(t, ahead.InReplica("file"), "on all")
	all := listed(t, ahead)
	if len(all) != 1 || all[0].Files != 1 || all[0].Closed == nil {
		t.Fatalf("listed: %+v", all)
	}
	to := filepath.Join(t.TempDir(), "export")
	harness.Command(t, "divergence", "export", ahead.Replica, all[0].ID, to)
	mustRead(t, filepath.Join(to, divergence.FilesDir, "file"), "not on the heir")
	if all := listed(t, heir); len(all) != 0 {
		t.Errorf("the heir lists %+v", all)
	}
}

// TestDivergenceLimit: beyond the limit nothing is overwritten, and the node says
// what to do. With more room it comes back.
func TestDivergenceLimit(t *testing.T) {
	big := strings.Repeat("only here\n", 400_000)
	old, heir := diverge(t, func(*harness.Node) {}, func(n *harness.Node) { mustWrite(t, n, "big", big) })
	old.Args = []string{"--divergence-limit", "1MiB"}
	old.Start(daemon.Mirror)
	old.UntilEvent("divergence", func(e admin.Event) bool {
		return e.Kind == "divergence" && strings.Contains(e.Text, "raise divergence_limit")
	})
	mustRead(t, old.InReplica("big"), big)
	if s := old.Status(); s.InSync {
		t.Errorf("status: %+v", s)
	}
	old.MustStop()
	old.Args = nil
	old.Start(daemon.Mirror)
	heir.WaitInSync(1)
	all := listed(t, old)
	if len(all) != 1 || all[0].Bytes != int64(len(big)) {
		t.Fatalf("listed: %+v", all)
	}
	if _, err := os.Stat(old.InReplica("big")); !os.IsNotExist(err) {
		t.Errorf("it joined, and big is still there: %v", err)
	}
	to := filepath.Join(t.TempDir(), "export")
	harness.Command(t, "divergence", "export", old.Replica, all[0].ID, to)
	mustRead(t, filepath.Join(to, divergence.FilesDir, "big"), big)
}
