package harness

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// MountedAt returns the source of the uppermost mount at dir and whether there
// is one.
func MountedAt(t testing.TB, dir string) (source string, mounted bool) {
	t.Helper()
	eachMount(t, func(at, from string) {
		if at == dir {
			source, mounted = from, true
		}
	})
	return source, mounted
}

// mountsBelow returns the mount points at and below dir, the innermost first.
func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	eachMount(t, func(at, _ string) {
		if at == dir || strings.HasPrefix(at, dir+"/") {
			found = append([]string{at}, found...)
		}
	})
	return found
}

// NoMountsLeft reports every mount below dir as an error and detaches it, so
// that the test's directory can be removed.
func NoMountsLeft(t testing.TB, dir string) {
	t.Helper()
	for _, at := range mountsBelow(t, dir) {
		t.Errorf("a mount is left at %s", at)
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("detaching %s: %v", at, err)
		}
	}
}

// eachMount calls fn with the mount point and the source of each mount of this
// process, in the order of mounting.
func eachMount(t testing.TB, fn func(at, source string)) {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Blanks and the like in paths are written as octal escapes.
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(tail) < 2 {
			t.Fatalf("mountinfo line %q is not understood", lines.Text())
		}
		fn(plain.Replace(fields[4]), plain.Replace(tail[1]))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// NeedFUSE skips the test where there is no /dev/fuse, but never on CI.
func NeedFUSE(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must have FUSE: %v", err)
		}
		t.Skipf("no FUSE here: %v", err)
	}
}
