package harness

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/mountinfo"
	"golang.org/x/sys/unix"
)

// MountedAt returns the source of the uppermost mount at dir and whether there
// is one.
func MountedAt(t testing.TB, dir string) (source string, mounted bool) {
	t.Helper()
	mounts, err := mountinfo.At(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) == 0 {
		return "", false
	}
	return mounts[len(mounts)-1].Source, true
}

// mountsBelow returns the mount points at and below dir, the innermost first.
func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	mounts, err := mountinfo.Read()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range slices.Backward(mounts) {
		if m.Point == dir || strings.HasPrefix(m.Point, dir+"/") {
			found = append(found, m.Point)
		}
	}
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
