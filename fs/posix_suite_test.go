package fs_test

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"github.com/standbyfs/standbyfs/fs"
)

// TestPosixtest runs the cases that go-fuse has for its own file systems, and
// replays what they did.
func TestPosixtest(t *testing.T) {
	for name, run := range posixtest.All {
		if name == "FcntlFlockLocksFile" {
			continue // it wants fcntl(2) and flock(2) locks to exclude each other
		}
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			m := mount(t, r, fs.Options{Suid: true, Dev: true})
			r.over(m.tree)
			run(t, m.Dir)
			m.unmount(t)
			r.replay(t, m.Backing)
		})
	}
}
