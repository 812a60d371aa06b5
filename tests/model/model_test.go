package model

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// A failing run prints how to repeat it with these.
var (
	seedFlag  = flag.Uint64("seed", 0, "run just the sequence of this seed")
	seedsFlag = flag.Int("seeds", 0, "run so many sequences instead of each test's own number")
	opsFlag   = flag.Int("ops", 600, "steps in a sequence")
	keepFlag  = flag.String("keep", "", "run just the steps with these indices, separated by commas")
)

func TestMain(m *testing.M) {
	Member()
	holder()
	harness.NoUmask()
	os.Exit(m.Run())
}

// seeds returns the seeds to run: as many as asked for, new ones every day of
// the year and the same ones all day, so that a failure can be looked into.
func seeds(t *testing.T, number int) []uint64 {
	t.Helper()
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	if *seedsFlag != 0 {
		number = *seedsFlag
	}
	first := uint64(time.Now().YearDay()) * 1000
	out := make([]uint64, number)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

// options returns what the sequence of a seed is made of. Every other one
// reserves space.
func options(seed uint64) Options {
	return Options{Huge: true, Unwritten: seed%2 == 1, Crew: true}
}

// sequence generates the steps of a seed, or those of them that -keep names.
func sequence(t *testing.T, seed uint64, o Options) []Step {
	t.Helper()
	steps := Generate(seed, *opsFlag, o)
	if *keepFlag == "" {
		return steps
	}
	var keep []int
	for text := range strings.SplitSeq(*keepFlag, ",") {
		i, err := strconv.Atoi(text)
		if err != nil || i < 0 || i >= len(steps) {
			t.Fatalf("-keep: %q is not the index of a step", text)
		}
		keep = append(keep, i)
	}
	return Select(steps, keep)
}

// arena makes pairs of empty directories for one run after the other: one
// under plain, one of the same name under judged.
type arena struct {
	plain, judged string
	made          int
}

// reachable lets every user reach what lies below the test's directories: not
// every process of a crew is root.
func reachable(t *testing.T) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(t.TempDir()), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (a *arena) pair(t *testing.T) (plain, judged string) {
	t.Helper()
	a.made++
	reachable(t)
	name := fmt.Sprintf("run%d", a.made)
	for _, dir := range []string{a.plain, a.judged} {
		if err := unix.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatalf("mkdir %s/%s: %v", dir, name, err)
		}
	}
	return filepath.Join(a.plain, name), filepath.Join(a.judged, name)
}

// run runs the sequence of a seed and fails the test, with the shortest
// sequence found that fails too, if it behaves differently.
func (a *arena) run(t *testing.T, seed uint64, o Options, between func(i int)) {
	t.Helper()
	steps := sequence(t, seed, o)
	plain, judged := a.pair(t)
	m, err := Run(steps, plain, judged, o, between)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if m == nil {
		return
	}
	t.Errorf("seed %d, %d steps: %s", seed, len(steps), m)
	if *keepFlag != "" || between != nil {
		t.FailNow()
	}
	last := m
	keep := Shrink(steps[:m.Index+1], 20*time.Second, func(some []Step) bool {
		plain, judged := a.pair(t)
		m, err := Run(some, plain, judged, o, nil)
		if m != nil {
			last = m
		}
		return m != nil && err == nil
	})
	var text strings.Builder
	indices := make([]string, len(keep))
	for i, k := range keep {
		indices[i] = strconv.Itoa(k)
		fmt.Fprintf(&text, "\t%4d %s\n", k, steps[k])
	}
	t.Fatalf("shortest found: -run '^%s$' -seed %d -ops %d -keep %s\n%s%s",
		strings.Split(t.Name(), "/")[0], seed, *opsFlag, strings.Join(indices, ","), text.String(), last)
}

// TestPlain runs the model against itself: it must not find differences where
// there are none.
func TestPlain(t *testing.T) {
	for _, seed := range seeds(t, 4) {
		a := arena{plain: t.TempDir(), judged: t.TempDir()}
		a.run(t, seed, options(seed), nil)
	}
}

// TestFindsAndShrinks breaks one directory in the middle of a run: the run must
// find it, and shrinking must leave few steps.
func TestFindsAndShrinks(t *testing.T) {
	steps := Generate(1, 300, Options{})
	a := arena{plain: t.TempDir(), judged: t.TempDir()}
	broken := func(steps []Step) *Mismatch {
		plain, judged := a.pair(t)
		m, err := Run(steps, plain, judged, Options{}, func(int) {
			// Somebody makes every directory of the judged tree world-writable.
			filepath.WalkDir(judged, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() && path != judged {
					return os.Chmod(path, 0o777)
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if broken(steps) == nil {
		t.Fatal("the difference is not found")
	}
	keep := Shrink(steps, 10*time.Second, func(some []Step) bool { return broken(some) != nil })
	if len(keep) > 2 {
		t.Errorf("%d steps are left of a failure that needs one mkdir and one look", len(keep))
	}
}
