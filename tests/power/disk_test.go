package power

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// lasting is a file with a first text that all drives have on their platters.
const lasting = "file"

func newFile(t *testing.T, drives ...string) *harness.Cluster {
	t.Helper()
	sizes := map[string]int64{}
	for _, name := range drives {
		sizes[name] = driveSize
	}
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Drives: sizes, Mirroring: daemon.Mirroring{AckTimeout: 5 * time.Second}})
	if err := write(c.Primary, "the first text"); err != nil {
		t.Fatal(err)
	}
	return c
}

// write overwrites the file, in place, and syncs it.
func write(n *harness.Node, text string) error {
	f, err := os.OpenFile(n.Path(lasting), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

func mustHold(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

// status expects an exit code of `standbyfs status`, and words of its text.
func status(t *testing.T, n *harness.Node, code int, words ...string) {
	t.Helper()
	r := harness.Command(t, "status", n.Replica)
	if r.Code != code {
		t.Errorf("status of %s: exit code %d, want %d", n.Name, r.Code, code)
	}
	for _, w := range words {
		if !strings.Contains(r.Stdout, w) {
			t.Errorf("status of %s does not say %q", n.Name, w)
		}
	}
}

func event(kind, text string) func(admin.Event) bool {
	return func(e admin.Event) bool { return e.Kind == kind && strings.Contains(e.Text, text) }
}

// TestMirrorDriveFails fails the write-back of what a mirror has applied. The
// page cache goes on to show it, and the next sync of it comes to nothing bad;
// but the mirror must not join before its drive has it.
func TestMirrorDriveFails(t *testing.T) {
	for _, restart := range []bool{false, true} {
		name := "goes on"
		if restart {
			name = "is started again"
		}
		t.Run(name, func(t *testing.T) {
			c := newFile(t, "mirror1")
			m, d := c.Mirrors[0], c.Drives["mirror1"]
			d.Break("write", m.InReplica(lasting))
			if err := write(c.Primary, "another text.."); err != nil {
				t.Fatalf("the primary's drive is fine: %v", err)
			}
			if d.Hits() == 0 {
				t.Fatal("nothing has failed")
			}
			m.UntilEvent("of the disk", event("disk-error", "disk failing"))
			c.Primary.UntilEvent("of the expulsion", event("expelled", "disk failing"))
			d.Plan("")
			if restart {
				m.Kill()
				m.Start(daemon.Mirror)
			}
			c.Primary.WaitInSync(1)
			status(t, m, 0, "in sync")
			c.LosePower(1, m)
			c.PowerOn(m)
			mustHold(t, m.InReplica(lasting), "another text..")
			m.Start(daemon.Mirror)
			c.Primary.WaitInSync(1)
		})
	}
}

// TestPrimaryDriveFails fails the write-back of what was written under the
// mount. The caller hears of it, and of nothing better later; the primary and
// its mirror go on with what the drive has.
func TestPrimaryDriveFails(t *testing.T) {
	for _, restart := range []bool{false, true} {
		name := "goes on"
		if restart {
			name = "is started again"
		}
		t.Run(name, func(t *testing.T) {
			c := newFile(t, "primary")
			p, d := c.Primary, c.Drives["primary"]
			f, err := os.OpenFile(p.Path(lasting), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			d.Break("write", p.InReplica(lasting))
			if _, err := f.WriteString("another text.."); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := f.Sync(); !errors.Is(err, syscall.EIO) {
					t.Errorf("fsync of what the drive does not take: %v, want %v", err, syscall.EIO)
				}
			}
			if d.Hits() == 0 {
				t.Fatal("nothing has failed")
			}
			p.UntilEvent("of the disk", event("disk-error", lasting))
			status(t, p, 1, "degraded", "the disk has failed", lasting)
			d.Plan("")
			if restart {
				f.Close()
				p.Kill()
				p.Start(daemon.Primary)
			} else {
				p.UntilEvent("of what is done", event("reread", "every mirror"))
				if err := f.Sync(); !errors.Is(err, syscall.EIO) {
					t.Errorf("fsync of a file that lost what was written: %v, want %v", err, syscall.EIO)
				}
			}
			p.WaitInSync(1)
			p.Until("what changed lately is forgotten", func(s admin.Status) bool { return s.Hot == 0 })
			mustHold(t, p.InReplica(lasting), "the first text")
			mustHold(t, p.Path(lasting), "the first text")
			mustHold(t, c.Mirrors[0].InReplica(lasting), "the first text")
			f.Close()
			c.LosePower(1, p)
			c.PowerOn(p)
			mustHold(t, p.InReplica(lasting), "the first text")
			p.Start(daemon.Primary)
			p.WaitInSync(1)
			if err := write(p, "a third text.."); err != nil {
				t.Errorf("on the mended drive: %v", err)
			}
		})
	}
}
