package cluster

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"golang.org/x/sys/unix"
)

func verify(t *testing.T, n *harness.Node) mirror.VerifyReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := n.Admin().Verify(ctx)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return r
}

// TestVerifyNamesWhatDiffers spoils a mirror's replica behind its back, in one
// way after the other.
func TestVerifyNamesWhatDiffers(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2})
	if err := os.MkdirAll(c.Primary.Path("dir/below"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c.Primary, "dir/file", strings.Repeat("0123456789abcdef", 20<<10))
	mustWrite(t, c.Primary, "dir/below/other", "text")
	if err := os.Symlink("dir/file", c.Primary.Path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(c.Primary.Path("dir/file"), c.Primary.Path("hard")); err != nil {
		t.Fatal(err)
	}

	for _, p := range verify(t, c.Primary).Peers {
		if !p.Checked || len(p.Differences) != 0 {
			t.Fatalf("two good replicas: %+v", p)
		}
	}
	spoilt := c.Mirrors[1]
	file, other := spoilt.InReplica("dir/file"), spoilt.InReplica("dir/below/other")
	for _, tt := range []struct {
		name        string
		spoil, mend func() error
		parts       []string
	}{
		{"a flipped bit", func() error { return poke(file, 200_001, '!') }, func() error { return poke(file, 200_001, '1') },
			[]string{`"dir/file"`, "196608", "differ"}},
		{"an extra name", func() error { return os.WriteFile(spoilt.InReplica("dir/extra"), nil, 0o644) },
			func() error { return os.Remove(spoilt.InReplica("dir/extra")) }, []string{`"dir"`, "extra"}},
		{"a missing name", func() error { return os.Rename(other, other+".away") }, func() error { return os.Rename(other+".away", other) },
			[]string{"other"}},
		{"a changed mode", func() error { return os.Chmod(other, 0o600) }, func() error { return os.Chmod(other, 0o644) },
			[]string{`"dir/below/other"`, "mode", "0600", "0644"}},
		{"a changed owner", func() error { return os.Chown(other, 1, 2) }, func() error { return os.Chown(other, 0, 0) },
			[]string{`"dir/below/other"`, "owner"}},
		{"an xattr", func() error { return unix.Setxattr(other, "user.x", []byte("y"), 0) }, func() error { return unix.Removexattr(other, "user.x") },
			[]string{`"dir/below/other"`, "user.x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dir, st unix.Stat_t
			lstat(t, spoilt.InReplica("dir"), &dir)
			lstat(t, spoilt.InReplica("dir/below"), &st)
			if err := tt.spoil(); err != nil {
				t.Fatal(err)
			}
			r := verify(t, c.Primary)
			for _, p := range r.Peers {
				differences := strings.Join(p.Differences, "\n")
				if p.Name != spoilt.Name {
					if len(p.Differences) > 0 {
						t.Errorf("%s is good, but: %s", p.Name, differences)
					}
					continue
				}
				if !p.Checked || len(p.Differences) == 0 {
					t.Errorf("nothing found: %+v", p)
				}
				t.Logf("found: %s", differences)
				says(t, differences, tt.parts...)
			}
			if err := tt.mend(); err != nil {
				t.Fatal(err)
			}
			restoreMtime(t, spoilt.InReplica("dir"), dir)
			restoreMtime(t, spoilt.InReplica("dir/below"), st)
		})
		// The mtime of the file itself was spoilt, too. Its owner sets it anew.
		for _, path := range []string{"dir/file", "dir/below/other"} {
			now := time.Unix(1_000_000_000, 0)
			if err := os.Chtimes(c.Primary.Path(path), now, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := verify(t, c.Primary); len(r.Peers) != 2 || len(r.Peers[1].Differences) != 0 {
		t.Errorf("after everything was mended: %+v", r)
	}
}

// TestVerifyWhileWritesGoOn must not see differences in what changes.
func TestVerifyWhileWritesGoOn(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 2, Mirroring: daemon.Mirroring{Sync: mirror.SyncBarrier}})
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			name := string(rune('a' + i%8))
			err := os.WriteFile(c.Primary.Path(name), []byte(strings.Repeat(name, i*977%200_000)), 0o644)
			if err == nil && i%3 == 0 {
				err = os.Rename(c.Primary.Path(name), c.Primary.Path("renamed"))
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 5 {
		for _, p := range verify(t, c.Primary).Peers {
			if !p.Checked || len(p.Differences) > 0 {
				t.Errorf("%+v", p)
			}
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestVerifyByItself waits for what a primary finds without being asked, and
// that a restart remembers it.
func TestVerifyByItself(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{VerifyEvery: 200 * time.Millisecond}})
	mustWrite(t, c.Primary, "file", strings.Repeat("0123456789abcdef", 8<<10))
	now := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(c.Primary.Path("file"), now, now); err != nil {
		t.Fatal(err)
	}
	equal := func(s admin.Status) bool {
		return s.LastVerify != nil && s.LastVerify.Equal() && s.LastVerify.Files == 1 && s.Verdict == admin.Healthy
	}
	c.Primary.Until("all are equal", equal)
	file := c.Mirrors[0].InReplica("file")
	var was unix.Stat_t
	lstat(t, file, &was)
	if err := poke(file, 100_000, '1'); err != nil {
		t.Fatal(err)
	}
	restoreMtime(t, file, was)
	s := c.Primary.Until("the flipped bit is found", func(s admin.Status) bool {
		return s.LastVerify != nil && !s.LastVerify.Equal() && s.Verdict == admin.Degraded
	})
	says(t, admin.VerifyText(s.LastVerify), "mirror1", `"file"`, "65536")
	says(t, s.Summary(), "verify")
	c.Primary.UntilEvent("that it is an event", func(e admin.Event) bool {
		return e.Kind == "verify" && strings.Contains(e.Text, "mirror1 differs in 1 place,")
	})
	if err := poke(file, 100_000, '0'); err != nil {
		t.Fatal(err)
	}
	restoreMtime(t, file, was)
	c.Primary.Until("all are equal again", equal)

	c.Primary.MustStop()
	last := c.Primary.Config.Mirror
	last.VerifyEvery = 7 * 24 * time.Hour
	c.Primary.Config.Mirror = last
	before := stateOf(t, c.Primary).LastVerify
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(1)
	if after := c.Primary.Status().LastVerify; after == nil || !after.Ended.Equal(before.Ended) {
		t.Errorf("after a restart the last verify is %+v, was %+v", after, before)
	}
}

// TestRates measures that a resync and a verify take the time that they are
// given, and are through in the end.
func TestRates(t *testing.T) {
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Mirroring: daemon.Mirroring{ResyncRate: 8 << 20, VerifyRate: 8 << 20}})
	const size = 12 << 20 // the first MiB is free
	mustWrite(t, c.Primary, "file", strings.Repeat("0123456789abcdef", size/16))
	began := time.Now()
	if r := verify(t, c.Primary); r.Bytes != size || len(r.Peers[0].Differences) > 0 {
		t.Errorf("%+v", r)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("a verify of %d bytes at 8 MiB/s took %v", size, took)
	}
	c.Mirrors[0].MustStop()
	for _, gone := range []string{c.Mirrors[0].StateDir, c.Mirrors[0].InReplica("file")} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	c.Mirrors[0].Start(daemon.Mirror)
	began = time.Now()
	c.Primary.Until("it is in resync", func(s admin.Status) bool { return s.Mirroring.Peers[0].State == mirror.StateResync })
	c.Primary.WaitInSync(1)
	if took := time.Since(began); took < time.Second {
		t.Errorf("a resync of %d bytes at 8 MiB/s took %v", size, took)
	}
}

func poke(path string, at int64, b byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{b}, at)
	return err
}

func lstat(t *testing.T, path string, st *unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
}

func restoreMtime(t *testing.T, path string, st unix.Stat_t) {
	t.Helper()
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatalf("times of %s: %v", path, err)
	}
}
