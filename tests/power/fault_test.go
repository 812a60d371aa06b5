package power

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// faulty returns a cluster with a directory of a node on a layer, and a file.
func faulty(t *testing.T, layer string) *harness.Cluster {
	t.Helper()
	c := harness.NewCluster(t, harness.Options{
		Mirrors: 1, Processes: true, Layers: []string{layer},
		// The hot set is recorded for each new place; none is forgotten meanwhile.
		Mirroring: daemon.Mirroring{AckTimeout: 5 * time.Second, CheckpointEvery: time.Hour},
	})
	if err := write(c.Primary, "the first text"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.Primary.Path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// calls are changes under a primary's mount, and the calls of the layer below a
// replica that they come to.
var calls = []struct {
	plan   string
	change func(mount string) error
}{
	{"create of new: EIO; mknod of new: EIO", func(at string) error { return os.WriteFile(filepath.Join(at, "new"), nil, 0o644) }},
	{"symlink of new: EIO", func(at string) error { return os.Symlink("text", filepath.Join(at, "new")) }},
	{"link of new: EIO", func(at string) error { return os.Link(filepath.Join(at, lasting), filepath.Join(at, "new")) }},
	{"setxattr of file: EIO", func(at string) error { return unix.Setxattr(filepath.Join(at, lasting), "user.x", []byte("y"), 0) }},
	{"mkdir of made: EIO", func(at string) error { return os.Mkdir(filepath.Join(at, "made"), 0o755) }},
	{"rename of file: EIO", func(at string) error { return os.Rename(filepath.Join(at, lasting), filepath.Join(at, "moved")) }},
	{"unlink of file: EIO", func(at string) error { return os.Remove(filepath.Join(at, lasting)) }},
	{"rmdir of dir: EROFS", func(at string) error { return os.Remove(filepath.Join(at, "dir")) }},
	{"setattr of file: EIO", func(at string) error { return os.Chmod(filepath.Join(at, lasting), 0o600) }},
	{"write of file: EIO", func(at string) error { return overwrite(at, false) }},
	{"write of file: ENOSPC", func(at string) error { return overwrite(at, false) }},
	{"fsync of file: EIO", func(at string) error { return overwrite(at, true) }},
	{"fsync of file: ENOSPC", func(at string) error { return overwrite(at, true) }},
}

// overwrite writes and may sync; an error of close(2) is none of these.
func overwrite(mount string, sync bool) error {
	f, err := os.OpenFile(filepath.Join(mount, lasting), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("another text.."); err != nil || !sync {
		return err
	}
	return f.Sync()
}

// TestMirrorCallFails fails system calls on a mirror's replica: the mirror
// leaves the set with that reason, the primary goes on, and the mirror comes
// back when the disk is mended.
func TestMirrorCallFails(t *testing.T) {
	for _, tt := range calls {
		t.Run(tt.plan, func(t *testing.T) {
			c := faulty(t, "mirror1/replica")
			m, l := c.Mirrors[0], c.Layers["mirror1/replica"]
			l.Plan(tt.plan)
			if err := tt.change(c.Primary.Mountpoint); err != nil {
				t.Errorf("the primary's disk is fine: %v", err)
			}
			m.UntilEvent("of the disk", func(e admin.Event) bool { return e.Kind == "disk-error" })
			c.Primary.UntilEvent("of the expulsion", event("expelled", "mirror1"))
			status(t, c.Primary, 1, "degraded", "mirror1 is not in sync")
			status(t, m, 1, "degraded", "not in sync")
			if l.Hits() == 0 {
				t.Error("nothing has failed")
			}
			l.Plan("")
			c.Primary.WaitInSync(1)
			status(t, m, 0)
			status(t, c.Primary, 0)
		})
	}
}

// TestPrimaryCallFails fails them on the primary's replica: the caller hears of
// it, and nobody has to leave.
func TestPrimaryCallFails(t *testing.T) {
	for _, tt := range calls {
		t.Run(tt.plan, func(t *testing.T) {
			c := faulty(t, "primary/replica")
			l := c.Layers["primary/replica"]
			l.Plan(tt.plan)
			err := tt.change(c.Primary.Mountpoint)
			want := syscall.EIO
			switch {
			case strings.HasSuffix(tt.plan, "EROFS"):
				want = syscall.EROFS
			case tt.plan == "write of file: ENOSPC":
				want = syscall.ENOSPC
			}
			if !errors.Is(err, want) {
				t.Errorf("the caller gets %v, want %v", err, want)
			}
			if l.Hits() == 0 {
				t.Error("nothing has failed")
			}
			if want == syscall.ENOSPC {
				status(t, c.Primary, 0) // a full disk is the caller's to deal with
			} else {
				c.Primary.UntilEvent("of the disk", func(e admin.Event) bool { return e.Kind == "disk-error" })
				status(t, c.Primary, 1, "degraded", "the disk has failed")
			}
			l.Plan("")
			if strings.HasPrefix(tt.plan, "fsync") {
				c.Primary.UntilEvent("of what is done", event("reread", "every mirror"))
			} else if err := tt.change(c.Primary.Mountpoint); err != nil {
				t.Errorf("on the mended disk: %v", err)
			}
			c.Primary.WaitInSync(1)
		})
	}
}

// TestMirrorStateFails fails the disk of a mirror's state. It leaves the set,
// though it cannot record that it has, and says so.
func TestMirrorStateFails(t *testing.T) {
	for _, plan := range []string{"fsync of state.db: EIO", "write of state.db: EIO", "write of state.db: ENOSPC", "* of state.db: EROFS"} {
		t.Run(plan, func(t *testing.T) {
			c := faulty(t, "mirror1/replica.standbyfs")
			m, l := c.Mirrors[0], c.Layers["mirror1/replica.standbyfs"]
			l.Plan(plan)
			if err := os.Mkdir(c.Primary.Path("dir/in"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.Primary.Path("dir/in/new"), nil, 0o644); err != nil {
				t.Fatalf("the primary's disk is fine: %v", err)
			}
			c.Primary.UntilEvent("of the expulsion", event("expelled", "record that"))
			status(t, m, 1, "not in sync", "cannot be recorded")
			if l.Hits() == 0 {
				t.Error("nothing has failed")
			}
			l.Plan("")
			c.Primary.WaitInSync(1)
			status(t, m, 0)
			// The file is whole after records that failed in the middle.
			m.Kill()
			m.Start(daemon.Mirror)
			c.Primary.WaitInSync(1)
		})
	}
}

// TestPrimaryStateFails fails the disk of the primary's state: what needs a
// record fails or waits, and nothing is acknowledged that needs one.
func TestPrimaryStateFails(t *testing.T) {
	for _, plan := range []string{"fsync of state.db: EIO", "write of state.db: ENOSPC"} {
		t.Run(plan, func(t *testing.T) {
			c := faulty(t, "primary/replica.standbyfs")
			p, l := c.Primary, c.Layers["primary/replica.standbyfs"]
			l.Plan(plan)
			want := syscall.EIO
			if strings.HasSuffix(plan, "ENOSPC") {
				want = syscall.ENOSPC
			}
			err := os.Mkdir(p.Path("dir/in"), 0o755)
			if !errors.Is(err, want) {
				t.Errorf("what cannot be recorded as hot: %v, want %v", err, want)
			}
			status(t, p, 1, "degraded", "the disk has failed", "record that")
			// An expulsion is not recorded: a call that waits for it does not return.
			c.Nets[0].Set(harness.MustFault("cut"))
			wrote := make(chan error, 1)
			go func() { wrote <- write(p, "another text..") }()
			p.Until("the trouble", func(s admin.Status) bool {
				return strings.Contains(strings.Join(s.Reasons, "\n"), "cannot be recorded")
			})
			select {
			case err := <-wrote:
				t.Fatalf("a call returns %v, and the mirror that it waited for is still counted", err)
			default:
			}
			l.Plan("")
			if err := <-wrote; err != nil {
				t.Errorf("a call that waited until the disk was mended: %v", err)
			}
			c.Nets[0].Set(harness.Good)
			p.WaitInSync(1)
			if err := os.Mkdir(p.Path("dir/in"), 0o755); err != nil {
				t.Errorf("on the mended disk: %v", err)
			}
			p.Kill()
			p.Start(daemon.Primary)
			p.WaitInSync(1)
		})
	}
}

// TestReadOnly turns file systems read-only, as after an error, and back.
func TestReadOnly(t *testing.T) {
	t.Run("primary", func(t *testing.T) {
		c := newFile(t, "primary/replica")
		p := c.Primary
		abort(t, p.Replica)
		if err := os.Mkdir(p.Path("new"), 0o755); !errors.Is(err, syscall.EROFS) {
			t.Errorf("on a read-only file system: %v, want %v", err, syscall.EROFS)
		}
		mustHold(t, p.Path(lasting), "the first text")
		p.UntilEvent("of the disk", event("disk-error", "read-only"))
		status(t, p, 1, "degraded", "read-only file system")
		p.Kill()
		if err := unix.Unmount(p.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		mend(t, c, "primary/replica")
		p.Start(daemon.Primary)
		p.WaitInSync(1)
		status(t, p, 0)
	})
	t.Run("mirror's state", func(t *testing.T) {
		c := newFile(t, "mirror1/replica.standbyfs")
		m := c.Mirrors[0]
		abort(t, m.StateDir)
		if err := os.MkdirAll(c.Primary.Path("new/one"), 0o755); err != nil {
			t.Fatal(err)
		}
		c.Primary.UntilEvent("of the expulsion", event("expelled", "mirror1"))
		status(t, m, 1, "not in sync", "cannot be recorded")
		m.Kill()
		if err := m.TryStart(daemon.Mirror); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("a start without a state that can be written: %v", err)
		}
		mend(t, c, "mirror1/replica.standbyfs")
		m.Start(daemon.Mirror)
		c.Primary.WaitInSync(1)
		status(t, m, 0)
	})
}

// abort makes ext4 give up as it does after an error of its journal.
func abort(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "abort"); err != nil {
		t.Fatal(err)
	}
}

// mend takes a drive's file system away and mounts it anew.
func mend(t *testing.T, c *harness.Cluster, name string) {
	t.Helper()
	d := c.Drives[name]
	d.Off()
	if err := d.PowerOn(); err != nil {
		t.Fatal(err)
	}
}
