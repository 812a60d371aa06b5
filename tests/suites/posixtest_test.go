package suites

import (
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// TestPosixtest runs the cases that go-fuse has for its own file systems on
// mounts with mirrors. Package fs runs them on the null Committer.
func TestPosixtest(t *testing.T) {
	on(t, []kind{mirrored, barrier}, func(t *testing.T, p place) {
		for name, run := range posixtest.All {
			if name == "FcntlFlockLocksFile" {
				continue // it wants fcntl(2) and flock(2) locks to exclude each other
			}
			dir := filepath.Join(p.dir, name)
			mkdir(t, dir)
			t.Run(name, func(t *testing.T) { run(t, dir) })
		}
	})
}
