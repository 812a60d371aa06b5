package servers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// driver says how a module of drivers/ is played.
type driver struct {
	module string
	mode   string // of the module
	// server: there is a process that serves, and the clients are on other
	// machines. Without one the clients are on the machine that is killed.
	server bool
	// meanwhile, if not nil, runs in each round when the clients are at work,
	// before anything is killed.
	meanwhile func(g *game)
}

// game is a volume on three machines under a server's load.
type game struct {
	*testing.T
	driver
	dice    *rand.Rand
	primary *harness.Node
	mirrors []*harness.Node
	acked   *ledger
	run     string // a directory outside of the volume, for one round
	serving *child // the server; nil for a library
	load    *child // the clients
}

// failover plays rounds in each of which the server's machine is killed while
// clients work, and one of its mirrors is promoted and served. After each one
// the server's own checks find nothing wrong there, nothing acknowledged is
// missing, and all replicas are equal once the old primary has come back.
func failover(t *testing.T, d driver) {
	g := newGame(t, d)
	for round := range *rounds {
		began := time.Now()
		g.work(fmt.Sprintf("round%d", round+1))
		if d.meanwhile != nil {
			d.meanwhile(g)
		}
		g.pause(1500 * time.Millisecond)
		order := g.crash()
		deposed := g.promote()
		g.serve()
		deposed.Start(daemon.Mirror)
		g.ask("check")
		g.primary.WaitInSync(len(g.mirrors))
		if r := harness.Command(t, "verify", g.primary.Replica); r.Code != 0 {
			t.Fatalf("after round %d the replicas differ", round+1)
		}
		sum := 0
		acknowledged, _ := g.acked.read()
		for _, n := range acknowledged {
			sum += n
		}
		t.Logf("round %d: killed %s, promoted %s; %d acknowledged, none missing (%.1f s)",
			round+1, order, g.primary.Name, sum, time.Since(began).Seconds())
	}
}

// newGame sets up the machines, with an empty database that is served.
func newGame(t *testing.T, d driver) *game {
	harness.NeedFUSE(t)
	install(t)
	openUp(t)
	g := &game{T: t, driver: d, dice: draw(t), acked: &ledger{last: map[string]int{}}}
	// What was acknowledged is as safe with either level.
	m := daemon.Mirroring{MinInSync: 1, Sync: []mirror.Level{mirror.SyncOp, mirror.SyncBarrier}[g.dice.IntN(2)]}
	t.Logf("sync: %s", m.Sync)
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true, Manual: true, Mirroring: m})
	g.primary, g.mirrors = c.Primary, slices.Clone(c.Mirrors)
	for _, n := range g.mirrors {
		n.Config.Mirror.MinInSync = 1
		n.Start(daemon.Mirror)
	}
	g.primary.Start(daemon.Primary)
	g.primary.WaitInSync(len(g.mirrors))
	t.Cleanup(func() {
		if t.Failed() {
			g.keep()
		}
	})
	g.run = t.TempDir()
	if _, err := g.call("prepare", nil); err != nil {
		t.Fatal(err)
	}
	g.serve()
	return g
}

// command returns what calls the driver for the volume as the primary has it.
func (g *game) command(verb string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(root(g.T), "build/venv/bin/python"), append([]string{"-m", "drivers." + g.module, verb,
		"--directory", g.primary.Mountpoint, "--run", g.run, "--mode", g.mode}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// call runs a verb of the driver to its end and returns what it prints.
func (g *game) call(verb string, stdin []byte, args ...string) (string, error) {
	cmd := g.command(verb, args...)
	var stdout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, g.Output()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("%s of the driver for %s: %w", verb, g.module, err)
	}
	return stdout.String(), nil
}

// serve starts the server, if there is one, on the primary's mount.
func (g *game) serve() {
	g.Helper()
	g.run = g.TempDir()
	if g.server {
		g.serving = start(g.T, g.module, g.command("serve"), func(line string) bool { return line == "ready" })
	}
}

// work starts the clients and returns when each of them has done something.
func (g *game) work(round string) {
	g.Helper()
	cmd := g.command("load", "--name", round, "--seed", fmt.Sprint(g.dice.Int64()))
	g.load = start(g.T, "the clients of "+g.module, cmd, g.acked.heard(g.T))
}

// pause lets time go by, up to most: what it hits is what the test is about.
func (g *game) pause(most time.Duration) {
	<-time.After(time.Duration(g.dice.Int64N(int64(most))))
}

// crash kills the primary's machine: standbyfs and the server, or the clients
// that are on it, in either order. It returns who died in which order.
func (g *game) crash() string {
	g.Helper()
	victim := g.load
	if g.server {
		victim = g.serving
	}
	victim.mustRun(g.T)
	if _, ended := g.acked.read(); len(ended) > 0 {
		g.Fatalf("ended before anything was killed: %s", ended)
	}
	kills := []func(){g.primary.Kill, victim.kill}
	names := []string{g.primary.Name, g.module}
	if g.dice.IntN(2) == 0 {
		slices.Reverse(kills)
		slices.Reverse(names)
	}
	kills[0]()
	if g.dice.IntN(2) == 0 {
		g.pause(100 * time.Millisecond)
	}
	kills[1]()
	victim.mustEnd(g.T)
	// Clients elsewhere hear of it and count what they have been told.
	g.load.mustEnd(g.T)
	if err := unix.Unmount(g.primary.Mountpoint, unix.MNT_DETACH); err != nil {
		g.Fatalf("detaching the dead mount: %v", err)
	}
	return strings.Join(names, ", then ")
}

// promote makes one of the mirrors the primary, with a promise, and returns
// the old one.
func (g *game) promote() *harness.Node {
	g.Helper()
	deposed, i := g.primary, g.dice.IntN(len(g.mirrors))
	g.primary, g.mirrors[i] = g.mirrors[i], deposed
	args := []string{"promote", g.primary.Replica, "--mount", g.primary.Mountpoint}
	for _, n := range g.mirrors {
		args = append(args, "--mirror", n.Addr)
	}
	r := harness.Command(g.T, args...)
	if r.Code != 0 || !strings.Contains(r.Stdout, "promised: nothing") {
		g.Fatalf("promoting %s: exit code %d, and no promise", g.primary.Name, r.Code)
	}
	return deposed
}

// ask calls a verb of the driver that is told what was acknowledged until now
// and prints what is wrong.
func (g *game) ask(verb string, args ...string) {
	g.Helper()
	acknowledged, _ := g.acked.read()
	stdin, err := json.Marshal(acknowledged)
	if err != nil {
		g.Fatal(err)
	}
	wrong, err := g.call(verb, stdin, args...)
	if err != nil {
		g.Fatal(err)
	}
	if wrong != "" {
		g.Fatalf("%s, %s of %s:\n%s", g.primary.Name, verb, g.module, wrong)
	}
}

// keep copies what a failed test leaves behind.
func (g *game) keep() {
	to := filepath.Join(root(g.T), "build/servers-failure", strings.ReplaceAll(g.Name(), "/", "-"))
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755)); err != nil {
		g.Error(err)
		return
	}
	for _, n := range append(g.mirrors, g.primary) {
		if out, err := exec.Command("cp", "-a", n.Replica, filepath.Join(to, n.Name)).CombinedOutput(); err != nil {
			g.Errorf("keeping %s: %v\n%s", n.Replica, err, out)
		}
	}
	g.Logf("the replicas are kept in %s", to)
}
