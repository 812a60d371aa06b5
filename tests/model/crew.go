package model

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// crewSize is how many processes make the steps of a sequence. All but the
// last belong to root, and that one to memberID.
const (
	crewSize = 3
	memberID = 1000
)

// The environment of a member: the directory that it works in, and who it is.
const (
	rootEnv = "STANDBYFS_MODEL_ROOT"
	userEnv = "STANDBYFS_MODEL_USER"
)

// Crew is several processes in one directory, each with descriptors, mappings,
// locks and a umask of its own. They take turns, so that what happens follows
// from the steps. Unlike a World it may map files and is safe to kill, even
// where this very process serves the mount.
type Crew struct {
	root    string
	cache   *cache // nil where the kernel does not let us
	members [crewSize]*member
}

// member is one process of a crew.
type member struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	send    *gob.Encoder
	receive *gob.Decoder
}

// reply is an Outcome on its way from a member.
type reply struct {
	Errno syscall.Errno
	N     int64
	Text  string
}

// NewCrew starts a crew below the existing directory root. The program must
// call Member when it starts.
func NewCrew(root string) (*Crew, error) {
	c := &Crew{root: root, cache: newCache()}
	for i := range c.members {
		if err := c.start(i); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *Crew) start(i int) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), rootEnv+"="+c.root)
	if i == crewSize-1 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", userEnv, memberID))
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// A member ends with its pipe. One that hangs in a call ends with the thread
	// that started it, which lives on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a process in %s: %w", c.root, err)
	}
	c.members[i] = &member{cmd, in, gob.NewEncoder(in), gob.NewDecoder(out)}
	return c.cache.add(cmd.Process.Pid)
}

// Close ends all processes.
func (c *Crew) Close() {
	for _, m := range c.members {
		if m != nil {
			m.in.Close()
			m.cmd.Wait()
		}
	}
	c.cache.remove()
}

// Do lets the step's process make the call.
func (c *Crew) Do(s Step) Outcome {
	if s.Kind == Kill {
		// Its locks and mappings go with it, and what it had open.
		m := c.members[s.Proc]
		m.cmd.Process.Kill()
		m.cmd.Wait()
		if err := c.start(s.Proc); err != nil {
			return Outcome{Err: err}
		}
		return Outcome{Text: "killed"}
	}
	m := c.members[s.Proc]
	var r reply
	if err := m.send.Encode(s); err != nil {
		return Outcome{Err: fmt.Errorf("process %d is gone: %w", s.Proc, err)}
	}
	if err := m.receive.Decode(&r); err != nil {
		return Outcome{Err: fmt.Errorf("process %d died of %v: %w", s.Proc, s, err)}
	}
	if s.Kind == Reclaim {
		c.cache.empty()
	}
	out := Outcome{N: r.N, Text: r.Text}
	if r.Errno != 0 {
		out.Err = r.Errno
	}
	for i, m := range c.members {
		out.Text = strings.ReplaceAll(out.Text, fmt.Sprintf(" pid=%d ", m.cmd.Process.Pid), fmt.Sprintf(" process=%d ", i))
	}
	return out
}

// Member is called first of all by the program whose crews work. It returns at
// once unless this process is a member; then it ends with the crew.
func Member() {
	root := os.Getenv(rootEnv)
	if root == "" {
		return
	}
	// Since each thread has credentials of its own, and the kernel compares those
	// that a file was opened with.
	runtime.LockOSThread()
	unix.Umask(0)
	if user := os.Getenv(userEnv); user != "" {
		id, err := strconv.Atoi(user)
		if err == nil {
			err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(id), syscall.Setuid(id))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "giving up root:", err)
			os.Exit(1)
		}
	}
	w := NewWorld(root)
	receive, send := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var s Step
		if err := receive.Decode(&s); err != nil {
			os.Exit(0)
		}
		out := w.Do(s)
		r := reply{N: out.N, Text: out.Text}
		if out.Err != nil && !errors.As(out.Err, &r.Errno) {
			r.Errno, r.Text = unix.ENOTRECOVERABLE, out.Err.Error()
		}
		if err := send.Encode(r); err != nil {
			os.Exit(1)
		}
	}
}

// cache is a control group of its own for the memory of a crew, so that what
// the kernel caches for it can be taken away without anybody else's: pages,
// and with them dentries and inodes, which a mount is then told to forget.
type cache struct {
	dir, knob, value string
}

var caches atomic.Uint64 // numbers the groups of this process

// newCache makes the group, or returns nil where that is not possible.
func newCache() *cache {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		c := &cache{dir: "/sys/fs/cgroup/memory", knob: "memory.force_empty", value: "0"}
		switch fields[1] {
		case "memory":
		case "":
			c.dir, c.knob, c.value = "/sys/fs/cgroup", "memory.reclaim", "1G"
		default:
			continue
		}
		c.dir = filepath.Join(c.dir, fields[2], fmt.Sprintf("standbyfs-model-%d-%d", os.Getpid(), caches.Add(1)))
		if os.Mkdir(c.dir, 0o755) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.dir, c.knob)); err == nil {
			return c
		}
		os.Remove(c.dir)
	}
	return nil
}

func (c *cache) add(pid int) error {
	if c == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(c.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// empty takes away what it can. The kernel complains if that is not all.
func (c *cache) empty() {
	if c != nil {
		os.WriteFile(filepath.Join(c.dir, c.knob), []byte(c.value), 0)
	}
}

func (c *cache) remove() {
	if c != nil {
		os.Remove(c.dir)
	}
}
