package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Drive is an ext4 file system on a drive of its own, which may lose power.
type Drive struct {
	*server
	Dir     string // where it is mounted
	platter string
	point   string // where its drive is served
	on      bool
}

// NewDrive makes a drive of so many bytes with a file system on it, and mounts
// that at dir until the test ends. The test must have stopped what uses it by
// then.
func NewDrive(t testing.TB, dir string, size int64) *Drive {
	t.Helper()
	at := t.TempDir()
	d := &Drive{Dir: dir, platter: filepath.Join(at, "platter"), point: filepath.Join(at, "served")}
	for _, dir := range []string{dir, d.point} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.platter, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.platter, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-e", "remount-ro", d.platter).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	d.server = &server{t: t}
	if err := d.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.on {
			d.Off()
		}
	})
	return d
}

// PowerOn starts the drive and mounts its file system, whose journal is
// replayed if the power was cut. It fails on a drive that has lied.
func (d *Drive) PowerOn() error {
	d.t.Helper()
	d.server = startServer(d.t, "drive", d.platter, d.point, d.Dir)
	out, err := exec.Command("mount", "-o", "loop", filepath.Join(d.point, driveFile), d.Dir).CombinedOutput()
	if err != nil {
		d.stop()
		return fmt.Errorf("mount %s: %w\n%s", d.Dir, err, out)
	}
	d.on = true
	return nil
}

// Cut takes the power away and decides by the seed what the drive keeps. Whoever
// waits for the drive waits until Dead: the test kills what ran on this machine
// in between, so that nobody sees an error that a machine without power cannot
// see.
func (d *Drive) Cut(seed uint64) {
	d.t.Helper()
	d.t.Logf("%s: power cut, %s", d.Dir, d.tell(fmt.Sprintf("cut %d", seed)))
}

// Dead ends what the machine has left behind: nothing runs on it any more, or
// does so as soon as the drive does not hold it up.
func (d *Drive) Dead() {
	d.t.Helper()
	d.tell("release")
}

// Off takes the file system away, dead or not. After it PowerOn may come.
func (d *Drive) Off() {
	d.t.Helper()
	d.on = false
	// What was killed lets go of its files in its own time.
	deadline := time.Now().Add(time.Minute)
	err := unix.Unmount(d.Dir, 0)
	for err != nil && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
		err = unix.Unmount(d.Dir, 0)
	}
	if err != nil {
		d.t.Errorf("unmounting the drive at %s: %v", d.Dir, err)
		_ = unix.Unmount(d.Dir, unix.MNT_DETACH)
	}
	d.stop()
}

// Break makes the drive fail calls, read or write, wherever the file at path
// lies on it now. The test must have synced the file.
func (d *Drive) Break(call, path string) {
	d.t.Helper()
	var rules Plan
	for _, e := range extents(d.t, path) {
		rules = append(rules, Rule{Call: call, From: e.from, To: e.to, Errno: unix.EIO})
	}
	if len(rules) == 0 {
		d.t.Fatalf("%s lies nowhere", path)
	}
	d.Plan(rules.String())
}

// stretch is a range of a drive's bytes.
type stretch struct{ from, to int64 }

// extents asks where a file lies (FS_IOC_FIEMAP).
func extents(t testing.TB, path string) []stretch {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const request, most = 0xc020660b, 64
	var ask struct {
		start, length                 uint64
		flags, mapped, count, reserve uint32
		extents                       [most]struct {
			logical, physical, length uint64
			_                         [2]uint64
			flags                     uint32
			_                         [3]uint32
		}
	}
	ask.length, ask.count = 1<<63, most
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&ask))); errno != 0 {
		t.Fatalf("where %s lies: %v", path, errno)
	}
	var all []stretch
	for _, e := range ask.extents[:ask.mapped] {
		all = append(all, stretch{int64(e.physical), int64(e.physical + e.length)})
	}
	return all
}
