package suites

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// pjdfstestConfig says what ext4 has and which users there are on every Debian.
const pjdfstestConfig = `
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "/dev/shm"
[settings]
naptime = 0.01
allow_remount = %t
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
`

var (
	colour  = regexp.MustCompile("\x1b\\[[0-9;]*m")
	skipped = regexp.MustCompile(`(?m)^(\S+) +skipped$`)
	inErofs = regexp.MustCompile(`::erofs_`)
)

// TestPjdfstest runs the crate of that name. It must skip nothing that it does
// not skip on ext4, but for one thing that it asks of the C library and not of
// the file system: how many links a file may have, which that library derives
// from the type of the file system. Package fs tests that.
func TestPjdfstest(t *testing.T) {
	t.Run("ext4", func(t *testing.T) { pjdfstest(t, plain(t)) })
	on(t, []kind{null, mirrored, barrier}, func(t *testing.T, p place) { pjdfstest(t, p, "link::link_count_max") })
}

// pjdfstest runs it in two parts. The cases that remount the file system come
// first: others leave files open that have no name, and no file system turns
// read-only then.
func pjdfstest(t *testing.T, p place, skips ...string) {
	t.Helper()
	for _, part := range []struct {
		remount bool
		pattern []string
		skips   func(name string) bool
		atLeast int
	}{
		{true, []string{"erofs"}, func(string) bool { return false }, 13},
		{false, nil, func(name string) bool {
			return slices.Contains(skips, name) || inErofs.MatchString(name)
		}, 380},
	} {
		config := filepath.Join(t.TempDir(), "pjdfstest.toml")
		if err := os.WriteFile(config, fmt.Appendf(nil, pjdfstestConfig, part.remount), 0o644); err != nil {
			t.Fatal(err)
		}
		out, code := p.program(t, 5*time.Minute, installed(t, "pjdfstest"), append([]string{"-c", config, "-p", p.dir}, part.pattern...)...)
		out = colour.ReplaceAllString(out, "")
		for _, m := range skipped.FindAllStringSubmatch(out, -1) {
			if !part.skips(m[1]) {
				t.Errorf("%s is skipped", m[1])
			}
		}
		var failed, skipped, passed, expected int
		text := out[max(0, strings.Index(out, "Summary:")):]
		fmt.Sscanf(text, "Summary: %d failed, %d skipped, %d passed, %d expected", &failed, &skipped, &passed, &expected)
		if code != 0 || failed > 0 || expected > 0 || passed < part.atLeast {
			t.Errorf("exit code %d\n%s", code, out)
		}
		t.Logf("%d passed, %d skipped", passed, skipped)
	}
}
