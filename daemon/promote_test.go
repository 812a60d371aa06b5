package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
)

// TestPromotion takes a volume from alpha to beta and brings alpha back.
func TestPromotion(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	if line := b.start(b.config(Mirror, 0)); !strings.Contains(line, "listens on "+b.addr) {
		t.Errorf("ready line %q", line)
	}
	if _, err := b.promote(admin.PromoteRequest{}); err == nil || !strings.Contains(err.Error(), "is new") {
		t.Errorf("promote a node that never was a mirror: %v", err)
	}
	a.start(a.config(Primary, 1, b))
	a.inSync(1)
	if err := a.write("file", "first"); err != nil {
		t.Fatal(err)
	}
	b.holds(filepath.Join(b.replica, "file"), "first")
	for _, m := range []*machine{a, b} {
		if s := m.status(); s.Verdict != admin.Healthy {
			t.Errorf("%s: %s", m.name, summary(s))
		}
	}
	if report, err := a.admin().Verify(t.Context()); err != nil || len(report.Peers) != 1 || !report.Peers[0].Checked || len(report.Peers[0].Differences) > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	if err := b.admin().WaitInSync(t.Context(), 1); !errors.Is(err, admin.ErrNotPrimary) {
		t.Errorf("wait on a mirror: %v, want ErrNotPrimary", err)
	}

	_, err := b.promote(admin.PromoteRequest{})
	if !errors.Is(err, admin.ErrRefused) || !strings.Contains(err.Error(), "alpha is alive and connected: stop it first") {
		t.Errorf("promote while the primary lives: %v", err)
	}
	a.halt()
	result, err := b.promote(admin.PromoteRequest{Mirrors: []string{a.addr}})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Promised || result.Epoch.Number != 2 || !strings.Contains(strings.Join(result.Text, "\n"), "promised: nothing that was acknowledged as durable is missing") {
		t.Errorf("promotion: %+v", result)
	}
	b.holds(filepath.Join(b.mount, "file"), "first")
	if err := b.write("file", "second"); err != nil {
		t.Error(err)
	}

	// Alpha knows nothing of it and starts as the primary that it was.
	a.start(a.config(Primary, 0, b))
	eventually(t, "alpha hears of beta's epoch", func() bool { return a.status().Deposed })
	if err := a.write("file", "lost"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a deposed primary: %v, want EROFS", err)
	}
	if s := a.status(); s.Verdict != admin.Down || !strings.Contains(s.Summary(), "deposed: epoch "+result.Epoch.String()) {
		t.Errorf("status of a deposed primary: %s", summary(s))
	}
	a.halt()
	if _, err := a.try(a.config(Primary, 0, b)); !errors.Is(err, ErrDeposed) {
		t.Errorf("start of a deposed primary: %v, want ErrDeposed", err)
	}
	a.start(a.config(Mirror, 0))
	b.inSync(1)
	equal(t, a, b)
	a.holds(filepath.Join(a.replica, "file"), "second")
	if s := a.status(); s.Verdict != admin.Healthy || s.Deposed {
		t.Errorf("alpha as a mirror: %s", summary(s))
	}
	a.halt()
	if _, err := a.try(a.config(Primary, 0, b)); !errors.Is(err, ErrIsMirror) {
		t.Errorf("start of a mirror as a primary: %v, want ErrIsMirror", err)
	}
}

// TestPromotionOfThree: only with the other mirror reached and fenced is there
// a promise, and a node that missed the promotion follows.
func TestPromotionOfThree(t *testing.T) {
	a, b, c := newMachine(t, "alpha"), newMachine(t, "beta"), newMachine(t, "gamma")
	b.start(b.config(Mirror, 0))
	c.start(c.config(Mirror, 0))
	a.start(a.config(Primary, 1, b, c))
	a.inSync(2)
	if err := a.write("file", "first"); err != nil {
		t.Fatal(err)
	}
	a.halt()
	result, err := b.promote(admin.PromoteRequest{Mirrors: []string{c.addr}})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Promised || !strings.Contains(strings.Join(result.Text, "\n"), "1 other mirror was reached and recorded epoch") {
		t.Errorf("promotion: %+v", result)
	}
	b.inSync(1)
	if err := b.write("file", "second"); err != nil {
		t.Error(err)
	}
	equal(t, b, c)
	// Gamma was fenced by beta and has joined it. Beta goes; gamma cannot
	// promise anything, since alpha does not answer and beta's policy is 0.
	b.halt()
	result, err = c.promote(admin.PromoteRequest{})
	if err != nil || result.Promised || !strings.Contains(strings.Join(result.Text, "\n"), "the primary has been silent since") {
		t.Errorf("promotion: %+v, %v", result, err)
	}
	c.holds(filepath.Join(c.mount, "file"), "second")
}

// TestPromotionByAnotherAddress: beta last heard the primary's policy before the
// primary had met gamma, and is told of gamma by another address than the
// primary has. Gamma is reached by both, is one node, and counts.
func TestPromotionByAnotherAddress(t *testing.T) {
	a, b, c := newMachine(t, "alpha"), newMachine(t, "beta"), newMachine(t, "gamma")
	b.start(b.config(Mirror, 0))
	cfg := a.config(Primary, 1, b, c)
	cfg.Mirror.Peers[1].Addr = strings.Replace(c.addr, "127.0.0.1", "localhost", 1)
	a.start(cfg)
	a.inSync(1)
	c.start(c.config(Mirror, 0))
	a.inSync(2)
	a.halt()
	result, err := b.promote(admin.PromoteRequest{Mirrors: []string{c.addr}})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Promised || !strings.Contains(strings.Join(result.Text, "\n"), "1 other mirror was reached and recorded epoch") {
		t.Errorf("promotion: %+v", result)
	}
}

// TestUnfencedByOneAddress: gamma was asked by two addresses and did not record
// the epoch. It does not count by the other one.
func TestUnfencedByOneAddress(t *testing.T) {
	set := []op.NodeID{nodeB, nodeC}
	first := reached(nodeC, set...)
	again := first
	again.Addr = "10.0.0.3:1"
	if !has([]other{first}, again) {
		t.Error("gamma at its other address is taken for another node")
	}
	for _, o := range []other{reached(nodeD, set...), unreached(nodeD)} {
		if has([]other{first}, o) {
			t.Errorf("%s is taken for gamma", o.Addr)
		}
	}
}

// TestPromotionWithoutSync is refused, and forced.
func TestPromotionWithoutSync(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	b.start(b.config(Mirror, 0))
	a.start(a.config(Primary, 0, b))
	a.inSync(1)
	b.halt() // says that it is not in sync any more
	if err := a.write("file", "alone"); err != nil {
		t.Fatal(err)
	}
	a.halt()
	b.start(b.config(Mirror, 0))
	_, err := b.promote(admin.PromoteRequest{})
	if !errors.Is(err, admin.ErrRefused) || !strings.Contains(err.Error(), "not in sync: the mirror was stopped") || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("promote a mirror that is not in sync: %v", err)
	}
	if s := b.status(); s.Role != admin.RoleMirror || s.Epoch.Number != 1 {
		t.Errorf("after a refused promotion: %+v", s)
	}
	result, err := b.promote(admin.PromoteRequest{Force: true})
	if err != nil || result.Promised || !strings.Contains(strings.Join(result.Text, "\n"), "what may be lost: everything since this mirror left the in-sync set") {
		t.Errorf("forced: %+v, %v", result, err)
	}
	if err := b.write("file", "anew"); err != nil {
		t.Error(err)
	}
}

// TestForcedPromotionFencesThePrimary: the session with a live primary is cut,
// and when that one comes back it hears of the higher epoch.
func TestForcedPromotionFencesThePrimary(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	b.start(b.config(Mirror, 0))
	a.start(a.config(Primary, 0, b))
	a.inSync(1)
	result, err := b.promote(admin.PromoteRequest{Force: true})
	if err != nil || result.Promised {
		t.Fatalf("forced: %+v, %v", result, err)
	}
	eventually(t, "alpha is deposed", func() bool { return a.status().Deposed })
	if err := a.write("file", "lost"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a deposed primary: %v, want EROFS", err)
	}
	if err := b.write("file", "kept"); err != nil {
		t.Error(err)
	}
}

// TestMountFailsAfterTheEpochIsTaken: there is no way back, and the error says
// what to do.
func TestMountFailsAfterTheEpochIsTaken(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	b.start(b.config(Mirror, 0))
	a.start(a.config(Primary, 1, b))
	a.inSync(1)
	a.halt()
	// A killed mirror keeps what it knows; this one is stopped, so it is told.
	b.halt()
	cfg := b.config(Mirror, 0)
	cfg.Ready = func(string) {}
	cfg, err := cfg.prepared()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cfg: cfg, log: quiet}
	if err := n.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.store.Update(func(s *state.State) error { s.InSync = true; return nil }); err != nil {
		t.Fatal(err)
	}
	answer := make(chan outcome, 1)
	term, err := n.newStandby().promote(t.Context(), promotion{ctx: t.Context(), req: admin.PromoteRequest{Mountpoint: b.mount}, answer: answer})
	if err != nil || term == nil {
		t.Fatalf("promote: %+v, %v", term, err)
	}
	if err := os.Remove(b.mount); err != nil {
		t.Fatal(err)
	}
	if err := n.reign(t.Context(), *term); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reign without a mount point: %v", err)
	}
	o := <-answer
	if o.err == nil || !strings.Contains(o.err.Error(), "is taken and recorded, but the volume is not mounted") ||
		!strings.Contains(o.err.Error(), "`standbyfs mount "+b.replica+" "+b.mount+"` starts it") || !o.result.Promised {
		t.Errorf("answer %+v", o)
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	makeDirs(t, b.mount)
	b.start(b.config(Primary, 0))
	if s := b.status(); s.Epoch != o.result.Epoch || s.Verdict != admin.Healthy {
		t.Errorf("after that: %s", summary(s))
	}
}

func TestPromotionChecksTheMountPointFirst(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	b.start(b.config(Mirror, 0))
	a.start(a.config(Primary, 0, b))
	a.inSync(1)
	a.halt()
	for mountpoint, says := range map[string]string{
		"":                             "--mount MOUNTPOINT",
		b.replica:                      "is the replica",
		b.mount + "/none":              "does not exist: make it with `mkdir",
		DefaultStateDir(b.replica):     "is the state directory",
		filepath.Dir(b.replica):        "lies in the mount point",
		filepath.Join(b.replica, "no"): "does not exist",
	} {
		if _, err := b.admin().Promote(t.Context(), admin.PromoteRequest{Mountpoint: mountpoint}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("mount point %q: %v, want %q", mountpoint, err, says)
		}
	}
	if _, err := b.promote(admin.PromoteRequest{Mirrors: []string{"beta.example.org:1"}}); !strings.Contains(err.Error(), ErrInsecure.Error()) {
		t.Errorf("mirror beyond loopback: %v", err)
	}
	if s := b.status(); s.Role != admin.RoleMirror || !s.InSync {
		t.Errorf("after promotions that could not be: %+v", s)
	}
}
