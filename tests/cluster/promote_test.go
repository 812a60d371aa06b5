package cluster

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// tryPromote asks a mirror to become the primary.
func tryPromote(t *testing.T, n *harness.Node, req admin.PromoteRequest) (admin.PromoteResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return n.Admin().Promote(ctx, req)
}

// promote makes a mirror the primary, and the test expects that it may.
func promote(t *testing.T, n *harness.Node, req admin.PromoteRequest) admin.PromoteResult {
	t.Helper()
	r, err := tryPromote(t, n, req)
	if err != nil {
		t.Fatalf("promoting %s: %v", n.Name, err)
	}
	t.Logf("promoted %s, epoch %s, promised %t: %s", n.Name, r.Epoch, r.Promised, strings.Join(r.Text, "; "))
	return r
}

// TestPromises takes over after the primary is gone and reads what that is
// worth.
func TestPromises(t *testing.T) {
	for _, tt := range []struct {
		name      string
		mirrors   int
		min       int
		reach     bool // the other mirrors
		promised  bool
		sentences []string
	}{
		{"two nodes, min_in_sync 1", 1, 1, false, true, []string{"promised: nothing that was acknowledged as durable is missing here", "min_in_sync 1 of 1"}},
		{"two nodes, min_in_sync 0", 1, 0, false, false, []string{"not promised", "min_in_sync 0", "silent since", "not here"}},
		{"three nodes, min_in_sync 2", 2, 2, false, true, []string{"promised: nothing"}},
		{"three nodes, min_in_sync 1, reached", 2, 1, true, true, []string{"promised: nothing", "1 other mirror was reached and recorded epoch"}},
		{"three nodes, min_in_sync 1, alone", 2, 1, false, false, []string{"not promised", "1 other mirrors have to be reached and 0 were", "not reached", "silent since"}},
		{"three nodes, min_in_sync 0, reached", 2, 0, true, false, []string{"not promised", "min_in_sync 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := harness.NewCluster(t, harness.Options{Mirrors: tt.mirrors, Mirroring: daemon.Mirroring{MinInSync: tt.min}})
			mustWrite(t, c.Primary, "acknowledged", "and durable")
			m := c.Mirrors[0]
			c.Primary.MustStop()
			if tt.mirrors == 2 && !tt.reach {
				c.Nets[1].Set(harness.MustFault("cut"))
			}
			m.Until("the session to end", func(s admin.Status) bool { return s.Receiving != nil && !s.Receiving.Connected })
			r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
			if r.Promised != tt.promised {
				t.Errorf("promised is %t, want %t", r.Promised, tt.promised)
			}
			says(t, strings.Join(r.Text, "\n"), tt.sentences...)
			mustRead(t, m.Path("acknowledged"), "and durable")
			mustWrite(t, m, "new", "reign")
		})
	}
}

func TestRefusesToPromoteBesideALivePrimary(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2})
	m := c.Mirrors[0]
	_, err := tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
	if !errors.Is(err, admin.ErrRefused) {
		t.Fatalf("promotion beside a live primary: %v, want a refusal", err)
	}
	says(t, err.Error(), "the primary primary is alive and connected", "stop it first", "--force")
	// Nothing has happened by it.
	mustWrite(t, c.Primary, "still", "works")
	if p := peer(c.Primary.Status(), c.Nets[0].Addr()); !p.InSync {
		t.Errorf("after the refusal the mirror is %+v", p)
	}
}

func TestRefusesToPromoteMirrorThatIsNotInSync(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m := c.Mirrors[0]
	mustWrite(t, c.Primary, "file", "first")
	m.MustStop() // records that it is not in sync
	mustWrite(t, c.Primary, "file", "second")
	c.Nets[0].Set(harness.MustFault("cut"))
	m.Start(daemon.Mirror)
	c.Primary.MustStop()

	_, err := tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
	if !errors.Is(err, admin.ErrRefused) {
		t.Fatalf("promoting a mirror that is behind: %v, want a refusal", err)
	}
	says(t, err.Error(), "this mirror is not in sync", "the mirror was stopped", "--force")

	r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint, Force: true})
	if r.Promised {
		t.Error("a forced promotion promises")
	}
	says(t, strings.Join(r.Text, "\n"), "not promised", "what may be lost: everything since this mirror left the in-sync set")
	mustRead(t, m.Path("file"), "first")
}

// TestRefusesToPromoteExpelled asks a mirror that was expelled while it could
// not hear it: another mirror knows.
func TestRefusesToPromoteExpelled(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	m, other := c.Mirrors[0], c.Mirrors[1]
	c.Nets[0].Set(harness.MustFault("cut"))
	mustWrite(t, c.Primary, "file", "only on the other")
	other.Until("the expulsion", func(s admin.Status) bool { return len(s.Set) == 1 })
	if !m.Status().InSync {
		t.Fatal("the expelled mirror knows already: this test proves nothing")
	}
	c.Primary.MustStop()
	c.Nets[0].Set(harness.Good)

	_, err := tryPromote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
	if !errors.Is(err, admin.ErrRefused) {
		t.Fatalf("promoting an expelled mirror: %v, want a refusal", err)
	}
	says(t, err.Error(), "mirror2", "knows an in-sync set without this mirror")
	promote(t, other, admin.PromoteRequest{Mountpoint: other.Mountpoint, Mirrors: []string{c.Nets[0].Addr()}})
	mustRead(t, other.Path("file"), "only on the other")
	other.WaitInSync(1)
	mustRead(t, m.InReplica("file"), "only on the other")
}

// TestPromotionIsDurable kills nothing, but starts the promoted node again: it
// is the primary of its own right now.
func TestPromotionIsDurable(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m := c.Mirrors[0]
	c.Primary.MustStop()
	r := promote(t, m, admin.PromoteRequest{Mountpoint: m.Mountpoint})
	mustWrite(t, m, "file", "text")
	m.MustStop()
	if _, mounted := harness.MountedAt(t, m.Mountpoint); mounted {
		t.Error("the mount is still there after a clean stop")
	}
	if s := stateOf(t, m); s.Role != daemon.Primary || s.Epoch != r.Epoch || len(s.Set) != 0 {
		t.Errorf("the state says role %s, epoch %s, set %v", s.Role, s.Epoch, s.Set)
	}
	m.Start(daemon.Primary)
	mustRead(t, m.Path("file"), "text")
	if err := os.Remove(m.Path("file")); err != nil {
		t.Error(err)
	}
	if e := m.Status().Epoch; e != r.Epoch {
		t.Errorf("a restart changed the epoch from %s to %s", r.Epoch, e)
	}
}
