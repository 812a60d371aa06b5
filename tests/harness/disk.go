package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a small file system of its own.
type Disk struct {
	Dir   string
	t     testing.TB
	image string
}

// ReflinkDisks are the kinds of file systems whose files can share data. An XFS
// needs 300 MiB at least, a btrfs 110; only what is written takes space.
var ReflinkDisks = []string{"xfs", "btrfs"}

// NewDisk makes an ext4 file system of so many bytes in an image file and
// mounts it at dir until the test ends. The test must have stopped what uses it
// by then.
func NewDisk(t testing.TB, dir string, size int64) *Disk {
	t.Helper()
	d := newDisk(t, dir, size, "mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro")
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	return d
}

// NewReflinkDisk is NewDisk for a file system of one of the kinds ReflinkDisks.
// Without its program the test is skipped, but not on CI.
func NewReflinkDisk(t testing.TB, dir, kind string, size int64) *Disk {
	t.Helper()
	if _, err := exec.LookPath("mkfs." + kind); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must have mkfs.%s: %v", kind, err)
		}
		t.Skipf("no mkfs.%s here (`make test` installs it): %v", kind, err)
	}
	return newDisk(t, dir, size, "mkfs."+kind, "-q")
}

// newDisk makes a file system by a command to which the image file is added.
func newDisk(t testing.TB, dir string, size int64, mkfs string, options ...string) *Disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	run(mkfs, append(options, image)...)
	run("mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting the disk at %s: %v", dir, err)
		}
	})
	return &Disk{Dir: dir, t: t, image: image}
}

// Rot flips a bit of what the disk holds, past the file system: in the one place
// where content is found.
func (d *Disk) Rot(content []byte) {
	d.t.Helper()
	all, err := os.ReadFile(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	at := bytes.Index(all, content)
	if at < 0 || bytes.Contains(all[at+1:], content) {
		d.t.Fatalf("the disk does not hold %.20q... just once (first at %d)", content, at)
	}
	f, err := os.OpenFile(d.image, os.O_WRONLY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{content[0] ^ 1}, int64(at)); err != nil {
		d.t.Fatal(err)
	}
}

// Fail makes the file system give up as it does after an error of its disk: it
// turns read-only for good, under all open files.
func (d *Disk) Fail() {
	d.t.Helper()
	if err := unix.Mount("", d.Dir, "", unix.MS_REMOUNT, "abort"); err != nil {
		d.t.Fatalf("aborting the journal of %s: %v", d.Dir, err)
	}
}

// Fill writes a file until the disk is full, so that but a few of its bytes
// are left, and returns its path.
func (d *Disk) Fill() string {
	d.t.Helper()
	path := filepath.Join(d.Dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1<<10; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Sync(); err != nil {
		d.t.Fatal(err)
	}
	return path
}
