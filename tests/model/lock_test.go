package model

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// lockKinds are the ways to lock a file, each as one that waits and one that
// does not.
var lockKinds = map[string]func(fd int, wait bool) error{
	"flock": func(fd int, wait bool) error {
		if wait {
			return unix.Flock(fd, unix.LOCK_EX)
		}
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	},
	"posix": func(fd int, wait bool) error { return whole(fd, wait, unix.F_SETLKW, unix.F_SETLK) },
	"ofd":   func(fd int, wait bool) error { return whole(fd, wait, unix.F_OFD_SETLKW, unix.F_OFD_SETLK) },
}

func whole(fd int, wait bool, waiting, asking int) error {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if wait {
		return unix.FcntlFlock(uintptr(fd), waiting, &l)
	}
	return unix.FcntlFlock(uintptr(fd), asking, &l)
}

// holderEnv makes this program a process that waits for a lock, says so, and
// holds it until its input ends: "KIND FILE".
const holderEnv = "STANDBYFS_MODEL_HOLDER"

// holder is what TestMain runs first of all. It returns unless this process is
// one.
func holder() {
	kind, path, ok := strings.Cut(os.Getenv(holderEnv), " ")
	if !ok {
		return
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = lockKinds[kind](fd, true)
	}
	fmt.Println("locked:", err)
	os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// TestLocksOfTheKilled kills the holder of a lock, and somebody who waits for
// it: nobody is left behind, and the lock goes to who else waits.
func TestLocksOfTheKilled(t *testing.T) {
	run := func(t *testing.T, dir string) {
		for kind, lock := range lockKinds {
			path := filepath.Join(dir, kind)
			fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			first, waits, goesOn := start(t, kind, path), (*waiter)(nil), (*waiter)(nil)
			first.locked(t)
			if err := lock(fd, false); err != unix.EAGAIN {
				t.Errorf("%s: a second one: %v", kind, err)
			}
			waits, goesOn = start(t, kind, path), start(t, kind, path)
			harness.Eventually(t, "both to wait", func() bool { return waits.blocked(t) && goesOn.blocked(t) })
			waits.kill(t)
			first.kill(t)
			goesOn.locked(t)
			if err := lock(fd, false); err != unix.EAGAIN {
				t.Errorf("%s: held by who waited: %v", kind, err)
			}
			goesOn.kill(t)
			if err := lock(fd, false); err != nil {
				t.Errorf("%s: after all are killed: %v", kind, err)
			}
		}
	}
	t.Run("plain", func(t *testing.T) { run(t, t.TempDir()) })
	t.Run("passthrough", func(t *testing.T) {
		_, mountpoint, _ := passthrough(t)
		run(t, mountpoint)
	})
}

// waiter is a process that waits for a lock or holds it.
type waiter struct {
	cmd *exec.Cmd
	out *os.File
}

func start(t *testing.T, kind, path string) *waiter {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+kind+" "+path)
	cmd.Stdout = in
	if _, err := cmd.StdinPipe(); err != nil { // it lives as long as we do
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	w := &waiter{cmd, out}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		out.Close()
	})
	return w
}

// locked waits until the process has its lock.
func (w *waiter) locked(t *testing.T) {
	t.Helper()
	buf := make([]byte, 200)
	n, err := w.out.Read(buf)
	if got := string(buf[:n]); got != "locked: <nil>\n" {
		t.Fatalf("the lock of a process: %q, %v", got, err)
	}
}

// blocked reports whether the process sleeps in the call that locks.
func (w *waiter) blocked(t *testing.T) bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		var call int
		fmt.Sscan(string(text), &call)
		if call == unix.SYS_FLOCK || call == unix.SYS_FCNTL {
			return true
		}
	}
	return false
}

func (w *waiter) kill(t *testing.T) {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.cmd.Wait()
}
