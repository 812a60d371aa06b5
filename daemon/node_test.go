package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// machine is a place where a node runs, and runs again: a replica, a mount
// point and an address that stay.
type machine struct {
	t        *testing.T
	name     string
	replica  string
	mount    string
	addr     string
	stop     context.CancelFunc
	finished chan error
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil && os.Getenv("CI") == "" {
		t.Skip("no /dev/fuse")
	}
	dir := t.TempDir()
	m := &machine{t: t, name: name, replica: filepath.Join(dir, name), mount: filepath.Join(dir, "mnt"), addr: freeAddr(t)}
	makeDirs(t, m.replica, m.mount)
	t.Cleanup(func() {
		if m.stop != nil {
			m.halt()
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(mounts), dir) {
			t.Errorf("a mount is left in %s:\n%s", dir, mounts)
		}
	})
	return m
}

// freeAddr is one that nobody listens on now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *machine) config(role Role, minInSync int, mirrors ...*machine) Config {
	cfg := Config{
		Replica: m.replica, Role: role, Mountpoint: m.mount, Listen: m.addr, Name: m.name, Version: "test", Logger: quiet, StopTimeout: 5 * time.Second,
		Mirror: Mirroring{Heartbeat: 100 * time.Millisecond, AckTimeout: 2 * time.Second, MinInSync: minInSync, RingBytes: 16 << 20},
	}
	if role == Mirror {
		cfg.Mountpoint = ""
	}
	for _, other := range mirrors {
		cfg.Mirror.Peers = append(cfg.Mirror.Peers, mirror.PeerConfig{Addr: other.addr})
	}
	return cfg
}

// start runs a node and returns when it is ready, with the line that it said.
func (m *machine) start(cfg Config) string {
	m.t.Helper()
	line, err := m.try(cfg)
	if err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return line
}

// try is start for a node that may refuse.
func (m *machine) try(cfg Config) (string, error) {
	m.t.Helper()
	ready := make(chan string, 1)
	cfg.Ready = func(line string) { ready <- line }
	ctx, stop := context.WithCancel(context.Background())
	finished := make(chan error, 1)
	go func() { finished <- Run(ctx, cfg) }()
	select {
	case line := <-ready:
		m.stop, m.finished = stop, finished
		return line, nil
	case err := <-finished:
		stop()
		if err == nil {
			err = errors.New("it ended before it was ready")
		}
		return "", err
	}
}

// halt stops the node cleanly and waits for it.
func (m *machine) halt() {
	m.t.Helper()
	m.stop()
	m.stop = nil
	if err := <-m.finished; err != nil {
		m.t.Errorf("%s ended with %v", m.name, err)
	}
}

func (m *machine) admin() *admin.Client {
	m.t.Helper()
	c, err := admin.Dial(DefaultStateDir(m.replica))
	if err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return c
}

func (m *machine) status() admin.Status {
	m.t.Helper()
	s, err := m.admin().Status(m.t.Context())
	if err != nil {
		m.t.Fatalf("status of %s: %v", m.name, err)
	}
	return s
}

func (m *machine) inSync(n int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	if err := m.admin().WaitInSync(ctx, n); err != nil {
		m.t.Fatalf("%d mirrors in sync with %s: %v; %s", n, m.name, err, summary(m.status()))
	}
}

func (m *machine) write(name, text string) error {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.mount, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (m *machine) holds(path, text string) {
	m.t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		m.t.Errorf("%s of %s: %q, %v, want %q", path, m.name, got, err, text)
	}
}

func (m *machine) promote(req admin.PromoteRequest) (admin.PromoteResult, error) {
	m.t.Helper()
	req.Mountpoint = m.mount
	return m.admin().Promote(m.t.Context(), req)
}

// eventually waits for what is announced by nobody.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

func summary(s admin.Status) string {
	var text strings.Builder
	s.WriteText(&text)
	return text.String()
}

func equal(t *testing.T, a, b *machine) {
	t.Helper()
	ta, err := tree.Open(a.replica)
	if err != nil {
		t.Fatal(err)
	}
	defer ta.Close()
	tb, err := tree.Open(b.replica)
	if err != nil {
		t.Fatal(err)
	}
	defer tb.Close()
	differences, err := tree.Diff(ta, tb)
	if err != nil || len(differences) > 0 {
		t.Errorf("%s and %s differ: %q, %v", a.name, b.name, differences, err)
	}
}

func TestPrimaryAlone(t *testing.T) {
	a := newMachine(t, "alpha")
	if err := os.WriteFile(filepath.Join(a.replica, "old"), []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := a.config(Primary, 0)
	cfg.Listen = ""
	line := a.start(cfg)
	if !strings.Contains(line, "is mounted on "+a.mount) || !strings.Contains(line, "no mirrors") {
		t.Errorf("ready line %q", line)
	}
	a.holds(filepath.Join(a.mount, "old"), "as it was")
	if err := a.write("new", "text"); err != nil {
		t.Error(err)
	}
	before := a.status()
	if before.Verdict != admin.Healthy || !before.Mounted || before.Volume == "" || before.Epoch.Number != 1 {
		t.Errorf("status %+v", before)
	}
	if _, err := a.promote(admin.PromoteRequest{}); err == nil || !strings.Contains(err.Error(), "is the primary already") {
		t.Errorf("promote a primary: %v", err)
	}
	if err := a.admin().WaitInSync(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "can never be in sync") {
		t.Errorf("wait for a mirror of none: %v", err)
	}
	if _, err := a.admin().Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "no mirrors") {
		t.Errorf("verify without mirrors: %v", err)
	}
	if _, err := (&machine{t: t, name: "second"}).try(cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("a second node on the replica: %v, want ErrLocked", err)
	}
	a.halt()
	a.holds(filepath.Join(a.replica, "new"), "text")
	off, err := FromState(DefaultStateDir(a.replica))
	if err != nil || off.Verdict != admin.Down || off.Role != admin.RolePrimary || off.Volume != before.Volume {
		t.Errorf("status without a node: %+v, %v", off, err)
	}
	a.start(cfg)
	after := a.status()
	if after.Volume != before.Volume || after.Line.Epoch != before.Line.Epoch || after.Line.Incarnation != before.Line.Incarnation+1 {
		t.Errorf("after a restart: volume %s, line %s; before: %s, %s", after.Volume, after.Line, before.Volume, before.Line)
	}
}

func TestUnmountedFromOutside(t *testing.T) {
	a := newMachine(t, "alpha")
	a.start(a.config(Primary, 0))
	if err := syscall.Unmount(a.mount, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-a.finished; err != nil {
		t.Errorf("ended with %v", err)
	}
	a.stop()
	a.stop = nil
}

func TestBusyMountIsDetached(t *testing.T) {
	a := newMachine(t, "alpha")
	cfg := a.config(Primary, 0)
	cfg.StopTimeout = 100 * time.Millisecond
	a.start(cfg)
	f, err := os.Create(filepath.Join(a.mount, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a.halt()
	s, err := FromState(DefaultStateDir(a.replica))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Events {
		if e.Kind == "detached" && strings.Contains(e.Text, "still busy after 100ms") {
			return
		}
	}
	t.Errorf("no event says that the mount was detached: %+v", s.Events)
}

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
	if !result.Promised || !strings.Contains(strings.Join(result.Text, "\n"), "1 other mirrors were reached and recorded epoch") {
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

// TestMountFailsAfterTheEpochIsTaken cannot go back, and says what to do.
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

// callNode makes a call of the bulk lane, as a node that takes over does.
func callNode(t *testing.T, m *machine, method string, in, out any) error {
	t.Helper()
	s, err := wire.Dial(t.Context(), m.addr, wire.LaneBulk, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return wire.Call(t.Context(), s, method, in, out)
}

func TestFencedByACall(t *testing.T) {
	for _, mirrors := range []int{0, 1} {
		t.Run(plural(mirrors, "mirror"), func(t *testing.T) {
			a := newMachine(t, "alpha")
			var peers []*machine
			for range mirrors {
				b := newMachine(t, "beta")
				b.start(b.config(Mirror, 0))
				peers = append(peers, b)
			}
			a.start(a.config(Primary, 0, peers...))
			if err := a.write("file", "first"); err != nil {
				t.Fatal(err)
			}
			var before wire.AskAnswer
			if err := callNode(t, a, methodAsk, struct{}{}, &before); err != nil || before.Role != string(Primary) || before.Name != "alpha" {
				t.Errorf("ask: %+v, %v", before, err)
			}
			fence := func(epoch op.Epoch, volume string) error {
				var answer wire.AskAnswer
				return callNode(t, a, methodFence, fenceRequest{FenceRequest: wire.FenceRequest{Volume: volume, Epoch: epoch, Name: "delta"}}, &answer)
			}
			if err := fence(op.Epoch{Number: 9, Owner: nodeD}, "another"); err == nil || !strings.Contains(err.Error(), "keeps volume") {
				t.Errorf("fence for another volume: %v", err)
			}
			if err := fence(before.Epoch, before.Volume); err == nil || !strings.Contains(err.Error(), "is not higher") {
				t.Errorf("fence with its own epoch: %v", err)
			}
			if err := a.write("file", "second"); err != nil {
				t.Errorf("write after fences that are void: %v", err)
			}
			if err := fence(op.Epoch{Number: 9, Owner: nodeD}, before.Volume); err != nil {
				t.Fatal(err)
			}
			if err := a.write("file", "third"); !errors.Is(err, syscall.EROFS) {
				t.Errorf("write to a fenced primary: %v, want EROFS", err)
			}
			a.holds(filepath.Join(a.mount, "file"), "second")
			if s := a.status(); !s.Deposed || s.Verdict != admin.Down || s.Epoch.Number != 9 {
				t.Errorf("status: %s", summary(s))
			}
			a.halt()
			if _, err := a.try(a.config(Primary, 0)); !errors.Is(err, ErrDeposed) {
				t.Errorf("restart: %v, want ErrDeposed", err)
			}
		})
	}
}

// TestPrimaryRefusesToBeAMirror, whoever connects.
func TestPrimaryRefusesToBeAMirror(t *testing.T) {
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	a.start(a.config(Primary, 0))
	b.start(b.config(Primary, 0, a))
	eventually(t, "beta is refused", func() bool {
		s := b.status()
		return s.Mirroring.Peers[0].State == mirror.StateRefused
	})
	if s := b.status(); !strings.Contains(s.Summary(), "alpha is the primary of volume") {
		t.Errorf("beta: %s", summary(s))
	}
}

// TestKilledPrimaryStartsAsAMirror is the operator's own decision to step down.
func TestPrimaryStartsAsAMirror(t *testing.T) {
	a := newMachine(t, "alpha")
	a.start(a.config(Primary, 0))
	volume := a.status().Volume
	a.halt()
	a.start(a.config(Mirror, 0))
	s := a.status()
	if s.Role != admin.RoleMirror || s.InSync || s.Volume != volume || s.Epoch.Number != 1 || !strings.Contains(s.Summary(), "it was the primary") {
		t.Errorf("status: %s", summary(s))
	}
	a.halt()
	if _, err := a.try(a.config(Primary, 0)); !errors.Is(err, ErrIsMirror) {
		t.Errorf("and back without a promotion: %v, want ErrIsMirror", err)
	}
}
