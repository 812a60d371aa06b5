package suites

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// notHere are stressors of the class filesystem that say nothing of a mount of
// ours, and why.
var notHere = map[string]string{
	"bind-mount": "mounts what it likes anywhere in the machine",
	"binderfs":   "mounts a file system of its own",
	"eventfd":    "uses no file",
	"ioprio":     "uses no file",
	"procfs":     "reads /proc only",
	"fiemap":     "the kernel does not pass FS_IOC_FIEMAP to FUSE servers",
	"verity":     "the kernel does not pass fs-verity's ioctls to FUSE servers",
	"dup":        "uses /dev/null and pipes only",
}

// complaints are what stress-ng says of a check that failed or was left out.
var complaints = regexp.MustCompile(`(?m)\b(fail|error): .*$|.*skipping stress.*$`)

// TestStress runs every stressor of stress-ng's class of file systems, with
// its own checks on. What fails on a mount and on ext4 as well is only said.
func TestStress(t *testing.T) {
	on(t, []kind{null, mirrored}, func(t *testing.T, p place) {
		for _, name := range stressors(t) {
			var out string
			var ok bool
			p.verified(t, func() { out, ok = stress(t, p, name) })
			if ok {
				continue
			}
			t.Run(name, func(t *testing.T) {
				if _, ok := stress(t, plain(t), name); !ok {
					t.Skipf("%s: fails on ext4, too", name)
				}
				t.Errorf("%s: passes on ext4, and not here:\n%s", name, out)
			})
		}
	})
}

// stressors returns the class's members but those that are not for here.
func stressors(t *testing.T) []string {
	t.Helper()
	// It prints the list and ends as if that were a mistake.
	out, _ := exec.Command("stress-ng", "--class", "filesystem?").CombinedOutput()
	_, list, ok := strings.Cut(string(out), "stressors:")
	if !ok {
		t.Fatalf("stress-ng does not say what stressors it has:\n%s", out)
	}
	names := slices.DeleteFunc(strings.Fields(list), func(name string) bool { return notHere[name] != "" })
	if len(names) < 30 {
		t.Fatalf("stress-ng knows only %q", names)
	}
	return names
}

// stress runs one stressor, twice at once, and reports whether it was content.
func stress(t *testing.T, p place, name string) (output string, ok bool) {
	t.Helper()
	dir := filepath.Join(p.dir, name)
	mkdir(t, dir)
	seconds := 2 * *times
	out, code := p.program(t, time.Duration(seconds)*time.Second+2*time.Minute, "stress-ng", "--"+name, "2", "--verify",
		"--temp-path", dir, "--timeout", fmt.Sprint(seconds), "--seed", strconv.Itoa(len(name)), "--metrics-brief")
	complaint := complaints.FindString(out)
	if name == "chattr" {
		// If its time is up while its file is immutable it cannot remove it, on ext4
		// neither (stress-chattr.c, tidy_fdw).
		if out, err := exec.Command("sh", "-c", `chattr -R -f -ia "$1"; rm -r -f "$1"/*`, "sh", dir).CombinedOutput(); err != nil {
			t.Fatalf("removing what chattr leaves: %v: %s", err, out)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("exit code %d, %d files left behind\n%s", code, len(left), out), code == 0 && complaint == "" && len(left) == 0
}
