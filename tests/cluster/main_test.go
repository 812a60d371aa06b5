// Package cluster produces each refusal and each degraded state of a cluster
// for real and checks what it says.
package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// ackTimeout is for tests in which a mirror is expelled. On a busy machine it
// must not hit those that are there.
const ackTimeout = time.Second

// says fails the test if text lacks one of the parts.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// write puts a file under a node's mount and syncs it.
func write(n *harness.Node, path, text string) error {
	f, err := os.OpenFile(n.Path(path), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

// mustWrite is write for what must work.
func mustWrite(t *testing.T, n *harness.Node, path, text string) {
	t.Helper()
	if err := write(n, path, text); err != nil {
		t.Fatal(err)
	}
}

// mustRead checks the content of a file wherever it is.
func mustRead(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

// peer returns the primary's view of a mirror at an address.
func peer(s admin.Status, addr string) mirror.PeerStatus {
	if s.Mirroring != nil {
		for _, p := range s.Mirroring.Peers {
			if p.Addr == addr {
				return p
			}
		}
	}
	return mirror.PeerStatus{}
}

// untilPeer waits until the primary's view of its i-th mirror is as ok wants.
func untilPeer(c *harness.Cluster, i int, what string, ok func(mirror.PeerStatus) bool) mirror.PeerStatus {
	s := c.Primary.Until(what, func(s admin.Status) bool { return ok(peer(s, c.Nets[i].Addr())) })
	return peer(s, c.Nets[i].Addr())
}

// second returns a primary beside the cluster's, with a volume of its own and
// the cluster's first mirror as its mirror.
func second(c *harness.Cluster) *harness.Node {
	n := c.NewNode("second")
	n.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: c.Mirrors[0].Addr}}
	return n
}

// stateOf reads what a node that does not run has on disk.
func stateOf(t *testing.T, n *harness.Node) state.State {
	t.Helper()
	s, _, err := state.Read(n.StateDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyTree copies a directory as cp -a does, for a node that lost its state.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatalf("copying %s to %s: %v", from, filepath.Base(to), err)
	}
}
