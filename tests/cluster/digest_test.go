package cluster

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// TestDigest takes it of a mount, of the replica below, and of a mirror's, and
// then of the mirror's after one bit of it was flipped.
func TestDigest(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{
		Rules: []mirror.Rule{{Match: "*.tmp", Sync: mirror.SyncLocal}},
	}})
	p := c.Primary.Path
	mustDo := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mustDo(os.Mkdir(p("dir"), 0o775))
	mustWrite(t, c.Primary, "dir/file", strings.Repeat("0123456789abcdef", 100_000))
	mustDo(os.Truncate(p("dir/file"), 5<<20))
	mustDo(os.Link(p("dir/file"), p("a name before")))
	mustDo(os.Symlink("where", p("link")))
	mustDo(unix.Mkfifo(p("fifo"), 0o640))
	mustDo(unix.Mknod(p("socket"), unix.S_IFSOCK|0o600, 0))
	mustDo(unix.Mknod(p("device"), unix.S_IFCHR|0o600, 0x103))
	mustDo(unix.Setxattr(p("dir"), "user.x", []byte("\x00y"), 0))
	// user::rwx, user:7:r-x, group::r-x, mask::r-x, other::r-x
	mustDo(unix.Setxattr(p("dir/file"), "system.posix_acl_access", []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x05\x00\x07\x00\x00\x00"+
		"\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"), 0))
	f, err := os.Open(p("dir"))
	mustDo(err)
	mustDo(tree.SetInodeFlags(int(f.Fd()), 0x40)) // nodump
	mustDo(f.Sync())
	mustDo(f.Close())
	mustWrite(t, c.Primary, "own.tmp", "local")
	mustDo(os.Chtimes(p("dir/file"), time.Unix(1, 0), time.Unix(1_000_000_000, 5)))
	mustDo(os.Chtimes(p("."), time.Unix(1, 0), time.Unix(1_000_000_000, 5)))

	digest := func(dir string, args ...string) string {
		t.Helper()
		r := harness.Command(t, append([]string{"digest", dir}, args...)...)
		if r.Code != 0 {
			t.Fatalf("digest %s: exit code %d: %s", dir, r.Code, r.Stderr)
		}
		return r.Stdout
	}
	want := digest(c.Mirrors[0].Replica, "-v")
	for _, dir := range []string{c.Primary.Mountpoint, c.Primary.Replica} {
		if got := digest(dir, "-v", "--exclude", "*.tmp"); got != want {
			t.Errorf("of %s:\n%s\nof the mirror:\n%s", dir, got, want)
		}
	}
	says(t, want, `"dir/file" is "a name before"`, "flags=0x40", "posix_acl_access")
	if short := digest(c.Mirrors[0].Replica); !strings.HasSuffix(want, "\n"+short) || len(short) != 33 {
		t.Errorf("without -v: %q", short)
	}
	var was unix.Stat_t
	file := c.Mirrors[0].InReplica("dir/file")
	lstat(t, file, &was)
	mustDo(poke(file, 100_000, '1'))
	restoreMtime(t, file, was)
	if got := digest(c.Mirrors[0].Replica, "-v"); got == want {
		t.Error("a flipped bit makes no difference")
	}
	mustDo(poke(file, 100_000, '0'))
	restoreMtime(t, file, was)
	mustDo(os.Remove(p("own.tmp"))) // what is left is compared
	mustDo(os.Chtimes(p("."), time.Unix(1, 0), time.Unix(1_000_000_000, 5)))
	if r := harness.Command(t, "digest", c.Primary.Path("none")); r.Code != 2 {
		t.Errorf("of nothing: exit code %d", r.Code)
	}
}
