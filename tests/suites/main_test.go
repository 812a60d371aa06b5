// Package suites runs test suites that others wrote on mounts of each kind, all
// of them served by processes of their own, as a user's are. One file has one
// suite; this one has what they run on. `make suites` installs them and runs
// this package.
package suites

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// times makes suites that could go on for ever run so many times as long.
var times = flag.Int("times", harness.Number("TIMES", 1), "how many times as long as usual; also $TIMES")

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// kind is a kind of mount.
type kind struct {
	name    string
	mirrors int
	sync    mirror.Level
}

var (
	null     = kind{name: "null"}
	mirrored = kind{"mirrored", 2, mirror.SyncOp}
	barrier  = kind{"barrier", 2, mirror.SyncBarrier}
)

// place is a directory, open to every user, that a suite runs in.
type place struct {
	dir     string
	cluster *harness.Cluster // nil on a plain disk
}

// on runs a suite on a mount of each of the kinds. After each run the mirrors
// must be in sync, must never have left, and their replicas must equal the
// primary's, which must hold just what the mount shows.
func on(t *testing.T, kinds []kind, run func(t *testing.T, p place)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			open(t)
			point := mountpoint(t)
			c := harness.NewCluster(t, harness.Options{
				Mirrors: k.mirrors, Mirroring: daemon.Mirroring{Sync: k.sync}, Processes: true, Manual: true,
			})
			for _, m := range c.Mirrors {
				m.Start(daemon.Mirror)
			}
			c.Primary.Args = []string{"--suid", "--dev"}
			c.Primary.Mountpoint = point
			c.Primary.Start(daemon.Primary)
			c.Primary.WaitInSync(k.mirrors)
			p := place{c.Primary.Path("suite"), c}
			mkdir(t, p.dir)
			run(t, p)
			p.level(t)
			p.shows(t)
		})
	}
}

// plain returns a place on an ext4 of its own, by which mounts are judged.
func plain(t *testing.T) place {
	t.Helper()
	open(t)
	d := harness.NewDisk(t, filepath.Join(t.TempDir(), "ext4"), 2<<30)
	p := place{dir: filepath.Join(d.Dir, "suite")}
	mkdir(t, p.dir)
	return p
}

// open lets every user reach what lies below the test's directories.
func open(t *testing.T) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(t.TempDir()), 0o755); err != nil {
		t.Fatal(err)
	}
}

// mountpoint returns a mount point with a short path, since that of a socket
// may have 107 bytes in all.
func mountpoint(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mnt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mkdir(dir, 0o777); err != nil {
		t.Fatalf("mkdir %s: %v", dir, err)
	}
}

// level fails the test if a mirror is not in sync or has ever left: then what
// is compared at the end would owe nothing to the stream of ops.
func (p place) level(t *testing.T) {
	t.Helper()
	s := p.cluster.Primary.Status()
	if s.Mirroring == nil {
		return
	}
	for _, peer := range s.Mirroring.Peers {
		if !peer.InSync || peer.Resyncs != 1 {
			t.Errorf("peer %s: in sync %t after %d resyncs: it must never have left", peer.Name, peer.InSync, peer.Resyncs)
		}
	}
}

// shows fails the test if the mount shows anything but what the replica holds.
func (p place) shows(t *testing.T) {
	t.Helper()
	seen, err := harness.ReadSnapshot(p.cluster.Primary.Mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	held, err := harness.ReadSnapshot(p.cluster.Primary.Replica)
	if err != nil {
		t.Fatal(err)
	}
	// Whether space that was reserved and never written is a hole depends on
	// what of it is in the page cache.
	if differ := harness.Differences(seen, held, harness.Aspects{Holes: true}); len(differ) > 0 {
		t.Errorf("the mount shows one thing and the replica holds another:\n%s", strings.Join(differ, "\n"))
	}
}

// verified does something on the mount and meanwhile compares the replicas
// again and again. It is for suites that remove what they made, so that at
// their end there is nothing left to compare.
func (p place) verified(t *testing.T, do func()) {
	t.Helper()
	if p.cluster == nil || len(p.cluster.Mirrors) == 0 {
		do()
		return
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.verify(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	do()
}

// verify compares the replicas until ctx ends or they differ.
func (p place) verify(ctx context.Context) error {
	node, err := admin.Dial(p.cluster.Primary.StateDir)
	if err != nil {
		return fmt.Errorf("verify in the middle of a run: %w", err)
	}
	for {
		report, err := node.Verify(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("verify in the middle of a run: %w", err)
		}
		for _, peer := range report.Peers {
			if !peer.Checked || len(peer.Differences) > 0 {
				return fmt.Errorf("verify in the middle of a run: %s: checked %t %s\n%s", peer.Name, peer.Checked, peer.Reason,
					strings.Join(peer.Differences, "\n"))
			}
		}
	}
}

// program runs a command of a suite in the place and returns what it printed
// and its exit code. It is ended after limit, which nothing should reach.
func (p place) program(t *testing.T, limit time.Duration, name string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	cmd.WaitDelay = 5 * time.Second
	// It must not outlive a test run that is killed. The signal belongs to the
	// thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v (it may take %s)\n%s", name, strings.Join(args, " "), err, limit, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// installed returns where `make suites` has put a program that no package of
// Debian has.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../build/suites/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make suites` once, it installs what this package needs", err)
	}
	return path
}
