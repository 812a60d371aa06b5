package receive

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
)

func TestFailedFsyncLeavesTheSet(t *testing.T) {
	g := newRig(t)
	g.withFsync(func(int, bool) error { return syscall.EIO })
	p := g.start(hello(), false)
	p.send(create("a"))
	p.join(g)
	p.send(fsyncOf("a"))
	g.left(p, `disk failing: fsync "a": input/output error`)
}

func TestStrictFailureLeavesTheSet(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	p.send(write("missing", 0, "x"), write("f", 0, "not applied"))
	g.left(p, `replica is not what the primary has: write "missing": no such file or directory`)
	g.content("f", "")
	g.wantDegraded(`replica is not what the primary has: write "missing": no such file or directory`)
}

// A full disk takes the mirror out of the set, whether strict or in a resync,
// and can be recorded although the state lies on the same disk.
func TestDiskFull(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			disk := t.TempDir()
			if err := unix.Mount("none", disk, "tmpfs", 0, "size=6m"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(disk, 0); err != nil {
					t.Error(err)
				}
			})
			g := rigIn(t, disk, time.Minute)
			p := g.start(hello(), false)
			p.applied(p.send(&op.Op{Kind: op.Mkdir, Path: "a", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o40755}}, create("a/b")))
			if strict {
				p.join(g)
			}
			block := strings.Repeat("x", 1<<20)
			p.send(write("a/b", 0, block), write("a/b", 1<<20, block), write("a/b", 2<<20, block))
			g.left(p, `disk full: write "a/b": no space left on device`)
		})
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.ENOSPC, `disk full: write "f": no space left on device`},
		{fmt.Errorf("deep: %w", syscall.EDQUOT), `disk quota exceeded: write "f": disk quota exceeded`},
		{syscall.EROFS, `file system is read-only: write "f": read-only file system`},
		{syscall.EIO, `disk failing: write "f": input/output error`},
		{syscall.EEXIST, `replica is not what the primary has: write "f": file exists`},
		{errors.New("odd"), `replica is not what the primary has: odd`},
	} {
		if got := applyError(write("f", 0, ""), c.err).Error(); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
