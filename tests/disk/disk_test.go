package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// driveSize is small and has room for a journal.
const driveSize = 32 << 20

// put writes a file and, if it is to be durable, syncs it and its directory.
func put(t *testing.T, path, text string, durable bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if !durable {
		return
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := errors.Join(f.Sync(), dir.Sync()); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut loses what was not synced, in some runs, and never what was.
func TestPowerCut(t *testing.T) {
	d := NewDrive(t, filepath.Join(t.TempDir(), "disk"), driveSize)
	lost, kept := 0, 0
	for round := range 12 {
		name := func(kind string) string { return filepath.Join(d.Dir, fmt.Sprintf("%s-%d", kind, round)) }
		put(t, name("synced"), "text", true)
		put(t, name("written"), "old", true)
		overwrite(t, name("written"), "new")
		put(t, name("made"), "text", false)
		d.Cut(uint64(round))
		d.Dead()
		d.Off()
		if err := d.PowerOn(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name("synced")); err != nil || string(got) != "text" {
			t.Fatalf("round %d: what was synced is %q, %v", round, got, err)
		}
		if got, err := os.ReadFile(name("made")); err == nil && len(bytes.Trim(got, "\x00")) > 0 && string(got) != "text" {
			t.Errorf("round %d: what was made is %q", round, got)
		}
		switch got, err := os.ReadFile(name("written")); {
		case err == nil && string(got) == "old":
			lost++
		case err == nil && string(got) == "new":
			kept++
		default:
			t.Errorf("round %d: what was overwritten is %q, %v", round, got, err)
		}
	}
	t.Logf("of what was not synced %d were lost, %d kept", lost, kept)
	if lost == 0 || kept == 0 {
		t.Error("a cut makes no choice")
	}
}

// TestLyingDrive answers flushes that it does not do: a cut loses what was
// synced, or the test above proves nothing.
func TestLyingDrive(t *testing.T) {
	lost := false
	for seed := uint64(0); seed < 20 && !lost; seed++ {
		d := NewDrive(t, filepath.Join(t.TempDir(), "disk"), driveSize)
		d.Plan("flush: OK")
		name := filepath.Join(d.Dir, "file")
		put(t, name, "synced", true)
		d.Cut(seed)
		d.Dead()
		d.Off()
		if d.PowerOn() != nil {
			return // even the file system is lost
		}
		got, err := os.ReadFile(name)
		lost = err != nil || string(got) != "synced"
	}
	if !lost {
		t.Error("nothing is ever lost")
	}
}

// TestBadSectors makes the kernel's own fsync fail, once, as on a disk that
// cannot write what the page cache has.
func TestBadSectors(t *testing.T) {
	d := NewDrive(t, filepath.Join(t.TempDir(), "disk"), driveSize)
	path := filepath.Join(d.Dir, "file")
	put(t, path, "first", true)
	d.Break("write", path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("other"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync on bad sectors: %v, want %v", err, syscall.EIO)
	}
	if d.Hits() == 0 {
		t.Error("no write has failed")
	}
	// This is why an fsync that failed is final.
	if err := f.Sync(); err != nil {
		t.Errorf("the fsync after it: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "other" {
		t.Errorf("the page cache holds %q, %v", got, err)
	}
	d.Plan("")
}

func TestLayer(t *testing.T) {
	l := NewLayer(t, filepath.Join(t.TempDir(), "layer"))
	path := filepath.Join(l.Dir, "file")
	put(t, path, "text", true)
	for _, tt := range []struct {
		plan string
		call func() error
		want error
	}{
		{"open of file: EIO", func() error { _, err := os.ReadFile(path); return err }, syscall.EIO},
		{"create: ENOSPC", func() error { return os.WriteFile(path+"2", nil, 0o644) }, syscall.ENOSPC},
		{"write: ENOSPC", func() error { return os.WriteFile(path, []byte("x"), 0o644) }, syscall.ENOSPC},
		{"fsync: EIO", func() error { f, _ := os.Open(path); defer f.Close(); return f.Sync() }, syscall.EIO},
		{"rename: EIO", func() error { return os.Rename(path, path+"3") }, syscall.EIO},
		{"mkdir: EROFS", func() error { return os.Mkdir(path+"4", 0o755) }, syscall.EROFS},
		{"unlink: EIO", func() error { return os.Remove(path) }, syscall.EIO},
		{"setattr: EIO", func() error { return os.Chmod(path, 0o600) }, syscall.EIO},
	} {
		l.Plan(tt.plan)
		if err := tt.call(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.plan, err)
		}
		if l.Hits() == 0 {
			t.Errorf("%s: nothing has failed", tt.plan)
		}
		l.Plan("")
		if err := tt.call(); errors.Is(err, tt.want) {
			t.Errorf("%s: and without the plan %v", tt.plan, err)
		}
		put(t, path, "text", true)
	}
}

// overwrite writes into a file and has the kernel hand that to the drive,
// without a flush.
func overwrite(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(f.Fd()), 0, 0, all); err != nil {
		t.Fatal(err)
	}
}
