package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/wire"
)

// refused waits until a primary's first mirror refuses it, and returns the
// reason.
func refused(n *harness.Node) string {
	s := n.Until("a refusal", func(s admin.Status) bool {
		return s.Mirroring != nil && len(s.Mirroring.Peers) == 1 && s.Mirroring.Peers[0].State == mirror.StateRefused
	})
	return s.Mirroring.Peers[0].Reason
}

func TestRefusesForeignVolume(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	n := second(c)
	n.Start(daemon.Primary)
	ours, theirs := c.Primary.Status().Volume, n.Status().Volume
	says(t, refused(n), "keeps volume "+ours, "serves volume "+theirs, "empty replica", c.Mirrors[0].StateDir)
	n.MustStop()
	mustWrite(t, c.Primary, "still", "works")
	mustRead(t, c.Mirrors[0].InReplica("still"), "works")
}

func TestRefusesReplicaThatIsNotEmpty(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Manual: true})
	precious := c.Mirrors[0].InReplica("precious")
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.Mirrors[0].TryStart(daemon.Mirror)
	if err == nil {
		t.Fatal("a mirror starts on a directory with something in it")
	}
	says(t, err.Error(), c.Mirrors[0].Replica, "not empty on first use", `"precious"`, "empty it, or give the mirror another directory")
	// Doing what the message says helps.
	if err := os.Remove(precious); err != nil {
		t.Fatal(err)
	}
	c.Mirrors[0].Start(daemon.Mirror)
	// What came to be there since is refused at the hello.
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Primary.Start(daemon.Primary)
	says(t, refused(c.Primary), c.Mirrors[0].Replica, "not empty on first use", `"precious"`, "empty it, or give the mirror another directory")
	mustRead(t, precious, "data")
	if err := os.Remove(precious); err != nil {
		t.Fatal(err)
	}
	c.Primary.WaitInSync(1)
}

// greet says hello to a mirror as some primary would, and returns its answer.
func greet(t *testing.T, addr string, change func(h *wire.Hello)) wire.Answer {
	t.Helper()
	h := wire.Hello{
		Protocol: wire.Protocol, MinProtocol: wire.Protocol, Software: "standbyfs test", Name: "stranger", Node: 77,
		Line: op.Line{Epoch: op.Epoch{Number: 1, Owner: 77}, Incarnation: 1}, Oldest: 1, Next: 1,
	}
	change(&h)
	s, err := wire.Dial(t.Context(), addr, wire.LaneOps, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	frame, err := wire.AppendMessage(nil, wire.KindHello, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Control().Write(frame); err != nil {
		t.Fatal(err)
	}
	header, payload, err := wire.NewReader(s.Control()).Next()
	if err != nil || header.Kind != wire.KindAnswer {
		t.Fatalf("the mirror answers with kind %d, %v", header.Kind, err)
	}
	var a wire.Answer
	if err := wire.DecodeMessage(payload, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRefusesStrangers greets a mirror that has a session with its primary.
func TestRefusesStrangers(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	s := c.Primary.Status()
	for _, tt := range []struct {
		name   string
		change func(h *wire.Hello)
		code   wire.Code
		parts  []string
	}{
		{"lower epoch", func(h *wire.Hello) { h.Line.Epoch = op.Epoch{Number: s.Epoch.Number, Owner: 1}; h.Node = 1 },
			wire.CodeHigherEpoch, []string{"stranger is deposed", "has seen epoch", "start stranger again as a mirror"}},
		{"older protocol", func(h *wire.Hello) { h.Protocol, h.MinProtocol = 0, 0 },
			wire.CodeProtocol, []string{"stranger speaks protocols 0 to 0", "speaks 4 to 5", "install the same version on both"}},
		{"newer protocol", func(h *wire.Hello) { h.Protocol, h.MinProtocol = 9, 8 },
			wire.CodeProtocol, []string{"stranger speaks protocols 8 to 9", "speaks 4 to 5"}},
		{"foreign volume", func(h *wire.Hello) { h.Volume = "another" },
			wire.CodeForeignVolume, []string{"keeps volume " + s.Volume, "serves volume another"}},
		{"copied state", func(h *wire.Hello) {
			h.Node = c.Mirrors[0].Status().Node
			h.Line.Epoch = op.Epoch{Number: 9, Owner: h.Node}
		},
			wire.CodeNotAMirror, []string{"same node ID"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := greet(t, c.Mirrors[0].Addr, func(h *wire.Hello) { h.Volume = s.Volume; tt.change(h) })
			if a.Refusal == nil || a.Refusal.Code != tt.code {
				t.Fatalf("refusal %+v, want %s", a.Refusal, tt.code)
			}
			says(t, a.Refusal.Message, tt.parts...)
		})
	}
	// None of them has left a trace.
	if p := peer(c.Primary.Status(), c.Nets[0].Addr()); !p.InSync || p.Resyncs != 1 {
		t.Errorf("after the refusals the peer is %+v", p)
	}
	mustWrite(t, c.Primary, "still", "works")
}

func TestRefusesLockedReplica(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m := c.Mirrors[0]
	t.Run("same state", func(t *testing.T) {
		n := c.NewNode("again")
		n.Replica, n.StateDir = m.Replica, m.StateDir
		err := n.TryStart(daemon.Mirror)
		if !errors.Is(err, state.ErrLocked) {
			t.Fatalf("starting a second node: %v, want %v", err, state.ErrLocked)
		}
		says(t, err.Error(), m.StateDir, "process ID", "stop it first")
	})
	t.Run("other state", func(t *testing.T) {
		n := c.NewNode("other")
		n.Replica = m.Replica
		err := n.TryStart(daemon.Mirror)
		if !errors.Is(err, state.ErrLocked) {
			t.Fatalf("starting a second node: %v, want %v", err, state.ErrLocked)
		}
		says(t, err.Error(), m.Replica)
	})
}

func TestRefusesStateOfAnotherReplica(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m := c.Mirrors[0]
	mustWrite(t, c.Primary, "file", "text")
	m.MustStop()
	old := m.Replica + ".old"
	if err := os.Rename(m.Replica, old); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, m.Replica)
	err := m.TryStart(daemon.Mirror)
	if !errors.Is(err, state.ErrOtherReplica) {
		t.Fatalf("starting on a copy of the replica: %v, want %v", err, state.ErrOtherReplica)
	}
	says(t, err.Error(), m.StateDir, m.Replica, "standbyfs state reset --force "+m.Replica)
}

func TestRefusesMirrorAsPrimary(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1})
	m := c.Mirrors[0]
	m.MustStop()
	err := m.TryStart(daemon.Primary)
	if !errors.Is(err, daemon.ErrIsMirror) {
		t.Fatalf("mounting a mirror's replica: %v, want %v", err, daemon.ErrIsMirror)
	}
	says(t, err.Error(), "standbyfs promote "+m.Replica)
	m.Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
}

// TestDeposed brings the old primary back after a promotion.
func TestDeposed(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2})
	old, next := c.Primary, c.Mirrors[0]
	mustWrite(t, old, "before", "the promotion")
	old.MustStop()
	promote(t, next, admin.PromoteRequest{Mountpoint: next.Mountpoint, Mirrors: []string{c.Nets[1].Addr()}})
	next.WaitInSync(1)
	mustWrite(t, next, "after", "the promotion")

	// The mirror refuses the lower epoch, and so the old primary learns.
	old.Start(daemon.Primary)
	s := old.Until("deposed", func(s admin.Status) bool { return s.Deposed })
	if s.Verdict != admin.Down || len(s.Reasons) == 0 {
		t.Fatalf("a deposed primary is %s: %q", s.Verdict, s.Reasons)
	}
	says(t, s.Reasons[0], "deposed", "took over", "standbyfs mirror")
	if err := os.WriteFile(old.Path("new"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to a deposed primary: %v, want %v", err, syscall.EROFS)
	}
	mustRead(t, old.Path("before"), "the promotion")
	mustRead(t, next.Path("before"), "the promotion")
	old.MustStop()

	err := old.TryStart(daemon.Primary)
	if !errors.Is(err, daemon.ErrDeposed) {
		t.Fatalf("starting a deposed primary again: %v, want %v", err, daemon.ErrDeposed)
	}
	says(t, err.Error(), "standbyfs mirror "+old.Replica)

	// It comes back as a mirror of the new primary, once that one knows it.
	old.Start(daemon.Mirror)
	if s := old.Status(); s.InSync || s.Role != admin.RoleMirror {
		t.Errorf("the old primary is %s, in sync %t", s.Role, s.InSync)
	}
	next.MustStop()
	next.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: c.Nets[1].Addr()}, {Addr: old.Addr}}
	next.Start(daemon.Primary)
	next.WaitInSync(2)
	mustRead(t, old.InReplica("after"), "the promotion")
	mustWrite(t, next, "last", "everywhere")
}

func TestRefusesAddressesBeyondLoopbackWithoutTLS(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Manual: true})
	m := c.Mirrors[0]
	addr := m.Addr
	m.Addr = "0.0.0.0:0"
	err := m.TryStart(daemon.Mirror)
	if !errors.Is(err, daemon.ErrInsecure) {
		t.Fatalf("listening everywhere without certificates: %v, want %v", err, daemon.ErrInsecure)
	}
	says(t, err.Error(), "standbyfs ca init", "insecure: true")
	m.Addr = addr
	c.Primary.Config.Mirror.Peers = []mirror.PeerConfig{{Addr: "192.0.2.1:7000"}}
	if err := c.Primary.TryStart(daemon.Primary); !errors.Is(err, daemon.ErrInsecure) {
		t.Errorf("a mirror elsewhere without certificates: %v, want %v", err, daemon.ErrInsecure)
	}
	if _, err := os.Stat(filepath.Join(c.Primary.StateDir, "state.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refusal left a state behind: %v", err)
	}
}
