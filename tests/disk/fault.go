package disk

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Layer is a directory whose system calls fail by plan.
type Layer struct {
	*server
	Dir string
}

// NewLayer mounts a layer at dir, over a directory of its own, until the test
// ends. The test must have stopped what uses it by then.
func NewLayer(t testing.TB, dir string) *Layer {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &Layer{server: startServer(t, "calls", t.TempDir(), dir), Dir: dir}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting the layer at %s: %v", dir, err)
		}
		l.stop()
	})
	return l
}
