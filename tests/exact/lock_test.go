package exact

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Locks between processes: a child holds one, and is killed or lets go.
var lockCases = map[string]func(*tape){
	"flock": func(t *tape) {
		t.file("f", "", 0o644)
		a, b := t.open("f", unix.O_RDWR, 0), t.open("f", unix.O_RDONLY, 0)
		for _, how := range []int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN, unix.LOCK_EX, 77} {
			t.did(unix.Flock(a, how|unix.LOCK_NB), "flock %d", how)
			t.did(unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB), "shared by another")
			t.did(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), "exclusive by another")
			t.did(unix.Flock(b, unix.LOCK_UN), "unlock by another")
		}
		t.close(a)
		t.did(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), "after a close")
		t.close(b)
		t.held("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) })
	},
	"posix": func(t *tape) { t.ranges(unix.F_SETLK, unix.F_SETLKW, unix.F_GETLK, "posix") },
	"ofd":   func(t *tape) { t.ranges(unix.F_OFD_SETLK, unix.F_OFD_SETLKW, unix.F_OFD_GETLK, "ofd") },
}

func (t *tape) ranges(set, wait, get int, kind string) {
	t.file("f", "0123456789", 0o644)
	a, b := t.open("f", unix.O_RDWR, 0), t.open("f", unix.O_RDWR, 0)
	lock := func(fd, command int, how int16, start, size int64, whence int16) {
		l := unix.Flock_t{Type: how, Whence: whence, Start: start, Len: size}
		err := unix.FcntlFlock(uintptr(fd), command, &l)
		t.did(err, "fcntl %d type %d [%d +%d)", command, how, start, size)
		if command == get && err == nil {
			t.note("type %d whence %d [%d +%d)", l.Type, l.Whence, l.Start, l.Len)
		}
	}
	for _, r := range [][2]int64{{0, 5}, {3, 0}, {-1, 1}, {5, -2}, {1 << 62, 5}} {
		for _, how := range []int16{unix.F_RDLCK, unix.F_WRLCK} {
			lock(a, set, how, r[0], r[1], 0)
			for _, other := range []int16{unix.F_RDLCK, unix.F_WRLCK} {
				lock(b, get, other, 0, 0, 0)
				lock(b, set, other, 4, 2, 0)
			}
			lock(b, set, unix.F_UNLCK, 0, 0, 0)
			lock(a, set, unix.F_UNLCK, 0, 2, 0)
			lock(b, get, unix.F_WRLCK, 0, 0, 0)
			lock(a, set, unix.F_WRLCK, -2, 1, 2)
			lock(a, set, unix.F_UNLCK, 0, 0, 0)
		}
	}
	reading := t.open("f", unix.O_RDONLY, 0)
	lock(reading, set, unix.F_WRLCK, 0, 1, 0)
	lock(reading, set, unix.F_RDLCK, 0, 1, 0)
	t.close(reading) // takes all POSIX locks of this process along
	lock(b, get, unix.F_WRLCK, 0, 0, 0)
	t.close(a)
	t.close(b)
	l := func() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Start: 2, Len: 5} }
	t.held(kind, func(fd int) error { return unix.FcntlFlock(uintptr(fd), set, l()) }, func(fd int) error { return unix.FcntlFlock(uintptr(fd), wait, l()) })
}

// held tries a lock while a child has it, waits for it while the child is
// killed, and is interrupted while it waits.
func (t *tape) held(kind string, try, wait func(fd int) error) {
	fd := t.open("f", unix.O_RDWR, 0)
	defer t.close(fd)
	holder := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), caseEnv+"="+childGroup+"/"+kind)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = bufio.NewReader(out).ReadString('\n')
		}
		t.did(err, "a child has the lock")
		return cmd
	}
	child := holder()
	t.did(try(fd), "try")
	locked := make(chan error)
	go func() {
		_, err := retry(func() (int, error) { return 0, wait(fd) })
		locked <- err
	}()
	t.blocked(fd)
	t.did(child.Process.Kill(), "kill")
	_ = child.Wait()
	t.did(<-locked, "the wait")
	t.unlock(fd)

	child = holder()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	thread := make(chan int)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		locked <- wait(fd)
		runtime.UnlockOSThread()
	}()
	id := <-thread
	t.blocked(fd)
	// Go's handlers restart what they interrupt: a lock that waits stays waiting.
	t.did(unix.Tgkill(unix.Getpid(), id, unix.SIGUSR1), "signal")
	<-signals
	t.did(child.Process.Kill(), "kill")
	_ = child.Wait()
	t.did(<-locked, "the wait")
	t.unlock(fd)
	t.interrupted(fd, holder, wait)
	t.waiterKilled(fd, kind, holder, try)
}

// interrupted ends a wait by a signal whose handler restarts nothing. It leaves
// no lock, nor anything that would take one later.
func (t *tape) interrupted(fd int, holder func() *exec.Cmd, wait func(fd int) error) {
	child := holder()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := restarting(unix.SIGUSR2, false); t.failed(err, "sigaction") {
		return
	}
	thread, ended := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		ended <- wait(fd)
	}()
	id := <-thread
	t.blocked(fd)
	t.did(unix.Tgkill(unix.Getpid(), id, unix.SIGUSR2), "signal")
	t.did(<-ended, "the wait")
	t.did(restarting(unix.SIGUSR2, true), "sigaction")
	t.did(child.Process.Kill(), "kill")
	_ = child.Wait()
	// If anything had stayed, this one would wait for ever.
	child = holder()
	t.did(child.Process.Kill(), "kill")
	_ = child.Wait()
}

// waiterKilled kills a process that waits for a lock which this one has.
func (t *tape) waiterKilled(fd int, kind string, holder func() *exec.Cmd, try func(fd int) error) {
	t.did(try(fd), "lock")
	waiter := exec.Command(os.Args[0])
	waiter.Env = append(os.Environ(), caseEnv+"="+childGroup+"/"+kind)
	t.did(waiter.Start(), "start another")
	t.blocked(fd)
	t.did(waiter.Process.Kill(), "kill it")
	_ = waiter.Wait()
	t.unlock(fd)
	child := holder()
	t.did(child.Process.Kill(), "kill")
	_ = child.Wait()
	t.did(try(fd), "lock")
	t.unlock(fd)
}

// blocked returns once somebody waits for a lock of the file.
func (t *tape) blocked(fd int) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); t.failed(err, "fstat") {
		return
	}
	file := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for range 20_000 {
		locks, err := os.ReadFile("/proc/locks")
		if t.failed(err, "read /proc/locks") {
			return
		}
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> ") && strings.Contains(line, file) {
				return
			}
		}
		<-again.C
	}
	t.note("nobody waits")
}

func (t *tape) unlock(fd int) {
	t.did(unix.Flock(fd, unix.LOCK_UN), "unlock")
	t.did(unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}), "unlock")
	t.did(unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}), "unlock")
}

// restarting says whether calls that a signal interrupts go on behind its
// handler. Go has them go on, and has no way to say otherwise.
func restarting(sig unix.Signal, restart bool) error {
	// The kernel's struct sigaction: handler, flags, restorer, mask.
	var action [4]uint64
	const saRestart = 0x10000000
	call := func(set, get unsafe.Pointer) error {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(set), uintptr(get), 8, 0, 0)
		return errnoOf(errno)
	}
	if err := call(nil, unsafe.Pointer(&action)); err != nil {
		return err
	}
	action[1] &^= saRestart
	if restart {
		action[1] |= saRestart
	}
	return call(unsafe.Pointer(&action), nil)
}

// childGroup has what children of a case do, in its directory.
const childGroup = "child"

// children take a lock, say so, and keep it until they are killed.
var children = map[string]func(fd int) error{
	"flock": func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) },
	"posix": func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
	},
	"ofd": func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
	},
}

// hold is what a child does.
func hold(name string) error {
	fd, err := unix.Open("f", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = children[name](fd)
	}
	if err == nil {
		_, err = os.Stdout.WriteString("locked\n")
	}
	if err != nil {
		return err
	}
	select {} // until it is killed
}
