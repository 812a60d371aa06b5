package suites

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSyscalls runs libfuse's test_syscalls as root and as somebody else, with
// files that have names and, with -u, also with files that lost them.
func TestSyscalls(t *testing.T) {
	run := func(t *testing.T, p place) {
		// An ordinary user may not be able to reach it where it lies.
		program := filepath.Join(t.TempDir(), "test_syscalls")
		code, err := os.ReadFile(installed(t, "test_syscalls"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, code, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"root", "nobody"} {
			for _, unlinked := range [][]string{nil, {"-u"}} {
				args := append([]string{"--reuid", user, "--regid", "0", "--clear-groups", program, p.dir}, unlinked...)
				if out, code := p.program(t, time.Minute, "setpriv", args...); code != 0 {
					t.Errorf("as %s %v: exit code %d\n%s", user, unlinked, code, out)
				}
			}
		}
	}
	t.Run("ext4", func(t *testing.T) { run(t, plain(t)) })
	on(t, []kind{null, mirrored, barrier}, run)
}
