package fs_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// eventually polls for what the kernel does when it finds the time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// TestForget sees that files which come and go leave nothing behind. $FILES
// says how many: `make soak` lets a million of them go by.
func TestForget(t *testing.T) {
	files := 2_000
	if n, err := strconv.Atoi(os.Getenv("FILES")); err == nil {
		files = n
	}
	m := mount(t, fs.Null{}, fs.Options{})
	before := openFiles(t)
	for i := range files {
		path := fmt.Sprintf("%s/f%d", m.Dir, i%7)
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		must(t, err)
		if i%3 == 0 {
			must(t, unix.Unlink(path)) // while it is open
		}
		unix.Close(fd)
		if i%3 != 0 {
			must(t, unix.Unlink(path))
		}
	}
	eventually(t, "nothing is left", func() bool {
		inodes, open, late := m.fs.Known()
		return inodes <= 2 && open == 0 && late == 0 && openFiles(t) <= before+2
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestOpenFiles sees that running out of descriptors fails opens alone, and
// only until some are closed.
func TestOpenFiles(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	write(t, m.Dir+"/f", "x")
	eventually(t, "the handle of the write is gone", func() bool { _, open, _ := m.fs.Known(); return open == 0 })
	m.fs.LimitOpen(2)
	f, err := os.OpenFile(m.Dir+"/f", os.O_RDWR, 0)
	must(t, err)
	g, err := os.Open(m.Dir)
	must(t, err)
	_, err = os.Open(m.Dir + "/f")
	want(t, "open", err, unix.EMFILE)
	_, err = os.Create(m.Dir + "/new")
	want(t, "create", err, unix.EMFILE)
	_, err = unix.Open(m.Dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	want(t, "O_TMPFILE", err, unix.EMFILE)
	_, err = os.ReadDir(m.Dir)
	want(t, "opendir", err, unix.EMFILE)
	must(t, os.Mkdir(m.Dir+"/d", 0o755))
	must(t, os.Remove(m.Dir+"/f"))
	must(t, f.Chmod(0o600))
	must(t, f.Close())
	must(t, g.Close())
	eventually(t, "there is room again", func() bool { _, err := os.ReadDir(m.Dir); return err == nil })
}

// TestLateTimes sees that an mtime travels at flush, fsync and when idle, and
// not with each write.
func TestLateTimes(t *testing.T) {
	r := &recorder{}
	m := mount(t, r, fs.Options{IdleTimes: 30 * time.Millisecond})
	f, err := os.Create(m.Dir + "/f")
	must(t, err)
	defer f.Close()
	count := func() int { return len(r.taken(op.SetAttr, op.Fsync)) }
	sent := func(want int) func() bool {
		return func() bool {
			ops := r.taken(op.SetAttr, op.Fsync)
			if len(ops) != want {
				return false
			}
			st := stat(t, m.Backing+"/f")
			return ops[want-1].Attr.Mtime == op.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
		}
	}
	_, err = f.WriteString("x")
	must(t, err)
	eventually(t, "the time of an idle file", sent(1))
	_, err = f.WriteString("x")
	must(t, err)
	must(t, f.Sync())
	if ops := r.taken(op.SetAttr, op.Fsync); !sent(2)() || ops[1].Kind != op.Fsync || ops[1].Flags != op.Barrier {
		t.Errorf("fsync: %v", ops)
	}
	must(t, f.Sync())
	if ops := r.taken(op.Fsync); len(ops) != 2 || ops[1].Attr.Valid != 0 {
		t.Errorf("nothing was written since, fsync: %v", ops)
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, m.Dir+"/f", []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0))
	if !sent(4)() {
		t.Errorf("utimensat: %d ops, want 4", count())
	}
	_, err = f.WriteString("x")
	must(t, err)
	must(t, f.Close())
	if !sent(5)() {
		t.Errorf("close: %d ops, want 5", count())
	}
}

// TestFenced sees a mount turn read-only.
func TestFenced(t *testing.T) {
	r := &recorder{}
	m := mount(t, r, fs.Options{})
	f, err := os.Create(m.Dir + "/f")
	must(t, err)
	defer f.Close()
	r.fail(fmt.Errorf("elsewhere: %w", op.ErrFenced))
	_, err = f.WriteString("x")
	want(t, "write", err, unix.EROFS)
	want(t, "mkdir", os.Mkdir(m.Dir+"/d", 0o755), unix.EROFS)
	want(t, "fsync", f.Sync(), unix.EROFS)
	want(t, "unlink", os.Remove(m.Dir+"/f"), unix.EROFS)
	if got := read(t, m.Dir+"/f"); got != "" {
		t.Errorf("read %q", got)
	}
}

// blocker is a Committer that waits before it applies.
type blocker struct {
	fs.Null
	block   atomic.Bool
	blocked chan struct{}
}

func (b *blocker) Admit(ctx context.Context) error {
	if b.block.Load() {
		close(b.blocked)
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", op.ErrInterrupted)
	}
	return nil
}

// TestInterrupt kills a process whose write waits to be ordered.
func TestInterrupt(t *testing.T) {
	b := &blocker{blocked: make(chan struct{})}
	m := mount(t, b, fs.Options{})
	write(t, m.Dir+"/f", "before")
	b.block.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	killed := make(chan error, 1)
	go func() { killed <- childCommand(ctx, "write", m.Dir).Run() }()
	<-b.blocked
	if err := m.fs.Hold("f", func() error { return nil }); err != nil {
		t.Errorf("Hold while a write waits: %v", err)
	}
	cancel() // kills the child
	select {
	case err := <-killed:
		if err == nil {
			t.Error("the write returned success")
		}
	case <-time.After(10 * time.Second):
		t.Error("a killed process is stuck in its write")
	}
	b.block.Store(false)
	// It waited without locks: everything else goes on, what repair needs too.
	if got := read(t, m.Dir+"/f"); got != "before" {
		t.Errorf("read %q", got)
	}
}

func init() {
	children["write"] = func(dir string) error {
		fd, err := unix.Open(dir+"/f", unix.O_WRONLY, 0)
		if err == nil {
			_, err = unix.Write(fd, []byte("x"))
		}
		return err
	}
}

// TestHold sees that nothing changes while something is held.
func TestHold(t *testing.T) {
	r := &recorder{}
	m := mount(t, r, fs.Options{IdleTimes: time.Hour})
	must(t, os.Mkdir(m.Dir+"/d", 0o755))
	write(t, m.Dir+"/d/other", "")
	f, err := os.Create(m.Dir + "/d/f")
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("x")
	must(t, err)

	for _, tc := range []struct {
		path   string
		change func() error
	}{
		{"d/f", func() error { _, err := f.WriteString("y"); return err }},
		{"d/f", func() error { return os.Chmod(m.Dir+"/d/f", 0o600) }},
		{"d/f", func() error { return os.Rename(m.Dir+"/d", m.Dir+"/e") }},
		{"e", func() error { return os.Mkdir(m.Dir+"/e/new", 0o755) }},
		{"e/none", func() error { return os.Mkdir(m.Dir+"/e/none", 0o755) }},
		{op.Root, func() error { return os.Remove(m.Dir + "/e/none") }},
	} {
		done := make(chan error, 1)
		must(t, m.fs.Hold(tc.path, func() error {
			before := len(r.taken())
			go func() { done <- tc.change() }()
			select {
			case err := <-done:
				t.Errorf("hold %s: a change came through (%v)", tc.path, err)
				done <- err
			case <-time.After(20 * time.Millisecond): // it stays away: nothing to await
			}
			if after := len(r.taken()); after != before {
				t.Errorf("hold %s: %d ops", tc.path, after-before)
			}
			return nil
		}))
		if err := <-done; err != nil {
			t.Errorf("hold %s: %v", tc.path, err)
		}
	}

	_, err = f.WriteString("z")
	must(t, err)
	must(t, m.fs.Hold("e/f", func() error {
		ops := r.taken()
		if last := ops[len(ops)-1]; last.Kind != op.SetAttr || last.Attr.Valid != op.AttrMtime {
			t.Errorf("the late time was not ordered before: %v", last)
		}
		return nil
	}))
	must(t, m.fs.HoldAll(func() error { return nil }))

	// Several at once: none of them changes, and another does.
	write(t, m.Dir+"/e/g", "")
	write(t, m.Dir+"/e/free", "")
	done := make(chan error, 3)
	must(t, m.fs.HoldNames("e", []string{"f", "g", "none"}, func() error {
		if err := os.WriteFile(m.Dir+"/e/free", []byte("free"), 0o600); err != nil {
			t.Errorf("a file that is not held: %v", err)
		}
		go func() { done <- os.Chmod(m.Dir+"/e/f", 0o640) }()
		go func() { done <- os.Chmod(m.Dir+"/e/g", 0o640) }()
		go func() { done <- os.Mkdir(m.Dir+"/e/none", 0o755) }()
		select {
		case err := <-done:
			t.Errorf("hold of several: a change came through (%v)", err)
			done <- err
		case <-time.After(20 * time.Millisecond): // it stays away: nothing to await
		}
		return nil
	}))
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("hold of several: %v", err)
		}
	}
}
