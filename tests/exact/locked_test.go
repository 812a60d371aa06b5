package exact

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// TestResyncLocked brings mirrors level whose replicas have locked what the
// primary has changed, unlocked or removed meanwhile, and the other way round.
// The cluster compares the replicas at its end.
func TestResyncLocked(t *testing.T) {
	harness.NeedFUSE(t)
	all := filepath.Dir(t.TempDir())
	t.Cleanup(func() { unlock(t, all) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	flags := func(path string, flags int) {
		t.Helper()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(err)
		defer unix.Close(fd)
		have, err := getFlags(fd)
		must(err)
		must(setFlags(fd, have&^(flagAppend|flagImmutable|flagNodump)|flags))
	}
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Adopt: func(replica string) {
		for _, name := range []string{"d/fixed", "d/sub/log", "free", "changed", "removed/below/f", "replaced"} {
			path := filepath.Join(replica, name)
			must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(fill(100000, byte(len(name)))), 0o644)))
		}
		must(os.Link(filepath.Join(replica, "changed"), filepath.Join(replica, "twin")))
		flags(filepath.Join(replica, "d/fixed"), flagImmutable|flagNodump)
		flags(filepath.Join(replica, "d/sub/log"), flagAppend)
		flags(filepath.Join(replica, "d/sub"), flagAppend)
		flags(filepath.Join(replica, "d"), flagImmutable)
		flags(filepath.Join(replica, "changed"), flagImmutable)
		flags(filepath.Join(replica, "removed/below/f"), flagImmutable)
		flags(filepath.Join(replica, "removed/below"), flagAppend)
		flags(filepath.Join(replica, "removed"), flagImmutable)
		flags(filepath.Join(replica, "replaced"), flagImmutable)
	}})
	p := c.Primary
	c.Mirrors[1].MustStop()
	flags(p.Path("changed"), 0)
	must(os.WriteFile(p.Path("changed"), []byte("something else"), 0o600))
	must(os.Chmod(p.Path("changed"), 0o640))
	flags(p.Path("changed"), flagAppend)
	for _, path := range []string{"removed", "removed/below", "removed/below/f", "replaced"} {
		flags(p.Path(path), 0)
	}
	must(os.RemoveAll(p.Path("removed")))
	must(os.Remove(p.Path("replaced")))
	must(os.Mkdir(p.Path("replaced"), 0o755))
	flags(p.Path("d"), 0)
	must(os.WriteFile(p.Path("d/new"), []byte("new"), 0o644))
	flags(p.Path("d"), flagImmutable)
	log, err := os.OpenFile(p.Path("d/sub/log"), os.O_WRONLY|os.O_APPEND, 0)
	must(err)
	_, err = log.WriteString(fill(70000, 3))
	must(errors.Join(err, log.Close()))
	flags(p.Path("free"), flagImmutable)
	c.Mirrors[1].Start(daemon.Mirror)
	p.WaitInSync(2)
	// What is locked stays so while it is written to the end.
	log, err = os.OpenFile(p.Path("d/sub/log"), os.O_WRONLY|os.O_APPEND, 0)
	must(err)
	_, err = log.WriteString("the end")
	must(errors.Join(err, log.Close()))
}
