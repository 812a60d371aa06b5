package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs"
)

// system is a configuration that runs: where to work, and who serves it.
type system struct {
	configuration
	dir     string // where loads work
	below   string // the same directory below the mount; dir where there is none
	mount   string // the mount point, "" where there is none
	input   string // a folder for what all configurations read
	python  string // an interpreter that has ZODB
	address string // of a receiver on the wire
	secret  string // directory of certificates for it
	servers []int  // the processes that serve it
	root    string // of a system of nodes: its folder, and below the program that they run
	program string
	nodes   []node // the primary last
	jobs    int    // done so far
	procs   []*server
	undo    []func() error // in reverse, after the processes have ended
}

// server is a process that serves until its standard input ends or SIGTERM.
type server struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	log   string
}

// place is where everything happens.
type place struct {
	dir     string // of this run
	program string // standbyfs
	python  string // an interpreter that has ZODB
}

const startLimit = 30 * time.Second

// start makes a configuration run in a folder of its own.
func (p *place) start(ctx context.Context, c configuration) (*system, error) {
	root := filepath.Join(p.dir, c.Name)
	s := &system{configuration: c}
	err := s.bring(ctx, p, root)
	if err != nil {
		err = errors.Join(fmt.Errorf("start %s: %w", c.Name, err), s.stop())
	}
	return s, err
}

func (s *system) bring(ctx context.Context, p *place, root string) error {
	s.below, s.mount = filepath.Join(root, "data"), filepath.Join(root, "mnt")
	s.dir, s.input, s.python = s.mount, filepath.Join(p.dir, "input"), p.python
	for _, dir := range []string{s.below, s.mount, s.input} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	scatter(s.below)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	switch s.Kind {
	case native:
		s.mount, s.dir = "", s.below
		return nil
	case loopback, null:
		_, err = s.serve(ctx, root, "server", exec.Command(self, "serve-"+string(s.Kind), s.below, s.mount))
		return err
	case wired:
		return s.bringWire(ctx, root, self)
	case gluster:
		return s.bringGluster(ctx, root)
	}
	return s.bringMirrors(ctx, p, root)
}

// serve starts a process and waits for the line that says it is ready, which it
// returns.
func (s *system) serve(ctx context.Context, root, name string, cmd *exec.Cmd) (string, error) {
	proc := &server{name: name, cmd: cmd, log: filepath.Join(root, name+".log")}
	log, err := os.Create(proc.log)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd.Stderr = log
	if proc.stdin, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	s.procs = append(s.procs, proc)
	s.servers = append(s.servers, cmd.Process.Pid)
	type said struct {
		line string
		err  error
	}
	ready := make(chan said, 1)
	go func() {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		ready <- said{line, err}
	}()
	var line string
	select {
	case s := <-ready:
		line, err = s.line, s.err
	case <-time.After(startLimit):
		err = fmt.Errorf("not within %s", startLimit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		said, _ := os.ReadFile(proc.log)
		return "", fmt.Errorf("%s does not become ready: %w: %s", name, err, said)
	}
	return strings.TrimSpace(line), nil
}

// stop ends all processes, the last one first, and unmounts what is left.
func (s *system) stop() error {
	var errs []error
	for i := len(s.procs) - 1; i >= 0; i-- {
		if err := s.procs[i].end(); err != nil {
			errs = append(errs, fmt.Errorf("end %s: %w", s.Name, err))
		}
	}
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	if s.mount != "" {
		errs = append(errs, fs.CleanStale(s.mount))
	}
	s.procs, s.undo = nil, nil
	return errors.Join(errs...)
}

func (p *server) end() error {
	p.stdin.Close()
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	// What hangs first tells where.
	stuck := time.AfterFunc(startLimit, func() { p.cmd.Process.Signal(unix.SIGQUIT) })
	defer stuck.Stop()
	late := time.AfterFunc(2*startLimit, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		said, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s: %w: %s", p.name, err, said)
	}
	return nil
}

// node is a standbyfs process of a system, and how it is started.
type node struct {
	name string
	args []string
}

// bringMirrors starts the standbyfs program as mirrors and as a primary.
func (s *system) bringMirrors(ctx context.Context, p *place, root string) error {
	way := func(addrs []string) ([]string, error) { return addrs, nil }
	if s.Delay > 0 {
		way = func(addrs []string) ([]string, error) { return s.distance(ctx, root, addrs) }
	}
	err := s.prepareNodes(ctx, p, root, way, "--sync", s.Sync, "--min-in-sync", fmt.Sprint(s.Mirrors), "--ack-timeout", "30s")
	if err != nil {
		return err
	}
	return s.startNodes(ctx)
}

// prepareNodes makes what mirrors and a primary need, with certificates of an
// authority of its own. way returns by which addresses the primary reaches those
// of the mirrors; policy is for the primary.
func (s *system) prepareNodes(ctx context.Context, p *place, root string, way func(addrs []string) ([]string, error), policy ...string) error {
	s.root, s.program = root, p.program
	var secret []string
	if !s.Plain {
		ca := filepath.Join(root, "ca")
		if err := s.command(ctx, "ca", "init", "--dir", ca); err != nil {
			return err
		}
		if err := s.command(ctx, "ca", "issue", "node", "--dir", ca); err != nil {
			return err
		}
		secret = []string{"--tls", filepath.Join(ca, "node")}
	}
	var addrs []string
	for i := range s.Mirrors {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("mirror%d", i)
		replica := filepath.Join(root, name)
		if err := os.Mkdir(replica, 0o755); err != nil {
			return err
		}
		scatter(replica)
		s.nodes = append(s.nodes, node{name, append([]string{"mirror", replica, "--listen", addr, "--name", name, "--log-level", "warn"}, secret...)})
		addrs = append(addrs, addr)
	}
	addrs, err := way(addrs)
	if err != nil {
		return err
	}
	primary := append([]string{"mount", s.below, s.mount, "--log-level", "warn"}, policy...)
	for _, addr := range addrs {
		primary = append(primary, "--mirror", addr)
	}
	s.nodes = append(s.nodes, node{"primary", append(primary, secret...)})
	return nil
}

// command runs the program to its end.
func (s *system) command(ctx context.Context, args ...string) error {
	_, err := output(ctx, startLimit, exec.Command(s.program, args...))
	return err
}

// startNodes starts all nodes and returns when the mirrors are in sync.
func (s *system) startNodes(ctx context.Context) error {
	for _, n := range s.nodes {
		if err := s.startNode(ctx, n.name); err != nil {
			return err
		}
	}
	return s.command(ctx, "wait", s.below, "--in-sync", fmt.Sprint(s.Mirrors), "--timeout", startLimit.String())
}

func (s *system) startNode(ctx context.Context, name string) error {
	i := slices.IndexFunc(s.nodes, func(n node) bool { return n.name == name })
	_, err := s.serve(ctx, s.root, name, exec.Command(s.program, s.nodes[i].args...))
	return err
}

// stopNode ends a node, by SIGTERM or, as a crash does, by SIGKILL.
func (s *system) stopNode(name string, signal unix.Signal) error {
	i := slices.IndexFunc(s.procs, func(p *server) bool { return p.name == name })
	proc := s.procs[i]
	s.procs = slices.Delete(s.procs, i, i+1)
	s.servers = slices.DeleteFunc(s.servers, func(pid int) bool { return pid == proc.cmd.Process.Pid })
	if signal != unix.SIGKILL {
		return proc.end()
	}
	proc.stdin.Close()
	if err := proc.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	proc.cmd.Wait() // says that it was killed
	return nil
}

// distance puts a delaying network before addresses and returns where the ways
// to them begin. It is not one of the servers: on a real network nobody does its
// work. One process does all of it, since the processors are shared.
func (s *system) distance(ctx context.Context, root string, addrs []string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	near, err := s.serve(ctx, root, "network", exec.Command(self, append([]string{"network", s.Delay.String()}, addrs...)...))
	s.servers = s.servers[:len(s.servers)-1]
	return strings.Fields(near), err
}

// freeAddress is an address of this machine on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// scatter makes ext4 put each new directory in dir far from the others. Without
// a journal it uses no inode again that was freed within the last minute, or
// five if that has not been written yet, and looks at all of those in the same
// place first: after a few thousand removed files that takes longer than all
// else of a create. Other file systems may refuse, and need no such help.
func scatter(dir string) {
	const topDir = 0x00020000 // FS_TOPDIR_FL of linux/fs.h
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
		unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

// cleanStale detaches the mounts that a run which was killed has left in dir.
func cleanStale(dir string) error {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			if err := unix.Unmount(fields[1], unix.MNT_DETACH); err != nil {
				return fmt.Errorf("detach %s: %w", fields[1], err)
			}
		}
	}
	return nil
}
