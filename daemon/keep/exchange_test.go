package keep

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// exchanging is a mirror in mid-resync that does not run, with a consistent state
// beside its replica.
type exchanging struct{ dir string }

func (e exchanging) replica() string { return filepath.Join(e.dir, "replica") }
func (e exchanging) state() string   { return filepath.Join(e.dir, "state") }

var keptAsOf = time.Date(2026, 11, 27, 10, 32, 5, 0, time.UTC)

func newExchanging(t *testing.T) exchanging {
	t.Helper()
	e := exchanging{t.TempDir()}
	makeContent(t, e.replica(), "mixed", 0o750)
	s := openStore(t, e.state())
	makeContent(t, filepath.Join(e.state(), keptDir), "consistent", 0o711)
	err := s.Update(func(st *state.State) error {
		st.Volume, st.Role, st.Reason, st.Mixed = "v", state.Mirror, "resync with a", true
		st.Kept = &state.Kept{AsOf: keptAsOf, Made: keptAsOf, Objects: 9}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// It was level with node 7 once.
	if err := s.Level([]op.NodeID{7}, func(*state.State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	return e
}

// makeContent makes a tree that is the same for the same text.
func makeContent(t *testing.T, dir, text string, mode os.FileMode) {
	t.Helper()
	makeDirs(t, filepath.Join(dir, "dir", "deeper"), filepath.Join(dir, "only "+text))
	for _, name := range []string{"file", "dir/file", "dir/deeper/" + text, "only " + text + "/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+" "+name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "dir", "linked")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir, "user.text", []byte(text), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(int64(len(text)), 5)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, when, when))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run exchanges, or finishes an exchange, and calls step before each step.
func (e exchanging) run(step func(string)) error {
	s, err := state.Open(e.state())
	if err != nil {
		return err
	}
	defer s.Close()
	tr, err := tree.Open(e.replica())
	if err != nil {
		return err
	}
	defer tr.Close()
	k := New(Auto, s, tr, quiet, func(string, string) {})
	k.step = step
	defer k.Close()
	if s.Get().Mixed && s.Get().Exchange == nil {
		_, err = k.Exchange(keptAsOf.Add(time.Hour))
		return err
	}
	return k.Finish()
}

// check returns an error unless the exchange is whole.
func (e exchanging) check(t *testing.T) {
	t.Helper()
	consistent, mixed := filepath.Join(e.dir, "consistent"), filepath.Join(e.dir, "mixed")
	makeContent(t, consistent, "consistent", 0o711)
	makeContent(t, mixed, "mixed", 0o700)
	sameTree(t, e.replica(), consistent)
	aside := filepath.Join(e.state(), "mixed-20261127T113205Z")
	for _, name := range []string{"dir", "file", "only mixed"} {
		sameTreeBelow(t, aside, mixed, name)
	}
	s := openStore(t, e.state())
	defer closeStore(t, s)
	st := s.Get()
	if st.Mixed || st.Kept != nil || st.Exchange != nil || st.InSync || !st.AsOf.Equal(keptAsOf) {
		t.Errorf("the state is %+v", st)
	}
	if m := s.Regions().Suspect(7); len(m) != 1 || m[0] != region.Everything {
		t.Errorf("of a node that it was level with before, this is compared: %v", m)
	}
}

// sameTree compares all of two trees.
func sameTree(t *testing.T, a, b string) {
	t.Helper()
	ta, tb := openedTree(t, a), openedTree(t, b)
	if differ, err := tree.Diff(ta, tb); err != nil || len(differ) > 0 {
		t.Errorf("%s and %s differ: %q, %v", a, b, differ, err)
	}
}

// sameTreeBelow compares what has one name in both.
func sameTreeBelow(t *testing.T, a, b, name string) {
	t.Helper()
	if st, err := os.Stat(filepath.Join(b, name)); err == nil && st.IsDir() {
		sameTree(t, filepath.Join(a, name), filepath.Join(b, name))
		return
	}
	x, err := os.ReadFile(filepath.Join(a, name))
	y, err2 := os.ReadFile(filepath.Join(b, name))
	if err != nil || err2 != nil || string(x) != string(y) {
		t.Errorf("%s: %q and %q, %v, %v", name, x, y, err, err2)
	}
}

func openedTree(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

const exchangeEnv = "TEST_EXCHANGE" // DIR:STEP of the child

// TestExchangeSurvivesKills kills the process that exchanges before each of its
// steps, and the one that finishes it before one of the first: the next start
// makes it whole.
func TestExchangeSurvivesKills(t *testing.T) {
	if job := os.Getenv(exchangeEnv); job != "" {
		exchangeAndDie(t, job)
		return
	}
	for _, again := range []int{0, 1, 3} {
		for n := 1; ; n++ {
			e := newExchanging(t)
			killed := e.child(t, n)
			if killed && again > 0 {
				e.child(t, again)
			}
			if err := e.run(nil); err != nil {
				t.Fatal(err)
			}
			e.check(t)
			if t.Failed() {
				t.Fatalf("killed before step %d, then before step %d", n, again)
			}
			if !killed {
				if n < 10 {
					t.Fatalf("there were %d steps only", n)
				}
				break
			}
		}
	}
}

// child exchanges in a process that kills itself before its n-th step, and
// reports whether there was one.
func (e exchanging) child(t *testing.T, n int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestExchangeSurvivesKills$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", exchangeEnv, e.dir, n))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ProcessState.String() != "signal: killed" {
		t.Fatalf("the child: %v\n%s", err, out)
	}
	return true
}

func exchangeAndDie(t *testing.T, job string) {
	t.Helper()
	dir, step, _ := strings.Cut(job, ":")
	n, err := strconv.Atoi(step)
	if err != nil {
		t.Fatal(err)
	}
	err = exchanging{dir}.run(func(string) {
		if n--; n == 0 {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestExchangeWithoutKept refuses before anything is changed.
func TestExchangeWithoutKept(t *testing.T) {
	e := newExchanging(t)
	if err := os.RemoveAll(filepath.Join(e.state(), keptDir)); err != nil {
		t.Fatal(err)
	}
	if err := e.run(nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "--take mixed") {
		t.Errorf("exchange with what is gone: %v", err)
	}
	mixed := filepath.Join(e.dir, "mixed")
	makeContent(t, mixed, "mixed", 0o750)
	sameTree(t, e.replica(), mixed)
}
