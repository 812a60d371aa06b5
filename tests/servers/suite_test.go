package servers

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
)

var long = flag.Bool("long", os.Getenv("LONG") != "", "more of ZEO's test layers, and the suites on a mount without mirrors, too; also $LONG")

// ordinary is who runs the suites: they have tests that root would fail.
const ordinary = "nobody"

// suite is a selection of tests that a Python package installs with itself.
type suite struct {
	name  string
	args  []string // of zope.testrunner
	tests int      // how many there are
}

func suites() []suite {
	layers := []string{
		"BlobAdaptedFileStorageTests", "BlobWritableCacheTests", "ClientStorageNonSharedBlobsBlobTests", "ClientStorageSharedBlobsBlobTests",
		"FileStorageReconnectionTests",
	}
	tests := 275
	if *long {
		layers = append(layers, "FileStorageConnectionTests", "FileStorageInvqTests", "FileStorageSSLTests", "FileStorageTimeoutTests")
		tests += 133
	}
	return []suite{
		{"ZODB", []string{"-m", `^ZODB\.(tests\.(testFileStorage|testblob|testRecover)|scripts\.tests\.test_repozo)$`}, 586},
		{"ZEO", []string{"-s", "ZEO", "--layer", `\.(` + strings.Join(layers, "|") + `)( |$)`}, tests},
	}
}

// TestSuites runs what ZODB and ZEO test themselves by, on the mount. Every
// test passes that passes on the plain directory below.
func TestSuites(t *testing.T) {
	t.Run("two mirrors", func(t *testing.T) { runSuites(t, 2) })
	if *long {
		t.Run("no mirrors", func(t *testing.T) { runSuites(t, 0) })
	}
}

func runSuites(t *testing.T, mirrors int) {
	install(t)
	openUp(t)
	var m daemon.Mirroring
	if mirrors > 0 {
		m.MinInSync = 1
		m.Sync = []mirror.Level{mirror.SyncOp, mirror.SyncBarrier}[draw(t).IntN(2)]
		t.Logf("sync: %s", m.Sync)
	}
	c := harness.NewCluster(t, harness.Options{Mirrors: mirrors, Processes: true, Mirroring: m})
	for _, s := range suites() {
		began := time.Now()
		ran, failed := s.run(t, c.Primary.Path(s.name))
		t.Logf("%s: %d tests ran (%.1f s)", s.name, ran, time.Since(began).Seconds())
		if ran != s.tests {
			t.Errorf("%s: there are %d tests", s.name, s.tests)
		}
		if len(failed) == 0 {
			continue
		}
		_, below := s.run(t, filepath.Join(t.TempDir(), s.name))
		t.Logf("%s: %d tests failed on the mount, and %d on a plain directory", s.name, len(failed), len(below))
		for _, test := range failed {
			if !slices.Contains(below, test) {
				t.Errorf("%s: fails on the mount only: %s", s.name, test)
			}
		}
	}
}

var (
	ranTests   = regexp.MustCompile(`(?m)^ *Total: (\d+) tests`)
	failedTest = regexp.MustCompile(`(?m)^(?:Failure|Error) in test (.*)$`)
)

// run runs the suite with dir as its working and temporary directory, and
// returns how many tests ran and which failed.
func (s suite) run(t *testing.T, dir string) (ran int, failed []string) {
	t.Helper()
	who, err := user.Lookup(ordinary)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := mustNumber(t, who.Uid), mustNumber(t, who.Gid)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := python(t, ctx, append([]string{"-m", "zope.testrunner", "-v"}, s.args...))
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "HOME="+dir, "TMPDIR="+dir, "RUN_AS="+ordinary)
	out, err := cmd.CombinedOutput()
	for _, match := range failedTest.FindAllStringSubmatch(string(out), -1) {
		failed = append(failed, match[1])
	}
	total := ranTests.FindStringSubmatch(string(out))
	if total == nil || err != nil && len(failed) == 0 {
		t.Fatalf("%s: %v\n%s", s.name, err, out)
	}
	if len(failed) > 0 {
		t.Logf("%s in %s:\n%s", s.name, dir, out)
	}
	return mustNumber(t, total[1]), failed
}

func mustNumber(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inside is a shell script for the first process of a mount and a PID
// namespace. An ordinary user may not reach the interpreter, which may be
// root's own, or this project's directory. So both are mounted where he can,
// and the rest of the command line runs as him. Nothing of it is seen outside,
// and nothing outlives it.
const inside = `set -eu
mount --make-rprivate /
mount --bind "$BASE" "$AT/python"
mount --bind "$PACKAGES" "$AT/packages"
exec setpriv --reuid="$RUN_AS" --regid="$(id -g "$RUN_AS")" --clear-groups --no-new-privs "$AT/python/$PROGRAM" "$@"
`

// python returns a command that runs the interpreter behind build/venv, with
// the packages there, as the user that RUN_AS names.
func python(t *testing.T, ctx context.Context, args []string) *exec.Cmd {
	t.Helper()
	out, err := exec.Command(filepath.Join(root(t), "build/venv/bin/python"), "-c",
		"import os, sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('purelib'), os.path.relpath(os.path.realpath(sys.executable), sys.base_prefix), sep='\\n')").Output()
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	at := t.TempDir()
	for _, d := range []string{"python", "packages"} {
		if err := os.Mkdir(filepath.Join(at, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", inside, "sh"}, append(args, "--test-path="+filepath.Join(at, "packages"))...)...)
	cmd.Env = append(os.Environ(), "AT="+at, "BASE="+said[0], "PACKAGES="+said[1], "PROGRAM="+said[2],
		"LD_LIBRARY_PATH="+filepath.Join(at, "python/lib"), "PYTHONPATH="+filepath.Join(at, "packages"), "PYTHONDONTWRITEBYTECODE=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return cmd
}
