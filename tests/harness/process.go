package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/tests/disk"
)

// binaryEnv names the program to test. Main sets it; whoever sets it before
// has built the program otherwise, for instance with -race.
const binaryEnv = "TEST_STANDBYFS_BINARY"

// Main is the TestMain of a package that starts processes: it builds the
// program once, for all of the package's tests, and removes it in the end. It
// also makes this process fit for nodes that run in it.
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
func Main(m *testing.M) int {
	if disk.Serves() {
		return disk.Main(m)
	}
	NoUmask()
	if os.Getenv(binaryEnv) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "standbyfs-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "standbyfs")
	build := exec.Command("go", "build", "-o", binary, "github.com/standbyfs/standbyfs/cmd/standbyfs")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building standbyfs: %v\n%s", err, out)
		return 1
	}
	os.Setenv(binaryEnv, binary)
	return m.Run()
}

// Binary returns the program that Main has built.
func Binary(t testing.TB) string {
	t.Helper()
	b := os.Getenv(binaryEnv)
	if b == "" {
		t.Fatalf("%s is not set: this package needs harness.Main as its TestMain", binaryEnv)
	}
	return b
}

// Result is what a command has left behind.
type Result struct {
	Code   int
	Stdout string
	Stderr string
}

// Command runs the program to its end.
func Command(t testing.TB, args ...string) Result {
	t.Helper()
	return Answer(t, "", args...)
}

// Answer runs the program to its end and answers what it asks.
func Answer(t testing.TB, answers string, args ...string) Result {
	t.Helper()
	cmd := exec.Command(Binary(t), args...)
	cmd.Stdin = strings.NewReader(answers)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("standbyfs %s: %v", strings.Join(args, " "), err)
	}
	t.Logf("standbyfs %s: exit code %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), &stdout, &stderr)
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// process is a node that runs as a process of its own.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has been waited for
	err    error         // how it ended; read after ended
	stderr *tail
}

// asProcess starts a node as `standbyfs mirror` or `standbyfs mount` and waits
// for the line that says it is ready.
func asProcess(t testing.TB, n *Node) (instance, error) {
	p := &process{ended: make(chan struct{}), stderr: &tail{to: logTo(t, n.Name)}}
	p.cmd = exec.Command(Binary(t), arguments(n)...)
	p.cmd.Env = append(os.Environ(), n.Env...)
	p.cmd.Stderr = p.stderr
	// The process must not outlive a test run that is killed.
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewReader(stdout)
		if line, err := lines.ReadString('\n'); err == nil {
			ready <- strings.TrimSpace(line)
		}
		io.Copy(logTo(t, n.Name+" stdout"), lines)
		p.err = p.cmd.Wait()
	}()
	select {
	case line := <-ready:
		t.Logf("%s, process %d: ready: %s", n.Name, p.pid(), line)
		return p, nil
	case <-p.ended:
		select {
		case line := <-ready: // ready, and ended at once
			return nil, fmt.Errorf("it said %q and ended: %w: %s", line, p.err, p.stderr)
		default:
		}
		if p.err == nil {
			p.err = errNotReady
		}
		return nil, fmt.Errorf("%w: %s", p.err, p.stderr)
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.ended
		return nil, fmt.Errorf("it does not become ready: %s", p.stderr)
	}
}

// arguments returns the command line for a node.
func arguments(n *Node) []string {
	args := []string{"mirror", n.Replica, "--listen", n.Addr}
	if n.Config.Role == daemon.Primary {
		args = []string{"mount", n.Replica, n.Mountpoint, "--listen", n.Addr}
	}
	args = append(args, "--state", n.StateDir, "--name", n.Name)
	m := n.Config.Mirror
	for _, p := range m.Peers {
		addr := p.Addr
		if p.Async {
			addr += ",async"
		}
		args = append(args, "--mirror", addr)
	}
	for _, r := range m.Rules {
		args = append(args, "--rule", r.Match+"="+string(r.Sync))
	}
	for flag, value := range map[string]string{
		"--sync": string(m.Sync), "--on-shortage": string(m.OnShortage),
		"--ack-timeout": duration(m.AckTimeout), "--heartbeat": duration(m.Heartbeat),
		"--checkpoint-every": duration(m.CheckpointEvery),
		"--shutdown-timeout": duration(n.Config.StopTimeout), "--log-level": "debug",
	} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if m.MinInSync > 0 {
		args = append(args, "--min-in-sync", fmt.Sprint(m.MinInSync))
	}
	return append(args, n.Args...)
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func (p *process) stop() error {
	p.cmd.Process.Signal(unix.SIGCONT)
	p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%w: %s", p.err, p.stderr)
		}
		return nil
	case <-time.After(patience):
		p.cmd.Process.Signal(unix.SIGQUIT) // prints where every goroutine is
		<-p.ended
		return errors.New("it did not end after SIGTERM")
	}
}

func (p *process) done() <-chan struct{} { return p.ended }
func (p *process) pid() int              { return p.cmd.Process.Pid }

// process returns the node's process and fails the test if it has none.
func (n *Node) process() *process {
	n.t.Helper()
	p, ok := n.run.(*process)
	if !ok {
		n.t.Fatalf("%s is not a process", n.Name)
	}
	return p
}

// Kill ends the node with SIGKILL and waits until it is gone. What it mounted
// stays behind, dead.
func (n *Node) Kill() {
	n.t.Helper()
	p := n.process()
	p.cmd.Process.Kill()
	<-p.ended
}

// Signal sends the node a signal.
func (n *Node) Signal(sig unix.Signal) {
	n.t.Helper()
	if err := n.process().cmd.Process.Signal(sig); err != nil {
		n.t.Fatalf("signal %s to %s: %v", sig, n.Name, err)
	}
}

// Pause stops the node with SIGSTOP and returns once none of its threads runs
// any more, so that what it keeps on disk stands still.
func (n *Node) Pause() {
	n.t.Helper()
	n.Signal(unix.SIGSTOP)
	pid := n.PID()
	Eventually(n.t, "every thread of "+n.Name+" to stop", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			n.t.Fatalf("threads of process %d: %v, %v", pid, stats, err)
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				return false
			}
			// The state is the field behind the program's name in brackets.
			after := stat[bytes.LastIndexByte(stat, ')')+1:]
			if len(after) < 2 || after[1] != 'T' {
				return false
			}
		}
		return true
	})
}

// Resume lets a paused node go on.
func (n *Node) Resume() {
	n.t.Helper()
	n.Signal(unix.SIGCONT)
}

// resume lets n go on if it is a process, paused or not.
func resume(n *Node) {
	if p, ok := n.run.(*process); ok {
		p.cmd.Process.Signal(unix.SIGCONT)
	}
}

// Stderr returns the end of what the node's last run has written there.
func (n *Node) Stderr() string {
	n.t.Helper()
	return n.process().stderr.String()
}

// tailSize is how much of a process's stderr is kept.
const tailSize = 64 << 10

// tail passes on what is written to it and keeps the end.
type tail struct {
	to io.Writer

	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
	return t.to.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
