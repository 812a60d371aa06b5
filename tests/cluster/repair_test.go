package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// damage is a change of a replica behind the back of its node.
type damage struct {
	name  string
	about string // the object that a verify has to name
	do    func(in func(string) string) error
}

var damages = []damage{
	{"a flipped bit", "dir/file", func(in func(string) string) error {
		return stealthily(in("dir/file"), func(path string) error { return poke(path, 200_001, '!') })
	}},
	{"bits here and there", "dir/file", func(in func(string) string) error {
		return stealthily(in("dir/file"), func(path string) error {
			for _, at := range []int64{1, 70_000, 500_000} {
				if err := poke(path, at, '!'); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"a hole in the data", "dir/file", func(in func(string) string) error {
		return stealthily(in("dir/file"), func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 65536, 131072)
		})
	}},
	{"a lost file", "dir/below/other", func(in func(string) string) error { return os.Remove(in("dir/below/other")) }},
	{"a lost directory", "dir", func(in func(string) string) error { return os.RemoveAll(in("dir")) }},
	{"an extra file", "dir/extra", func(in func(string) string) error { return os.WriteFile(in("dir/extra"), []byte("?"), 0o644) }},
	{"a mode", "dir/below/other", func(in func(string) string) error { return os.Chmod(in("dir/below/other"), 0o600) }},
	{"an owner and an xattr", "link", func(in func(string) string) error {
		if err := os.Lchown(in("link"), 1, 2); err != nil {
			return err
		}
		return unix.Setxattr(in("dir"), "user.x", []byte("y"), 0)
	}},
	{"a file cut short", "dir/file", func(in func(string) string) error {
		return stealthily(in("dir/file"), func(path string) error { return os.Truncate(path, 100_000) })
	}},
	{"a file that has grown", "dir/below/other", func(in func(string) string) error {
		return stealthily(in("dir/below/other"), func(path string) error { return os.Truncate(path, 1_000_000) })
	}},
	{"a name that is another file", "hard", func(in func(string) string) error {
		text, err := os.ReadFile(in("hard"))
		if err != nil {
			return err
		}
		return stealthily(in("hard"), func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			if err := os.WriteFile(path, text[:640<<10], 0o644); err != nil {
				return err
			}
			return os.Truncate(path, 1<<20)
		})
	}},
	{"a lost name", "hard", func(in func(string) string) error { return os.Remove(in("hard")) }},
	{"another lost name", "dir/file", func(in func(string) string) error { return os.Remove(in("dir/file")) }},
	{"a link instead of a file", "dir/below/other", func(in func(string) string) error {
		if err := os.Remove(in("dir/below/other")); err != nil {
			return err
		}
		return os.Symlink("nowhere", in("dir/below/other"))
	}},
}

// stealthily runs change and puts the mtimes of the object and of its directory
// back.
func stealthily(path string, change func(path string) error) error {
	var was [2]unix.Stat_t
	paths := []string{path, filepath.Dir(path)}
	for i, p := range paths {
		if err := unix.Lstat(p, &was[i]); err != nil {
			return err
		}
	}
	if err := change(path); err != nil {
		return err
	}
	for i, p := range paths {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, was[i].Mtim}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

// damaged is a cluster with something to damage.
func damaged(t *testing.T, mirrors int) *harness.Cluster {
	c := harness.NewCluster(t, harness.Options{Mirrors: mirrors, Processes: true})
	p := c.Primary.Path
	for _, err := range []error{
		os.MkdirAll(p("dir/below"), 0o755),
		write(c.Primary, "dir/file", strings.Repeat("0123456789abcdef", 40<<10)),
		os.Truncate(p("dir/file"), 1<<20), // ends in a hole
		write(c.Primary, "dir/below/other", "text"),
		os.Symlink("dir/file", p("link")),
		os.Link(p("dir/file"), p("hard")),
		unix.Mkfifo(p("dir/fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"dir/file", "dir/below/other", "dir/fifo", "dir/below", "dir", "."} {
		now := time.Unix(1_000_000_000, 0)
		if err := os.Chtimes(p(path), now, now); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func digest(t *testing.T, dir string) string {
	t.Helper()
	r := harness.Command(t, "digest", "-v", dir)
	if r.Code != 0 {
		t.Fatalf("digest %s: exit code %d: %s", dir, r.Code, r.Stderr)
	}
	return r.Stdout
}

// repaired checks that a repair has made all as it was, on disk and as programs
// see it.
func repaired(t *testing.T, c *harness.Cluster, want string) {
	t.Helper()
	dirs := []string{c.Primary.Mountpoint, c.Primary.Replica}
	for _, m := range c.Mirrors {
		dirs = append(dirs, m.Replica)
	}
	for _, dir := range dirs {
		if got := digest(t, dir); got != want {
			t.Errorf("%s holds\n%s\nwant\n%s", dir, got, want)
		}
	}
	if s := c.Primary.Status(); s.Verdict != admin.Healthy || len(s.Set) != len(c.Mirrors) {
		t.Errorf("after the repair: %s", s.Summary())
	}
}

// TestRot flips a bit on a disk while the memory of its machine still has what
// was written: a verify looks at the disk.
func TestRot(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true, Disks: map[string]harness.DiskOptions{
		"primary": {Size: 64 << 20, ReplicaOnly: true}, "mirror1": {Size: 64 << 20, ReplicaOnly: true},
	}})
	r := rand.New(rand.NewPCG(seed.New(t), 0))
	content := make([]byte, 300_000)
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	mustWrite(t, c.Primary, "file", string(content[:290_000]))
	mustWrite(t, c.Primary, "small", string(content[290_000:]))
	want := digest(t, c.Primary.Mountpoint)
	for _, victim := range []*harness.Node{c.Primary, c.Mirrors[0]} {
		file, small := victim.InReplica("file"), victim.InReplica("small")
		whole := func(when string) {
			t.Helper()
			for path, want := range map[string][]byte{file: content[:290_000], small: content[290_000:]} {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s %s does not hold what was written (%v)", when, path, err)
				}
			}
		}
		whole("before")
		c.Disks[victim.Name].Rot(content[100_000:100_100])
		c.Disks[victim.Name].Rot(content[291_000:291_100])
		whole("while memory hides it")
		r := harness.Command(t, "verify", c.Primary.Replica)
		says(t, r.Stdout, `"file": content differs in bytes 65536-131071`, `"small": content differs in bytes 0-65535`)
		if r.Code != 1 {
			t.Errorf("verify: exit code %d", r.Code)
		}
		r = harness.Command(t, "verify", c.Primary.Replica, "--repair=majority")
		if r.Code != 0 {
			t.Errorf("repair: exit code %d, %s", r.Code, r.Stderr)
		}
		for _, path := range []string{file, small} {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
			if err != nil {
				t.Fatal(err)
			}
		}
		whole("after the repair")
		repaired(t, c, want)
	}
}

// TestRepairOfAnAsynchronousMirror: it is no member of the set that it could leave.
func TestRepairOfAnAsynchronousMirror(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{Peers: []mirror.PeerConfig{{Async: true}}}})
	level := func(p mirror.PeerStatus) bool { return p.State == mirror.StateAsync && p.LagBytes == 0 }
	mustWrite(t, c.Primary, "file", strings.Repeat("0123456789abcdef", 20<<10))
	mustWrite(t, c.Primary, "lost", "text")
	untilPeer(c, 0, "it is level", level)
	want := digest(t, c.Primary.Replica)
	m := c.Mirrors[0]
	err := stealthily(m.InReplica("file"), func(path string) error { return poke(path, 200_001, '!') })
	if err == nil {
		err = os.Remove(m.InReplica("lost"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := harness.Command(t, "verify", c.Primary.Replica, "--use", "primary"); r.Code != 0 {
		t.Errorf("repair: exit code %d, %s", r.Code, r.Stderr)
	}
	untilPeer(c, 0, "it is level", level)
	if got := digest(t, m.Replica); got != want {
		t.Errorf("the mirror holds\n%s\nwant\n%s", got, want)
	}
}

// TestRepairWhileWritesGoOn mends a file and its directory on the primary while
// programs write to just these.
func TestRepairWhileWritesGoOn(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Processes: true})
	mustWrite(t, c.Primary, "file", strings.Repeat("0123456789abcdef", 40<<10))
	stop, ended := make(chan struct{}), make(chan error, 2)
	loop := func(step func(i int) error) {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := step(i); err != nil {
				ended <- err
				return
			}
		}
	}
	go loop(func(i int) error { return poke(c.Primary.Path("file"), int64(i%60_000), byte(i)) })
	go loop(func(i int) error {
		name := c.Primary.Path(fmt.Sprintf("made%d", i%7))
		if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
			return err
		}
		return os.Rename(name, c.Primary.Path("renamed"))
	})
	for round := range 3 {
		for _, victim := range []*harness.Node{c.Primary, c.Mirrors[0]} {
			// Writers open the file anew each time, so that its time is theirs.
			if err := poke(victim.InReplica("file"), int64(200_000+70_000*round), '!'); err != nil {
				t.Fatal(err)
			}
			if r := harness.Command(t, "verify", c.Primary.Replica, "--repair=majority"); r.Code != 0 {
				t.Errorf("repair of %s: exit code %d, %s", victim.Name, r.Code, r.Stderr)
			}
		}
	}
	close(stop)
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("a program that writes meanwhile: %v", err)
		}
	}
	file, err := os.ReadFile(c.Primary.Path("file"))
	if err != nil || bytes.ContainsRune(file[65536:], '!') || len(file) != 640<<10 {
		t.Errorf("the file has %d bytes, is it mended? %v", len(file), err)
	}
}

// TestRepairByMajority damages one of three replicas after the other. What the
// other two have is right, whoever the third is.
func TestRepairByMajority(t *testing.T) {
	c := damaged(t, 2)
	want := digest(t, c.Primary.Mountpoint)
	for _, d := range damages {
		for _, victim := range []*harness.Node{c.Primary, c.Mirrors[1]} {
			t.Run(fmt.Sprintf("%s on %s", d.name, victim.Name), func(t *testing.T) {
				if err := d.do(victim.InReplica); err != nil {
					t.Fatal(err)
				}
				spoilt := digest(t, victim.Replica)
				r := harness.Command(t, "verify", c.Primary.Replica)
				if r.Code != 1 || !strings.Contains(r.Stdout, filepath.Base(d.about)) {
					t.Errorf("verify: exit code %d, %q is to be named", r.Code, d.about)
				}
				// Asked, and nobody answers: nothing changes.
				r = harness.Answer(t, "", "verify", c.Primary.Replica, "--repair")
				says(t, r.Stdout, fmt.Sprintf("%q", d.about), victim.Name, "(the majority)", "skipped")
				if r.Code != 1 || digest(t, victim.Replica) != spoilt {
					t.Errorf("without an answer: exit code %d, and the replica is\n%s", r.Code, digest(t, victim.Replica))
				}
				if r := harness.Command(t, "verify", c.Primary.Replica, "--repair=majority"); r.Code != 0 || r.Stderr != "" {
					t.Errorf("repair: exit code %d, %s", r.Code, r.Stderr)
				}
				repaired(t, c, want)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// TestRepairOfTwo damages one of two replicas. Nobody can tell who is right but
// a person.
func TestRepairOfTwo(t *testing.T) {
	c := damaged(t, 1)
	want := digest(t, c.Primary.Mountpoint)
	for _, d := range damages {
		for i, victim := range c.Nodes() {
			t.Run(fmt.Sprintf("%s on %s", d.name, victim.Name), func(t *testing.T) {
				if err := d.do(victim.InReplica); err != nil {
					t.Fatal(err)
				}
				spoilt := digest(t, victim.Replica)
				r := harness.Command(t, "verify", c.Primary.Replica, "--repair=majority")
				says(t, r.Stdout, fmt.Sprintf("%q", d.about), "no more than half", "left as it is")
				if r.Code != 1 || digest(t, victim.Replica) != spoilt {
					t.Errorf("without a majority: exit code %d, and the replica is\n%s", r.Code, digest(t, victim.Replica))
				}
				right := c.Nodes()[1-i].Name
				if d.name == "a flipped bit" {
					// The primary's version is the first one.
					r = harness.Answer(t, fmt.Sprintf("\nx\n%d\n", 1+i), "verify", c.Primary.Replica, "--repair")
					says(t, r.Stdout, "1-2", "right is what "+right+" has")
				} else {
					r = harness.Command(t, "verify", c.Primary.Replica, "--use", right)
				}
				if r.Code != 0 || r.Stderr != "" {
					t.Errorf("repair: exit code %d, %s", r.Code, r.Stderr)
				}
				repaired(t, c, want)
			})
			if t.Failed() {
				return
			}
		}
	}
}
