package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

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
	if _, err := (&machine{t: t, name: "second"}).try(cfg); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second node on the replica: %v, want state.ErrLocked", err)
	}
	a.halt()
	a.holds(filepath.Join(a.replica, "new"), "text")
	off, err := FromState(DefaultStateDir(a.replica))
	if err != nil || off.Verdict != admin.Down || off.Role != admin.RolePrimary || off.Volume != before.Volume {
		t.Errorf("status without a node: %+v, %v", off, err)
	}
	a.start(cfg)
	after := a.status()
	if after.Volume != before.Volume || after.Line.Epoch != before.Line.Epoch || after.Line.Incarnation <= before.Line.Incarnation {
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

// TestMutualTLS: nodes with certificates of one CA find each other, and others
// are told what is wrong.
func TestMutualTLS(t *testing.T) {
	ca := t.TempDir()
	if err := wire.InitCA(ca); err != nil {
		t.Fatal(err)
	}
	with := func(cfg Config) Config {
		dir, err := wire.Issue(ca, cfg.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.TLS, err = wire.LoadTLS(dir); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	a, b := newMachine(t, "alpha"), newMachine(t, "beta")
	b.start(with(b.config(Mirror, 0)))
	a.start(a.config(Primary, 0, b))
	eventually(t, "alpha without a certificate hears no", func() bool { return a.status().Mirroring.Peers[0].Reason != "" })
	a.halt()
	a.start(with(a.config(Primary, 0, b)))
	a.inSync(1)
	if err := a.write("file", "first"); err != nil {
		t.Error(err)
	}
	equal(t, a, b)
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

// TestPrimaryStartsAsAMirror is the operator's own decision to step down.
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

// local is m's configuration with what keeps scratch files from mirrors.
func local(cfg Config) Config {
	cfg.Mirror.Rules = []mirror.Rule{{Match: "*.tmp", Sync: mirror.SyncLocal}}
	return cfg
}

// TestWhatIsLocalChanges: no record tells of a path that did not travel. When it
// begins to, at a restart or by a promotion, the mirror is not taken for equal.
func TestWhatIsLocalChanges(t *testing.T) {
	for _, how := range []string{"restart", "promotion"} {
		t.Run(how, func(t *testing.T) {
			a, b := newMachine(t, "alpha"), newMachine(t, "beta")
			often := func(cfg Config) Config { cfg.Mirror.CheckpointEvery = 20 * time.Millisecond; return cfg }
			b.start(often(b.config(Mirror, 0)))
			a.start(often(local(a.config(Primary, 0, b))))
			a.inSync(1)
			if err := errors.Join(a.write("x.tmp", "local"), a.write("y", "mirrored")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing is hot", func() bool { return a.status().Hot+b.status().Hot == 0 })
			a.halt()
			if how == "restart" {
				a.start(a.config(Primary, 0, b))
				a.inSync(1)
				b.holds(filepath.Join(b.replica, "x.tmp"), "local")
				resyncs := a.status().Mirroring.Peers[0].Resyncs
				a.halt()
				a.start(a.config(Primary, 0, b))
				a.inSync(1)
				if again := a.status().Mirroring.Peers[0].Resyncs; resyncs != 1 || again != 0 {
					t.Errorf("%d resyncs, then %d: want one when the rule went, and no other", resyncs, again)
				}
			} else {
				if _, err := b.promote(admin.PromoteRequest{Mirrors: []string{a.addr}}); err != nil {
					t.Fatal(err)
				}
				a.start(a.config(Mirror, 0))
				b.inSync(1)
			}
			equal(t, a, b)
		})
	}
}
