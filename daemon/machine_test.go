package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
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
