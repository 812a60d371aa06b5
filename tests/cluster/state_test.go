package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// bulk is so much data that sending it anew shows.
const bulk = 8 << 20

// filled returns a cluster of processes with something in it.
func filled(t *testing.T) *harness.Cluster {
	t.Helper()
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true})
	mustWrite(t, c.Primary, "bulk", strings.Repeat("standby ", bulk/8))
	mustWrite(t, c.Primary, "file", "text")
	return c
}

// sent returns how many bytes a primary's last resync has sent.
func sent(t *testing.T, n *harness.Node) int {
	t.Helper()
	pattern, bytes := regexp.MustCompile(`is level: \d+ paths looked at, (\d+) bytes sent`), -1
	n.UntilEvent("of the resync", func(e admin.Event) bool {
		if m := pattern.FindStringSubmatch(e.Text); m != nil {
			bytes, _ = strconv.Atoi(m[1])
		}
		return bytes >= 0 && strings.HasSuffix(e.Text, "is in sync")
	})
	return bytes
}

func reset(t *testing.T, code int, args ...string) harness.Result {
	t.Helper()
	r := harness.Command(t, append([]string{"state", "reset"}, args...)...)
	if r.Code != code {
		t.Fatalf("state reset %v: exit code %d, want %d", args, r.Code, code)
	}
	return r
}

// TestMirrorLosesItsState: the node says so and does not start; on request all
// of its replica is compared, and only what differs is sent.
func TestMirrorLosesItsState(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(state string) error
		says string
	}{
		{"deleted", os.RemoveAll, "not empty"},
		{"damaged", func(state string) error {
			return os.WriteFile(filepath.Join(state, "state.db"), []byte(strings.Repeat("garbage ", 8192)), 0o600)
		}, "damaged"},
		{"empty", func(state string) error { return os.Truncate(filepath.Join(state, "state.db"), 0) }, "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := filled(t)
			m := c.Mirrors[0]
			reset(t, 2, m.Replica) // it runs
			m.MustStop()
			says(t, reset(t, 1, m.Replica).Stderr, "not damaged", "a mirror of volume", "--force")
			if err := tt.lose(m.StateDir); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, c.Primary, "file", "written meanwhile")
			err := m.TryStart(daemon.Mirror)
			if err == nil {
				t.Fatal("it starts as if nothing had happened")
			}
			says(t, err.Error(), tt.says, "standbyfs state reset")
			says(t, reset(t, 0, m.Replica).Stdout, "standbyfs mirror")
			m.Start(daemon.Mirror)
			c.Primary.WaitInSync(1)
			mustRead(t, m.InReplica("file"), "written meanwhile")
			if n := sent(t, c.Primary); n > bulk/8 {
				t.Errorf("%d bytes were sent to compare what was there", n)
			}
			if n := len(c.Primary.Status().Mirroring.Set); n != 1 {
				t.Errorf("%d members in the set: the lost node is still counted", n)
			}
		})
	}
}

// TestPrimaryLosesItsState: its mirror takes over, and it comes back as a
// mirror.
func TestPrimaryLosesItsState(t *testing.T) {
	c := filled(t)
	p, m := c.Primary, c.Mirrors[0]
	p.Kill()
	if err := os.WriteFile(filepath.Join(p.StateDir, "state.db"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := p.TryStart(daemon.Primary)
	if err == nil {
		t.Fatal("it starts as if nothing had happened")
	}
	says(t, err.Error(), "damaged", "standbyfs state reset", "promote")
	reset(t, 0, p.Replica)
	m.Until("the session to end", func(s admin.Status) bool { return s.Receiving != nil && !s.Receiving.Connected })
	promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Mirrors: []string{p.Addr}})
	mustWrite(t, m, "file", "new reign")
	if err := unix.Unmount(p.Mountpoint, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	p.Config.Mirror.Peers = nil
	p.Start(daemon.Mirror)
	m.WaitInSync(1)
	mustRead(t, p.InReplica("file"), "new reign")
	if n := sent(t, m); n > bulk/8 {
		t.Errorf("%d bytes were sent to compare what was there", n)
	}
}

// TestVolumeOfAReplica makes a new volume of what a primary without a state
// has; its mirrors do not have to be emptied.
func TestVolumeOfAReplica(t *testing.T) {
	c := filled(t)
	p, m := c.Primary, c.Mirrors[0]
	p.MustStop()
	if err := os.RemoveAll(p.StateDir); err != nil {
		t.Fatal(err)
	}
	p.Start(daemon.Primary)
	p.UntilEvent("of the new volume", func(e admin.Event) bool { return e.Kind == "adopted" })
	refused := untilPeer(c, 0, "the refusal", func(p mirror.PeerStatus) bool { return strings.Contains(p.Reason, "serves volume") })
	says(t, refused.Reason, "standbyfs state reset --force "+m.Replica)
	m.MustStop()
	says(t, reset(t, 0, "--force", m.Replica).Stdout, "the old state is", fmt.Sprint(m.StateDir, "/state.db.old-"))
	m.Start(daemon.Mirror)
	p.WaitInSync(1)
	if n := sent(t, p); n > bulk/8 {
		t.Errorf("%d bytes were sent to compare what was there", n)
	}
}

// TestStateBreaks takes the state's file away under nodes that run. A mirror
// leaves the set; a primary fails what it cannot record. Both say so, go on
// running, and refuse to start with what is left.
func TestStateBreaks(t *testing.T) {
	c := filled(t)
	p, m := c.Primary, c.Mirrors[0]
	breaks := func(n *harness.Node) {
		t.Helper()
		if err := os.Truncate(filepath.Join(n.StateDir, "state.db"), 8192); err != nil {
			t.Fatal(err)
		}
	}
	says1 := func(n *harness.Node, texts ...string) {
		t.Helper()
		r := harness.Command(t, "status", n.Replica)
		if r.Code != 1 {
			t.Errorf("status of %s: exit code %d, want 1", n.Name, r.Code)
		}
		says(t, r.Stdout, texts...)
	}
	refuses := func(n *harness.Node, role daemon.Role) {
		t.Helper()
		err := n.TryStart(role)
		if err == nil {
			t.Fatal("it starts as if nothing had happened")
		}
		says(t, err.Error(), "the state is damaged", "standbyfs state reset")
		reset(t, 0, n.Replica)
	}
	anew := 0
	place := func() error { anew++; return os.MkdirAll(p.Path(fmt.Sprintf("new%d/dir", anew)), 0o755) }

	breaks(m)
	if err := place(); err != nil {
		t.Fatalf("the primary's state is fine: %v", err)
	}
	p.UntilEvent("of the expulsion", func(e admin.Event) bool {
		return e.Kind == "expelled" && strings.Contains(e.Text, "the node's state is damaged")
	})
	says1(m, "not in sync", "nothing is recorded any more", "start this node again")
	if err := m.Stop(); err == nil {
		t.Error("a mirror that cannot record that it is not in sync stops as if it could")
	}
	refuses(m, daemon.Mirror)
	m.Start(daemon.Mirror)
	p.WaitInSync(1)

	breaks(p)
	if err := place(); !errors.Is(err, syscall.EIO) {
		t.Errorf("what cannot be recorded as hot: %v, want %v", err, syscall.EIO)
	}
	f, err := os.OpenFile(p.Path("bulk"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.Kill()
	if _, err := f.WriteString("standby "); !errors.Is(err, syscall.EIO) {
		t.Errorf("what waits for a mirror that cannot be expelled: %v, want %v", err, syscall.EIO)
	}
	mustRead(t, p.Path("bulk"), strings.Repeat("standby ", bulk/8))
	says1(p, "nothing is recorded any more", "start this node again")
	if err := p.Stop(); err != nil {
		t.Log(err)
	}
	refuses(p, daemon.Primary)
}
