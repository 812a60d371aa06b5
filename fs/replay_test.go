package fs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/tests/seed"
	"golang.org/x/sys/unix"
)

// TestReplayPosix replays what each case of TestPosix did.
func TestReplayPosix(t *testing.T) {
	for name, run := range posixCases {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			m := mount(t, r, fs.Options{Suid: true, Dev: true})
			r.over(m.tree)
			run(t, m.Dir)
			m.unmount(t)
			r.replay(t, m.Backing)
		})
	}
}

// TestReplayRandom lets several goroutines do anything at all to a few names
// and replays the ops that came of it.
func TestReplayRandom(t *testing.T) {
	seed.Each(t, 4, func(t *testing.T, seed uint64) {
		r := &recorder{}
		m := mount(t, r, fs.Options{IdleTimes: 50 * time.Millisecond})
		r.over(m.tree)
		var workers sync.WaitGroup
		for w := range uint64(4) {
			rnd := rand.New(rand.NewPCG(seed, w))
			workers.Go(func() { scramble(rnd, m.Dir, 600) })
		}
		workers.Wait()
		m.unmount(t)
		r.replay(t, m.Backing)
	})
}

// scramble does n random things below dir. Most fail, and nobody minds.
func scramble(rnd *rand.Rand, dir string, n int) {
	name := func() string {
		path := dir
		for range 1 + rnd.IntN(3) {
			path += "/" + string(rune('a'+rnd.IntN(4)))
		}
		return path
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	pick := func() *os.File {
		if len(open) == 0 {
			return nil
		}
		return open[rnd.IntN(len(open))]
	}
	off := func() int64 { return rnd.Int64N(300_000) }
	for range n {
		switch rnd.IntN(24) {
		case 0, 1:
			os.Mkdir(name(), os.FileMode(0o700+rnd.IntN(0o100)))
		case 2:
			os.Remove(name())
		case 3:
			os.Rename(name(), name())
		case 4:
			unix.Renameat2(unix.AT_FDCWD, name(), unix.AT_FDCWD, name(), []uint{unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE, unix.RENAME_WHITEOUT}[rnd.IntN(3)])
		case 5:
			os.Link(name(), name())
		case 6:
			os.Symlink(strings.Repeat("x", 1+rnd.IntN(100)), name())
		case 7:
			unix.Mknod(name(), []uint32{unix.S_IFIFO, unix.S_IFREG, unix.S_IFCHR}[rnd.IntN(3)]|0o640, int(unix.Mkdev(1, 3)))
		case 8:
			os.Chmod(name(), os.FileMode(rnd.IntN(0o1000)))
		case 9:
			os.Lchown(name(), rnd.IntN(5), rnd.IntN(5))
		case 10:
			unix.Lsetxattr(name(), fmt.Sprintf("user.%d", rnd.IntN(3)), bytes.Repeat([]byte("v"), rnd.IntN(50)), 0)
		case 11:
			unix.Lremovexattr(name(), fmt.Sprintf("user.%d", rnd.IntN(3)))
		case 12:
			os.Truncate(name(), off())
		case 13:
			unix.UtimesNanoAt(unix.AT_FDCWD, name(), []unix.Timespec{{Sec: off()}, {Sec: off(), Nsec: off()}}, unix.AT_SYMLINK_NOFOLLOW)
		case 14, 15:
			path := name()
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
				continue
			}
			if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o644); err == nil {
				open = append(open, f)
			}
		case 16:
			if len(open) > 6 {
				open[0].Close()
				open = open[1:]
			}
		case 17:
			if f := pick(); f != nil {
				f.Truncate(off())
			}
		case 18:
			if f := pick(); f != nil {
				modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE}
				unix.Fallocate(int(f.Fd()), modes[rnd.IntN(len(modes))], off(), 1+off()/8)
			}
		case 19:
			if f, g := pick(), pick(); f != nil {
				a, b := off(), off()
				unix.CopyFileRange(int(f.Fd()), &a, int(g.Fd()), &b, int(off()/4), 0)
			}
		case 20:
			unix.Lsetxattr(name(), []string{accessList, defaultList}[rnd.IntN(2)], forUser(uint16(rnd.IntN(8))), 0)
		case 21:
			unix.Lremovexattr(name(), []string{accessList, defaultList}[rnd.IntN(2)])
		default:
			if f := pick(); f != nil {
				f.WriteAt(bytes.Repeat([]byte{byte('a' + rnd.IntN(26))}, 1+rnd.IntN(20_000)), off())
			}
		}
	}
}

// TestNames sees which names the ops of files with several names carry.
func TestNames(t *testing.T) {
	r := &recorder{local: func(path string) bool { return strings.HasSuffix(path, ".tmp") }}
	m := mount(t, r, fs.Options{})
	r.over(m.tree)
	// Known to nobody here: made below, before the first look.
	must(t, os.Mkdir(m.Backing+"/deep", 0o755))
	for i := range 3 {
		write(t, fmt.Sprintf("%s/%d.tmp", m.Backing, i), "data")
		must(t, os.Link(fmt.Sprintf("%s/%d.tmp", m.Backing, i), fmt.Sprintf("%s/deep/%d", m.Backing, i)))
	}
	path := func(kind op.Kind) string {
		t.Helper()
		ops := r.taken(kind)
		if len(ops) == 0 {
			t.Fatalf("no op of kind %v", kind)
		}
		return ops[len(ops)-1].Path
	}

	f, err := os.OpenFile(m.Dir+"/0.tmp", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("x")
	must(t, err)
	if got := path(op.Write); got != "deep/0" {
		t.Errorf("a write to a local name of a mirrored file goes to %q", got)
	}

	g, err := os.OpenFile(m.Dir+"/1.tmp", os.O_RDWR, 0)
	must(t, err)
	defer g.Close()
	must(t, os.Remove(m.Dir+"/1.tmp"))
	_, err = g.WriteString("x")
	must(t, err)
	if got := path(op.Write); got != "deep/1" {
		t.Errorf("a write after the known name went goes to %q", got)
	}
	must(t, os.Remove(m.Dir+"/deep/1"))
	_, err = g.WriteString("x")
	must(t, err)
	if got := path(op.Write); got != "" {
		t.Errorf("a write to a file without a name goes to %q", got)
	}

	must(t, os.Rename(m.Dir+"/deep", m.Dir+"/moved"))
	_, err = f.WriteString("x")
	must(t, err)
	if got := path(op.Write); got != "moved/0" {
		t.Errorf("a write after a rename of the directory goes to %q", got)
	}

	fd, err := unix.Open(m.Dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, m.Dir+"/linked", unix.AT_SYMLINK_FOLLOW))
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := path(op.Write); got != "linked" {
		t.Errorf("a write to a file that was linked late goes to %q", got)
	}
}
