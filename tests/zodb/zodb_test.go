// Package zodb runs an unmodified ZEO server with a FileStorage and blobs on a
// mirrored mount, with real processes on every side, and kills them. What
// happens in a round is rounds.py, which shares its parts with the demo: the
// program under test is Python, and so are its clients and ZODB's own checks.
package zodb

import (
	"bufio"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

var (
	rounds = flag.Int("rounds", harness.Number("ROUNDS", 20), "how often something is killed; also $ROUNDS")
	seed   = flag.Int("seed", harness.Number("SEED", 0), "what is killed, and when; 0 draws one; also $SEED")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// After every kill and promotion every acknowledged commit is there, every blob
// record has its blob, fstest finds no error, the replicas are equal, and no
// client knows anything that the new server has lost.
func TestNothingAcknowledgedIsMissing(t *testing.T) {
	harness.NeedFUSE(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("make", "--silent", "-C", root, "venv").CombinedOutput(); err != nil {
		t.Fatalf("make venv: %v\n%s", err, out)
	}
	if *seed == 0 {
		*seed = 1 + rand.IntN(1_000_000)
	}
	t.Logf("SEED=%d ROUNDS=%d", *seed, *rounds)

	cmd := exec.Command(filepath.Join(root, "build/venv/bin/python"), "rounds.py", harness.Binary(t),
		"--rounds", strconv.Itoa(*rounds), "--seed", strconv.Itoa(*seed), "--logs", filepath.Join(root, "build/zodb-failure"))
	// If this test is killed or times out, the script ends what it has started.
	// The signal belongs to the thread that starts the process, so keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: again with SEED=%d ROUNDS=%d go test ./tests/zodb", err, *seed, *rounds)
	}
}
