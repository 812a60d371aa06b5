package servers

import (
	"bufio"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds whatever must happen.
const patience = 2 * time.Minute

// child is a process with all that it starts, as a machine of its own would
// have it: it is the first process of a PID namespace, and when it is killed,
// the kernel kills the rest of it.
type child struct {
	name  string
	cmd   *exec.Cmd
	ready chan struct{} // closed when it has said so
	ended chan struct{} // closed when none of its processes is left
}

// start starts a child and waits until ready returns true of a line that it
// prints. ready goes on to get every line. The child ends with the test.
func start(t *testing.T, name string, cmd *exec.Cmd, ready func(line string) bool) *child {
	t.Helper()
	c := &child{name: name, cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(c.ended)
		var once sync.Once
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if ready(lines.Text()) {
				once.Do(func() { close(c.ready) })
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		c.kill()
		<-c.ended
	})
	select {
	case <-c.ready:
	case <-c.ended:
		t.Fatalf("%s ended before it was ready: %v", name, cmd.ProcessState)
	case <-time.After(patience):
		t.Fatalf("%s is not ready after %s", name, patience)
	}
	return c
}

// kill ends the child and does not wait for it.
func (c *child) kill() { c.cmd.Process.Kill() }

// mustRun fails the test if the child has ended.
func (c *child) mustRun(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
		t.Fatalf("%s ended before anything was killed: %v", c.name, c.cmd.ProcessState)
	default:
	}
}

// mustEnd waits until nothing of the child is left.
func (c *child) mustEnd(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatalf("%s does not end", c.name)
	}
}

// ledger is what was acknowledged to the clients: by each one's name the
// number of its last piece of work. Work is numbered from 1 and done in order.
type ledger struct {
	mu      sync.Mutex // guards what follows
	last    map[string]int
	waiting map[string]bool // clients that have started and not done anything
	ended   []string        // clients that do not work any more
}

// heard returns what writes down what the clients of a round say: a name, and
// a number, 'starts' or 'ended'. It returns whether all of them are at work.
func (l *ledger) heard(t *testing.T) func(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting, l.ended = map[string]bool{}, nil
	return func(line string) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		name, said, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(said)
		switch {
		case said == "starts":
			l.waiting[name], l.last[name] = true, 0
		case said == "ended":
			l.ended = append(l.ended, name)
			delete(l.waiting, name)
		case err == nil:
			l.last[name] = n
			delete(l.waiting, name)
		default:
			t.Errorf("a client says %q", line)
		}
		return len(l.waiting) == 0
	}
}

// read returns what was acknowledged until now, and which clients have ended.
func (l *ledger) read() (acknowledged map[string]int, ended []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.last), l.ended
}
