package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// serveEnv makes a test's program a server of a disk: what it serves, from
// where, at which mount point, and where a drive's file system is mounted, in
// lines.
const serveEnv = "TEST_DISK"

// Serves reports whether this process is to be a server. A TestMain asks first,
// and returns what Main returns.
func Serves() bool { return os.Getenv(serveEnv) != "" }

// Main is the TestMain of this package, and what a process does that Serves.
func Main(m *testing.M) int {
	if !Serves() {
		return m.Run()
	}
	if err := serve(strings.Split(os.Getenv(serveEnv), "\n"), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "serving a disk:", err)
		return 1
	}
	return 0
}

// serve serves until it is told to stop. It takes one command a line and answers
// each with one line, "ok" or "error" and a text. If its input just ends, the
// test was killed, and what lies on the disk is taken away, too.
func serve(what []string, in io.Reader, out io.Writer) error {
	var f faults
	var d *drive
	var root fs.InodeEmbedder
	var err error
	switch what[0] {
	case "drive":
		if d, err = newDrive(what[1], &f); err != nil {
			return err
		}
		root = &drives{drive: d}
	case "calls":
		if root, err = newLayer(what[1], &f); err != nil {
			return err
		}
	default:
		return fmt.Errorf("serve %q: want drive or calls", what[0])
	}
	point := what[2]
	options := &fs.Options{MountOptions: fuse.MountOptions{
		MaxWrite: 1 << 20, FsName: "standbyfs-test", DirectMountStrict: true, EnableLocks: false,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH, // each call is to be seen
		// As on a disk the page cache stays, whatever becomes of it below.
		ExplicitDataCacheControl: true,
	}}
	server, err := fs.Mount(point, root, options)
	if err != nil {
		return fmt.Errorf("mount %s: %w", point, err)
	}
	defer server.Wait()
	defer func() { _ = unix.Unmount(point, unix.MNT_DETACH|unix.MNT_FORCE) }() // gone already, unless the test failed
	fmt.Fprintln(out, "ok serving")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		if verb == "stop" {
			return nil
		}
		answer, err := command(&f, d, verb, rest)
		if err != nil {
			fmt.Fprintln(out, "error", err)
			continue
		}
		fmt.Fprintln(out, "ok", answer)
	}
	if d != nil {
		if _, err := d.cut(0); err == nil {
			d.release()
		}
		_ = unix.Unmount(what[3], unix.MNT_DETACH)
	}
	return lines.Err()
}

func command(f *faults, d *drive, verb, rest string) (string, error) {
	switch {
	case verb == "plan":
		p, err := ParsePlan(rest)
		if err == nil {
			f.set(p)
		}
		return p.String(), err
	case verb == "hits":
		return strconv.Itoa(f.count()), nil
	case verb == "cut" && d != nil:
		seed, err := strconv.ParseUint(rest, 10, 64)
		if err != nil {
			return "", err
		}
		return d.cut(seed)
	case verb == "release" && d != nil:
		d.release()
		return "", nil
	}
	return "", fmt.Errorf("command %q is not understood", verb)
}

// server is the test's end of a process that serves.
type server struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startServer starts a process that serves, and returns when it does.
func startServer(t testing.TB, what ...string) *server {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, cmd: exec.Command(program)}
	s.cmd.Env = append(os.Environ(), serveEnv+"="+strings.Join(what, "\n"))
	s.cmd.Stderr = os.Stderr // a file: no goroutine has to copy
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.answer(); err != nil {
		t.Fatalf("a server of %q: %v", what, err)
	}
	return s
}

func (s *server) answer() (string, error) {
	line, err := s.out.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if kind != "ok" {
		return "", errors.New(text)
	}
	return text, nil
}

// tell sends a command and returns the answer.
func (s *server) tell(command string) string {
	s.t.Helper()
	_, err := fmt.Fprintln(s.in, command)
	text := ""
	if err == nil {
		text, err = s.answer()
	}
	if err != nil {
		s.t.Fatalf("a disk is told %q: %v", command, err)
	}
	return text
}

// stop ends the process, and fails the test if it does not end. That its input
// ends would not do: another process, started meanwhile, may have the other end.
func (s *server) stop() {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, "stop"); err != nil {
		s.t.Errorf("stopping a server of a disk: %v", err)
	}
	late := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("a server of a disk: %v", err)
	}
}

// Plan makes calls fail from now on as a plan says; "" ends that.
func (s *server) Plan(plan string) {
	s.t.Helper()
	s.t.Logf("disk: plan %q", s.tell("plan "+plan))
}

// Hits returns how many calls have failed since the plan was set.
func (s *server) Hits() int {
	s.t.Helper()
	n, err := strconv.Atoi(s.tell("hits"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
