package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// TestExpulsionIsDurable kills the primary the moment a call has returned that
// waited for a mirror: its state must know that the mirror is out.
func TestExpulsionIsDurable(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	c.Nets[0].Set(harness.MustFault("stall"))
	err := write(c.Primary, "file", "acknowledged alone")
	c.Primary.Kill()
	if err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, c.Primary); len(s.Set) != 0 || s.Role != daemon.Primary {
		t.Errorf("the state says set %v, role %s", s.Set, s.Role)
	}
	c.Nets[0].Set(harness.Good)
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(1)
	mustRead(t, c.Mirrors[0].InReplica("file"), "acknowledged alone")
}

// TestSIGTERM stops a primary cleanly: nothing is mounted any more and the
// mirror has all of it, times that waited for an idle file included.
func TestSIGTERM(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{Sync: mirror.SyncBarrier}})
	f, err := os.Create(c.Primary.Path("file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("not synced"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.Primary.MustStop()
	if _, mounted := harness.MountedAt(t, c.Primary.Mountpoint); mounted {
		t.Error("the mount is still there")
	}
	if differ := harness.DifferentReplicas(t, c.Primary.Replica, c.Mirrors[0].Replica); len(differ) > 0 {
		t.Errorf("after a clean stop the replicas differ:\n%s", strings.Join(differ, "\n"))
	}
	if s := c.Mirrors[0].Status(); !s.InSync {
		t.Errorf("the mirror is not in sync after the primary's clean stop: %s", s.Why)
	}
}

// TestSIGTERMWhileBusy stops a primary whose mount is in use: it is detached
// after a bounded wait, and that is said.
func TestSIGTERMWhileBusy(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true})
	f, err := os.Create(c.Primary.Path("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("in use"); err != nil {
		t.Fatal(err)
	}
	if err := c.Primary.Stop(); err != nil {
		t.Errorf("stopping it: %v", err)
	}
	says(t, c.Primary.Stderr(), "busy", "detached")
	if _, mounted := harness.MountedAt(t, c.Primary.Mountpoint); mounted {
		t.Error("the mount is still there")
	}
	mustRead(t, c.Mirrors[0].InReplica("open"), "in use")
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(1)
}

// TestStaleMountPoint starts a primary where a killed one has left its mount.
func TestStaleMountPoint(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true})
	mustWrite(t, c.Primary, "file", "text")
	c.Primary.Kill()
	if _, err := os.Stat(c.Primary.Path("file")); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("under a dead mount: %v, want %v", err, syscall.ENOTCONN)
	}
	c.Primary.Start(daemon.Primary)
	mustRead(t, c.Primary.Path("file"), "text")
	c.Primary.WaitInSync(1)

	// A mount that lives is not touched.
	n := c.NewNode("beside")
	n.Mountpoint = c.Primary.Mountpoint
	err := n.TryStart(daemon.Primary)
	if err == nil {
		t.Fatal("a second primary mounts over the first one")
	}
	says(t, err.Error(), c.Primary.Mountpoint)
	mustRead(t, c.Primary.Path("file"), "text")
}

// TestSIGKILL kills a node at random moments while files are written and
// synced. Whatever was acknowledged is there, and everything starts again.
func TestSIGKILL(t *testing.T) {
	r := rand.New(rand.NewPCG(seed.New(t), 0))
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	var acked []string
	for round := range 8 {
		victim := c.Nodes()[r.IntN(3)]
		role := daemon.Mirror
		if victim == c.Primary {
			role = daemon.Primary
		}
		after := time.After(time.Duration(r.IntN(120)) * time.Millisecond)
		killed := make(chan struct{})
		go func() {
			<-after
			victim.Kill()
			close(killed)
		}()
		for i := 0; ; i++ {
			name := fmt.Sprintf("round%d-%d", round, i)
			if err := write(c.Primary, name, name); err != nil {
				break // the primary is gone
			}
			acked = append(acked, name)
			select {
			case <-killed:
			default:
				continue
			}
			break
		}
		<-killed
		victim.Start(role)
		c.Primary.WaitInSync(2)
		for _, name := range acked {
			for _, n := range c.Nodes() {
				mustRead(t, n.InReplica(name), name)
			}
		}
		t.Logf("round %d: killed %s, %d files so far", round, victim.Name, len(acked))
	}
}

// TestExitCodes runs the commands that scripts rely on.
func TestExitCodes(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout}})
	p, m := c.Primary, c.Mirrors[0]
	mustWrite(t, p, "file", "text")
	expect := func(code int, args ...string) harness.Result {
		t.Helper()
		r := harness.Command(t, args...)
		if r.Code != code {
			t.Errorf("standbyfs %s: exit code %d, want %d", strings.Join(args, " "), r.Code, code)
		}
		return r
	}
	says(t, expect(0, "status", p.Replica).Stdout, "healthy", "mirror1")
	expect(0, "status", p.Mountpoint)
	expect(0, "status", m.Replica)
	var s admin.Status
	if err := json.Unmarshal([]byte(expect(0, "status", p.Replica, "-o", "json").Stdout), &s); err != nil || s.Verdict != admin.Healthy {
		t.Errorf("status as JSON: %+v, %v", s, err)
	}
	expect(0, "wait", p.Replica, "--in-sync", "1", "--timeout", "30s")
	expect(0, "verify", p.Replica)
	says(t, expect(1, "promote", m.Replica, "--mount", m.Mountpoint).Stderr, "alive", "--force")

	if err := os.Chmod(m.InReplica("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := expect(1, "verify", p.Replica)
	says(t, r.Stdout+r.Stderr, "file", "mode")
	if err := os.Chmod(m.InReplica("file"), 0o644); err != nil {
		t.Fatal(err)
	}

	m.Kill()
	p.Until("degraded", func(s admin.Status) bool { return s.Verdict == admin.Degraded })
	says(t, expect(1, "status", p.Replica).Stdout, "degraded", "mirror1")
	if r := harness.Command(t, "wait", p.Replica, "--in-sync", "1", "--timeout", "200ms"); r.Code == 0 {
		t.Error("wait returns 0 without a mirror")
	}
	says(t, expect(2, "status", m.Replica).Stdout, "down", "not running")
	p.MustStop()
	expect(2, "status", p.Replica)
	expect(2, "status", p.Replica, "--state", p.StateDir+".nowhere")
}

// TestTLS runs a cluster on certificates, and meets wrong ones.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	issue := func(ca, name string) string {
		t.Helper()
		if r := harness.Command(t, "ca", "issue", name, "--dir", dir+"/"+ca); r.Code != 0 {
			t.Fatalf("ca issue: exit code %d", r.Code)
		}
		return dir + "/" + ca + "/" + name
	}
	for _, ca := range []string{"ours", "theirs"} {
		if r := harness.Command(t, "ca", "init", "--dir", dir+"/"+ca); r.Code != 0 {
			t.Fatalf("ca init: exit code %d", r.Code)
		}
	}
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Manual: true})
	m := c.Mirrors[0]
	ours := []string{"--tls", issue("ours", "primary")}
	c.Primary.Args = ours
	reason := func() string {
		t.Helper()
		return untilPeer(c, 0, "a reason", func(p mirror.PeerStatus) bool {
			return p.Reason != "" && !p.Connected && !strings.Contains(p.Reason, "connection refused") && !strings.Contains(p.Reason, "EOF")
		}).Reason
	}
	c.Primary.Start(daemon.Primary)

	t.Run("certificate of another authority", func(t *testing.T) {
		m.Args = []string{"--tls", issue("theirs", "mirror1")}
		m.Start(daemon.Mirror)
		says(t, reason(), "certificate")
		m.MustStop()
	})
	t.Run("no certificate", func(t *testing.T) {
		m.Args = nil
		m.Start(daemon.Mirror)
		harness.Eventually(t, "the mirror to notice", func() bool { return strings.Contains(m.Stderr(), "TLS") })
		if s := c.Primary.Status(); len(s.Mirroring.Set) != 0 {
			t.Errorf("the set is %v", s.Mirroring.Set)
		}
		m.MustStop()
	})
	t.Run("right certificate", func(t *testing.T) {
		m.Args = []string{"--tls", issue("ours", "mirror1")}
		m.Start(daemon.Mirror)
		c.Primary.WaitInSync(1)
		mustWrite(t, c.Primary, "file", "encrypted on its way")
		mustRead(t, m.InReplica("file"), "encrypted on its way")
	})
	t.Run("flipped bit", func(t *testing.T) {
		before := peer(c.Primary.Status(), c.Nets[0].Addr())
		c.Nets[0].Set(harness.MustFault("reset"))
		c.Nets[0].Set(harness.MustFault("up:flip(20000)"))
		wrote := make(chan error, 1)
		go func() { wrote <- write(c.Primary, "flipped", strings.Repeat("x", 100_000)) }()
		untilPeer(c, 0, "sessions to begin and end", func(p mirror.PeerStatus) bool { return p.Resumes >= before.Resumes+2 })
		c.Nets[0].Set(harness.Good)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		mustRead(t, m.InReplica("flipped"), strings.Repeat("x", 100_000))
	})
	t.Run("wrong certificate of the primary", func(t *testing.T) {
		c.Primary.MustStop()
		c.Primary.Args = []string{"--tls", issue("theirs", "primary")}
		c.Primary.Start(daemon.Primary)
		says(t, reason(), "certificate")
		c.Primary.MustStop()
		c.Primary.Args = ours
		c.Primary.Start(daemon.Primary)
		c.Primary.WaitInSync(1)
	})
}

// TestBlockedCallCanBeInterrupted sends a signal to a program whose call waits
// in a shortage.
func TestBlockedCallCanBeInterrupted(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{AckTimeout: ackTimeout, MinInSync: 1}})
	c.Mirrors[0].Kill()
	c.Primary.Until("a shortage", func(s admin.Status) bool { return s.Mirroring.Shortage })
	child, err := os.StartProcess("/bin/touch", []string{"touch", c.Primary.Path("waits")}, &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the call to wait", func() bool {
		// The child sleeps in the kernel, in a request to the file system.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", child.Pid))
		return err == nil && strings.HasPrefix(string(stat), fmt.Sprint(unix.SYS_OPENAT))
	})
	if err := child.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	state, err := child.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if status := state.Sys().(syscall.WaitStatus); !status.Signaled() {
		t.Errorf("it ended with %v", state)
	}
	c.Mirrors[0].Start(daemon.Mirror)
	c.Primary.WaitInSync(1)
	if _, err := os.Stat(c.Primary.Path("waits")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the interrupted call has had an effect: %v", err)
	}
}
