package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
)

// patience bounds every wait of a test. It is for what must happen, so it is
// long: two cores may be busy with other packages' tests.
const patience = 60 * time.Second

// Node is one standbyfs node with its directories. It can be started and
// stopped again and again, in either role.
type Node struct {
	Name       string
	Replica    string
	StateDir   string
	Mountpoint string
	Addr       string // where it listens

	// Config is changed by a test before a start. Its directories, name,
	// address and logger are the node's own.
	Config daemon.Config
	// Args are added to the command line where nodes are processes.
	Args []string
	// Env is added to the environment where nodes are processes.
	Env []string

	t      testing.TB
	launch launcher
	run    instance // the last start's; nil before
}

// launcher starts a node, in this process or as another one, and returns once
// it is ready.
type launcher func(t testing.TB, n *Node) (instance, error)

// instance is one run of a node.
type instance interface {
	// stop asks it to end cleanly, waits until it has, and returns how it ended.
	stop() error
	// done is closed when it has ended.
	done() <-chan struct{}
	// pid is the process it runs in.
	pid() int
}

// newNode makes a node's directories below dir.
func newNode(t testing.TB, dir, name string, launch launcher) *Node {
	t.Helper()
	n := &Node{
		Name:       name,
		Replica:    filepath.Join(dir, name, "replica"),
		Mountpoint: filepath.Join(dir, name, "mount"),
		Addr:       freeAddr(t),
		t:          t,
		launch:     launch,
	}
	n.StateDir = daemon.DefaultStateDir(n.Replica)
	for _, d := range []string{n.Replica, n.Mountpoint} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// freeAddr returns a loopback address that nobody listens on. Its port is below
// those that the kernel gives to outgoing connections: one of these could take
// it before the node does.
func freeAddr(t testing.TB) string {
	t.Helper()
	const lowest, end, tries = 10_000, 32_768, 100
	var err error
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(end-lowest))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatalf("no free port after %d tries: %v", tries, err)
	return ""
}

// Start starts the node in a role and fails the test if that is not possible.
func (n *Node) Start(role daemon.Role) {
	n.t.Helper()
	if err := n.TryStart(role); err != nil {
		n.t.Fatalf("starting %s as %s: %v", n.Name, role, err)
	}
}

// TryStart starts the node in a role and returns why it could not.
func (n *Node) TryStart(role daemon.Role) error {
	n.t.Helper()
	if n.Running() {
		n.t.Fatalf("%s runs already", n.Name)
	}
	n.Config.Role = role
	run, err := n.launch(n.t, n)
	if err != nil {
		return err
	}
	n.run = run
	return nil
}

// Running reports whether the node was started and has not ended.
func (n *Node) Running() bool {
	if n.run == nil {
		return false
	}
	select {
	case <-n.run.done():
		return false
	default:
		return true
	}
}

// PID returns the process that the node runs in.
func (n *Node) PID() int { return n.run.pid() }

// Stop ends the node cleanly and returns its error.
func (n *Node) Stop() error {
	if n.run == nil {
		return nil
	}
	return n.run.stop()
}

// MustStop is Stop for a node that must end without an error.
func (n *Node) MustStop() {
	n.t.Helper()
	if err := n.Stop(); err != nil {
		n.t.Fatalf("stopping %s: %v", n.Name, err)
	}
}

// Path is where an object of the volume lies under the node's mount.
func (n *Node) Path(path string) string { return filepath.Join(n.Mountpoint, path) }

// InReplica is where an object of the volume lies in the node's replica.
func (n *Node) InReplica(path string) string { return filepath.Join(n.Replica, path) }

// Admin returns a client of the running node.
func (n *Node) Admin() *admin.Client {
	n.t.Helper()
	c, err := admin.Dial(n.StateDir)
	if err != nil {
		n.t.Fatalf("reaching %s: %v", n.Name, err)
	}
	return c
}

// Status returns the running node's status.
func (n *Node) Status() admin.Status {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := n.Admin().Status(ctx)
	if err != nil {
		n.t.Fatalf("status of %s: %v", n.Name, err)
	}
	return s
}

// WaitInSync returns once so many mirrors of this primary are in sync.
func (n *Node) WaitInSync(mirrors int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Admin().WaitInSync(ctx, mirrors); err != nil {
		n.t.Fatalf("waiting for %d mirrors in sync: %v\n%s", mirrors, err, n.describe())
	}
}

// Until waits until the node's status is as ok wants it, and returns it.
func (n *Node) Until(what string, ok func(admin.Status) bool) admin.Status {
	n.t.Helper()
	var s admin.Status
	Eventually(n.t, what+" on "+n.Name, func() bool {
		s = n.Status()
		return ok(s)
	}, n.describe)
	return s
}

// UntilEvent waits until the node has recorded an event of which ok is true.
func (n *Node) UntilEvent(what string, ok func(admin.Event) bool) admin.Event {
	n.t.Helper()
	var found admin.Event
	Eventually(n.t, "event "+what+" on "+n.Name, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		events, err := n.Admin().Events(ctx, 500)
		if err != nil {
			n.t.Fatalf("events of %s: %v", n.Name, err)
		}
		for _, e := range events {
			if ok(e) {
				found = e
				return true
			}
		}
		return false
	}, n.describe)
	return found
}

// describe prints the node's status for a failing test.
func (n *Node) describe() string {
	c, err := admin.Dial(n.StateDir)
	if err != nil {
		return fmt.Sprintf("%s: %v", n.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return fmt.Sprintf("%s: %v", n.Name, err)
	}
	text := fmt.Sprintf("%s: %s, role %s, in sync %t (%s), epoch %s, reasons %q", n.Name, s.Verdict, s.Role, s.InSync, s.Why, s.Epoch, s.Reasons)
	if s.Mirroring != nil {
		text += fmt.Sprintf(", LSN %d, commit %d, set %v", s.Mirroring.LSN, s.Mirroring.Commit, s.Mirroring.Set)
		for _, p := range s.Mirroring.Peers {
			text += fmt.Sprintf("\n\tpeer %+v", p)
			if p.Resync != nil {
				text += fmt.Sprintf("\n\t     %+v", *p.Resync)
			}
		}
	}
	if s.Receiving != nil {
		text += fmt.Sprintf("\n\treceiving %+v", *s.Receiving)
	}
	return text
}

// Eventually waits until ok returns true. It asks every few milliseconds and
// is for what nothing announces. After a long time the test fails with what,
// and with what describe returns.
func Eventually(t testing.TB, what string, ok func() bool, describe ...func() string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			text := ""
			for _, d := range describe {
				text += "\n" + d()
			}
			t.Fatalf("waited %s for %s%s", patience, what, text)
		}
	}
}

// errNotReady is how a start ends that nobody saw becoming ready.
var errNotReady = errors.New("it ended without becoming ready and without an error")

// logTo returns where a node's log goes: to the test's output, marked with the
// node's name. go test shows it when the test fails.
func logTo(t testing.TB, name string) io.Writer {
	return &lineWriter{to: t.Output(), mark: name + ": "}
}
