package harness

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// Passthrough mounts dir/replica on dir/mount with the null Committer until the
// test ends. The returned function unmounts it earlier.
func Passthrough(t *testing.T, dir string) (replica, mountpoint string, unmount func()) {
	t.Helper()
	NeedFUSE(t)
	replica, mountpoint = filepath.Join(dir, "replica"), filepath.Join(dir, "mount")
	for _, d := range []string{replica, mountpoint} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := tree.Open(replica)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.New(files, fs.Null{}, fs.Options{Name: replica, Alone: true, Suid: true, Dev: true, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Mount(mountpoint)
	if err != nil {
		t.Fatal(err)
	}
	unmounted := false
	unmount = func() {
		if unmounted {
			return
		}
		unmounted = true
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if lazy, err := m.Unmount(ctx); err != nil || lazy {
			t.Errorf("unmount: lazy %t, %v", lazy, err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("closing the mount: %v", err)
		}
		files.Close()
	}
	t.Cleanup(func() {
		unmount()
		NoMountsLeft(t, dir)
	})
	return replica, mountpoint, unmount
}
