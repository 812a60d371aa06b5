package exact

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

// Variables that make the test binary run a case, in a new directory. It is
// the child that makes it and goes there: this process may serve the mount, and
// a fork(2) that waits for its own mount could wait for ever.
const (
	caseEnv = "STANDBYFS_EXACT_CASE"
	dirEnv  = "STANDBYFS_EXACT_DIR"
	seedEnv = "STANDBYFS_EXACT_SEED"
)

// groups are all cases. A case leaves nothing open.
var groups = map[string]map[string]func(*tape){
	"mode":    modeCases,
	"open":    openCases,
	"data":    dataCases,
	"names":   nameCases,
	"rename":  renameCases,
	"lost":    lostCases,
	"times":   timeCases,
	"xattr":   xattrCases,
	"acl":     aclCases,
	"dir":     dirCases,
	"special": specialCases,
	"flags":   flagCases,
	"lock":    lockCases,
	"mmap":    mmapCases,
	"uring":   uringCases,
}

func TestMain(m *testing.M) {
	unix.Umask(0)
	if name := os.Getenv(caseEnv); name != "" {
		os.Exit(perform(name, os.Getenv(dirEnv)))
	}
	os.Exit(m.Run())
}

// perform runs a case in this process.
func perform(name, dir string) int {
	if child, ok := strings.CutPrefix(name, childGroup+"/"); ok {
		fmt.Fprintln(os.Stderr, hold(child))
		return 1
	}
	home := -1
	err := errors.Join(os.Mkdir(dir, 0o777), os.Chdir(dir))
	if err == nil {
		home, err = unix.Open(".", unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out := bufio.NewWriter(os.Stdout)
	t := &tape{out: out, home: home}
	group, name, _ := strings.Cut(name, "/")
	switch group {
	case "random":
		seed, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		random(t, map[string]int{"walk": plain, "locks": locked}[name], seed)
	case "full":
		fullCases[name](t)
	default:
		groups[group][name](t)
	}
	if err := out.Flush(); err != nil || t.err != nil {
		fmt.Fprintln(os.Stderr, err, t.err)
		return 1
	}
	return 0
}

// run runs a case in a process of its own and returns what it wrote.
func run(t *testing.T, dir, name string, seed uint64) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), caseEnv+"="+name, dirEnv+"="+dir, fmt.Sprintf("%s=%d", seedEnv, seed))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("case %s in %s: %v\n%s\n%s", name, dir, err, tail(string(out)), errs.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// compare runs a case in a plain directory and on mounts and tells where they
// part.
func compare(t *testing.T, plain string, places map[string]place, name string, seed uint64) {
	t.Helper()
	dir := strings.NewReplacer("/", "-", " ", "-").Replace(name)
	if seed != 0 {
		dir = fmt.Sprintf("%s-%d", dir, seed)
	}
	t.Cleanup(func() { unlock(t, plain) })
	want := run(t, filepath.Join(plain, dir), name, seed)
	for _, on := range slices.Sorted(maps.Keys(places)) {
		t.Run(on, func(t *testing.T) { equal(t, want, run(t, filepath.Join(string(places[on]), dir), name, seed)) })
	}
}

// equal tells in what the mount differs from what is below.
func equal(t *testing.T, want, got []string) {
	t.Helper()
	// Behind the first line that is on one side only the rest says nothing.
	differences := 0
	for i := range max(len(want), len(got)) {
		w, g := line(want, i), line(got, i)
		if w == g {
			continue
		}
		t.Errorf("line %d, behind\n\t%s\nbelow: %s\nmount: %s", i, strings.Join(want[max(0, i-6):min(i, len(want))], "\n\t"), w, g)
		wCall, _, _ := strings.Cut(w, ":")
		gCall, _, _ := strings.Cut(g, ":")
		if differences++; differences > 5 || wCall != gCall {
			t.Fatal("and what follows")
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// place is the mount point of a mount under test.
type place string

// mirrored mounts a primary with two mirrors, which have to equal it when the
// test ends.
func mirrored(t *testing.T, o harness.Options) place {
	t.Helper()
	harness.NeedFUSE(t)
	all := filepath.Dir(t.TempDir())
	t.Cleanup(func() { unlock(t, all) }) // when replicas are compared, before they are removed
	o.Mirrors, o.Manual = 2, true
	c := harness.NewCluster(t, o)
	c.Primary.Config.Suid, c.Primary.Config.Dev = true, true
	for _, m := range c.Mirrors {
		m.Start(daemon.Mirror)
	}
	c.Primary.Start(daemon.Primary)
	c.Primary.WaitInSync(2)
	t.Cleanup(func() {
		for _, p := range c.Primary.Status().Mirroring.Peers {
			if !p.InSync || p.Resyncs != 1 {
				t.Errorf("mirror %s: in sync %t after %d resyncs: it must never have left", p.Name, p.InSync, p.Resyncs)
			}
		}
	})
	for d := c.Primary.Mountpoint; d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(d) == os.TempDir() {
			break
		}
	}
	return place(c.Primary.Mountpoint)
}

// unlock clears the inode flags by which a case has kept things from being
// removed.
func unlock(t *testing.T, dir string) {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil // too deep for a path
		}
		defer unix.Close(fd)
		have, err := getFlags(fd)
		if err == nil && have&(flagAppend|flagImmutable) != 0 {
			err = setFlags(fd, have&^(flagAppend|flagImmutable))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// public returns a new directory that every user may reach.
func public(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mounts(t *testing.T) map[string]place {
	// The one that is mounted first ends last, and looks for goroutines of both.
	first := mirrored(t, harness.Options{})
	_, null, _ := harness.Passthrough(t, public(t))
	return map[string]place{"mirrored": first, "null": place(null)}
}

func TestCases(t *testing.T) {
	places := mounts(t)
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		for _, name := range slices.Sorted(maps.Keys(groups[group])) {
			name = group + "/" + name
			t.Run(name, func(t *testing.T) {
				if group == "uring" {
					needRing(t)
				}
				compare(t, public(t), places, name, 0)
			})
		}
	}
}

// TestRandom compares random sequences. SEED repeats one, ROUNDS makes more.
func TestRandom(t *testing.T) {
	places := mounts(t)
	for _, kind := range []string{"walk", "locks"} {
		t.Run(kind, func(t *testing.T) {
			seed.Each(t, 4, func(t *testing.T, seed uint64) { compare(t, public(t), places, "random/"+kind, seed) })
		})
	}
}
