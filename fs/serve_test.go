package fs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// later is a Committer whose acks the test gives.
type later struct {
	fs.Null
	acks chan *laterAck // every op that waits, in the order of the ops
	over atomic.Bool    // nothing waits any more
}

// mountLater mounts with a Committer whose acks the test gives. When it has
// ended, or failed, nothing waits for acks any more.
func mountLater(t *testing.T) (*mounted, *later) {
	t.Helper()
	l := &later{acks: make(chan *laterAck, 1000)}
	m := mount(t, l, fs.Options{IdleTimes: time.Hour})
	t.Cleanup(func() {
		l.over.Store(true)
		for len(l.acks) > 0 {
			(<-l.acks).tell(nil)
		}
	})
	return m, l
}

// laterAck is an ack that comes when the test says so.
type laterAck struct {
	op   op.Op
	mu   sync.Mutex // guards all below
	told bool
	err  error
	done []func(error)
}

func (l *later) Commit(_ context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	if err := apply(); err != nil || l.over.Load() {
		return op.Done, err
	}
	a := &laterAck{op: op.Op{Kind: o.Kind, Path: o.Path}}
	l.acks <- a
	return a, nil
}

func (a *laterAck) Then(done func(error)) {
	a.mu.Lock()
	if !a.told {
		a.done = append(a.done, done)
		a.mu.Unlock()
		return
	}
	a.mu.Unlock()
	done(a.err)
}

func (a *laterAck) Wait(ctx context.Context) error {
	c := make(chan error, 1)
	a.Then(func(err error) { c <- err })
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell gives the ack.
func (a *laterAck) tell(err error) {
	a.mu.Lock()
	a.told, a.err = true, err
	done := a.done
	a.mu.Unlock()
	for _, f := range done {
		f(err)
	}
}

// next returns the next ack that is waited for.
func (l *later) next(t *testing.T) *laterAck {
	t.Helper()
	select {
	case a := <-l.acks:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no op is ordered")
		return nil
	}
}

// waits fails the test if the call has returned already.
func waits(t *testing.T, returned <-chan error) {
	t.Helper()
	select {
	case err := <-returned:
		t.Fatalf("the call returned (%v) before its ack", err)
	default:
	}
}

func returns(t *testing.T, returned <-chan error) error {
	t.Helper()
	select {
	case err := <-returned:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the call does not return")
		return nil
	}
}

// start runs a call that will wait for an ack.
func start(call func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- call() }()
	return c
}

// TestReplyWaitsForAck sees each kind of call return with its ack and not
// before, and with the ack's error if it has one.
func TestReplyWaitsForAck(t *testing.T) {
	m, l := mountLater(t)
	write(t, m.Backing+"/f", "data")
	write(t, m.Backing+"/old", "")
	write(t, m.Backing+"/go", "")
	f, err := os.OpenFile(m.Dir+"/f", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() {
		l.over.Store(true)
		must(t, f.Close())
	})
	dir := func(name string, n int) string { return fmt.Sprintf("%s/%s%d", m.Dir, name, n) }
	for _, c := range []struct {
		name string
		on   func(n int) string // has to be there before
		call func(n int) error
	}{
		{name: "write", call: func(int) error { _, err := f.WriteAt([]byte("x"), 0); return err }},
		{name: "fsync", call: func(int) error { return unix.Fdatasync(int(f.Fd())) }},
		{name: "truncate", call: func(n int) error { return f.Truncate(int64(n)) }},
		{name: "chmod", call: func(int) error { return os.Chmod(m.Dir+"/old", 0o600) }},
		{name: "setxattr", call: func(int) error { return unix.Setxattr(m.Dir+"/f", "user.x", []byte("y"), 0) }},
		{name: "mkdir", call: func(n int) error { return os.Mkdir(dir("d", n), 0o700) }},
		{
			name: "rename", on: func(n int) string { return dir("d", n) },
			call: func(n int) error { return os.Rename(dir("d", n), dir("e", n)) },
		},
		{
			name: "rmdir", on: func(n int) string { return dir("e", n) },
			call: func(n int) error { return os.Remove(dir("e", n)) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, fail := range []error{nil, op.ErrShortage} {
				if c.on != nil {
					// A change that failed has happened, and the kernel comes to know it.
					eventually(t, c.on(n)+" is seen", func() bool { return exists(c.on(n)) })
				}
				returned := start(func() error { return c.call(n) })
				ack := l.next(t)
				// Nobody else waits meanwhile.
				if got := stat(t, m.Dir+"/old").Size; got != 0 {
					t.Errorf("size %d", got)
				}
				waits(t, returned)
				ack.tell(fail)
				err := returns(t, returned)
				if (err == nil) != (fail == nil) || fail != nil && !errors.Is(err, unix.EIO) {
					t.Errorf("with ack %v: %v", fail, err)
				}
			}
		})
	}
	eventually(t, "what was removed is not seen", func() bool { return !exists(dir("e", 1)) })
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestRefusedCreate sees that a create whose ack is an error leaves no handle
// and no reference behind.
func TestRefusedCreate(t *testing.T) {
	m, l := mountLater(t)
	_, open, _ := m.fs.Known()
	for _, make := range []func() error{
		func() error { _, err := os.Create(m.Dir + "/f"); return err },
		func() error { return os.Mkdir(m.Dir+"/d", 0o755) },
		func() error { return os.Symlink("x", m.Dir+"/l") },
	} {
		returned := start(make)
		l.next(t).tell(op.ErrShortage)
		if err := returns(t, returned); !errors.Is(err, unix.EIO) {
			t.Errorf("got %v, want EIO", err)
		}
	}
	// They have happened all the same, and the kernel comes to know it.
	for _, name := range []string{"f", "d", "l"} {
		eventually(t, name+" is seen", func() bool { return exists(m.Dir + "/" + name) })
	}
	eventually(t, "the handle is put away", func() bool { _, o, _ := m.fs.Known(); return o == open })
	eventually(t, "the references are", func() bool {
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		inodes, _, _ := m.fs.Known()
		return inodes == 1
	})
}

// TestInterruptedReply signals a process whose change waits for mirrors: the
// change has happened, so the call goes on to wait and then succeeds.
func TestInterruptedReply(t *testing.T) {
	m, l := mountLater(t)
	write(t, m.Backing+"/f", "before")
	cmd := childCommand(t.Context(), "write", m.Dir)
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	a := l.next(t)
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	// The interrupt comes before whatever is asked from now on.
	must(t, unix.Statfs(m.Dir, new(unix.Statfs_t)))
	waits(t, ended)
	l.over.Store(true) // for the time that the end of the process sends
	a.tell(nil)
	var exit *exec.ExitError
	if err := returns(t, ended); err != nil && !errors.As(err, &exit) {
		t.Errorf("the writer ended with %v", err)
	}
	if got := read(t, m.Backing+"/f"); got != "xefore" {
		t.Errorf("read %q", got)
	}
}

// TestUnmountWhileRepliesAreHeld detaches a mount whose callers wait for acks
// that come only afterwards.
func TestUnmountWhileRepliesAreHeld(t *testing.T) {
	m, l := mountLater(t)
	returned := start(func() error { return os.Mkdir(m.Dir+"/d", 0o755) })
	a := l.next(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if lazy, err := m.mount.Unmount(ctx); err != nil || !lazy {
		t.Fatalf("Unmount: lazy %v, %v", lazy, err)
	}
	<-m.mount.Done()
	if err := returns(t, returned); err == nil {
		t.Error("mkdir succeeded without an ack")
	}
	a.tell(nil) // nobody is there any more
}

// standing is a Committer that stands still at one path without saying so.
type standing struct {
	fs.Null
	path    string
	arrived chan struct{}
	leave   chan struct{}
}

func (s *standing) Commit(_ context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	if o.Path == s.path {
		s.arrived <- struct{}{}
		<-s.leave
	}
	return op.Done, apply()
}

// TestRelief sees that handlers which block unannounced hold up nobody else,
// however many they are, and that all goes on with one of them after another.
func TestRelief(t *testing.T) {
	s := &standing{path: "slow", arrived: make(chan struct{}), leave: make(chan struct{})}
	m := mount(t, s, fs.Options{IdleTimes: time.Hour})
	write(t, m.Dir+"/fast", "x")
	const calls = 3
	slow := make(chan error, calls)
	for i := range calls {
		write(t, m.Backing+"/slow", "")
		go func() { slow <- unix.Setxattr(m.Dir+"/slow", "user.x", []byte("y"), 0) }()
		if i == 0 {
			<-s.arrived // the others wait for the kernel's lock of the inode
		}
		must(t, os.Chmod(m.Dir+"/fast", 0o600))
		must(t, unix.Statfs(m.Dir, new(unix.Statfs_t)))
	}
	for i := range calls {
		if i > 0 {
			<-s.arrived // in whatever order the kernel lets them
		}
		s.leave <- struct{}{}
		must(t, returns(t, slow))
	}
}

// TestManyHeldReplies has many threads wait at once, and acks in any order.
func TestManyHeldReplies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m, l := mountLater(t)
	const threads, rounds = 32, 20
	ended := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		random := rand.New(rand.NewPCG(seed, 0))
		var open []*laterAck
		for {
			select {
			case a := <-l.acks:
				open = append(open, a)
				if len(open) < threads/2 && len(l.acks) > 0 {
					continue
				}
			case <-ended:
				return
			}
			random.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
			for _, a := range open {
				a.tell(nil)
			}
			open = open[:0]
		}
	})
	var all sync.WaitGroup
	for i := range threads {
		all.Go(func() {
			name := fmt.Sprintf("%s/%d", m.Dir, i)
			for n := range rounds {
				if err := os.WriteFile(name, []byte(fmt.Sprint(n)), 0o600); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if got, err := os.ReadFile(name); err != nil || string(got) != fmt.Sprint(n) {
					t.Errorf("%s: read %q, %v", name, got, err)
				}
				if err := os.Remove(name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	all.Wait()
	close(ended)
	teller.Wait()
}
