package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func appendTwice(t *testing.T, dir string) {
	a, err := os.OpenFile(dir+"/f", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	defer a.Close()
	b, err := os.OpenFile(dir+"/f", os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	defer b.Close()
	var all string
	for i := range 20 {
		f := a
		if i%2 == 1 {
			f = b
		}
		s := fmt.Sprintf("line %d\n", i)
		_, err := f.WriteString(s)
		must(t, err)
		all += s
	}
	if got := read(t, dir+"/f"); got != all {
		t.Errorf("read %q", got)
	}
}

func openTruncate(t *testing.T, dir string) {
	write(t, dir+"/f", "something")
	f, err := os.OpenFile(dir+"/f", os.O_RDWR|os.O_TRUNC, 0)
	must(t, err)
	defer f.Close()
	if size := stat(t, dir+"/f").Size; size != 0 {
		t.Errorf("size %d", size)
	}
	_, err = os.OpenFile(dir+"/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	want(t, "O_EXCL", err, unix.EEXIST)
}

func truncate(t *testing.T, dir string) {
	write(t, dir+"/f", "0123456789")
	f, err := os.OpenFile(dir+"/f", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, os.Truncate(dir+"/f", 4))
	must(t, f.Truncate(8))
	if got := read(t, dir+"/f"); got != "0123\x00\x00\x00\x00" {
		t.Errorf("read %q", got)
	}
	must(t, os.Chmod(dir+"/f", 0o444))
	must(t, f.Truncate(2)) // the handle may, whatever the mode is now
	if size := stat(t, dir+"/f").Size; size != 2 {
		t.Errorf("size %d", size)
	}
}

func holes(t *testing.T, dir string) {
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), 4096), 1<<20)
	must(t, err)
	must(t, f.Truncate(4<<20))
	fd := int(f.Fd())
	for _, seek := range []struct {
		off, want int64
		whence    int
	}{{0, 1 << 20, unix.SEEK_DATA}, {1 << 20, 1<<20 + 4096, unix.SEEK_HOLE}, {0, 0, unix.SEEK_HOLE}} {
		if got, err := unix.Seek(fd, seek.off, seek.whence); err != nil || got != seek.want {
			t.Errorf("seek from %d: %d, %v, want %d", seek.off, got, err, seek.want)
		}
	}
	_, err = unix.Seek(fd, 2<<20, unix.SEEK_DATA)
	want(t, "SEEK_DATA behind the data", err, unix.ENXIO)
	if blocks := stat(t, dir+"/f").Blocks; blocks > 16 {
		t.Errorf("%d blocks", blocks)
	}
}

func fallocate(t *testing.T, dir string) {
	f, err := os.OpenFile(dir+"/f", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer f.Close()
	fd := int(f.Fd())
	_, err = f.Write(bytes.Repeat([]byte("x"), 32<<10))
	must(t, err)
	must(t, unix.Fallocate(fd, 0, 0, 64<<10))
	if size := stat(t, dir+"/f").Size; size != 64<<10 {
		t.Errorf("size %d", size)
	}
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 64<<10, 64<<10))
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192))
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 16384, 4096))
	data := []byte(read(t, dir+"/f"))
	wantData := bytes.Repeat([]byte("x"), 32<<10)
	clear(wantData[4096:12288])
	clear(wantData[16384:20480])
	wantData = append(wantData, make([]byte, 32<<10)...)
	if !bytes.Equal(data, wantData) {
		t.Error("wrong content after fallocate")
	}
	if size := stat(t, dir+"/f").Size; size != 64<<10 {
		t.Errorf("size %d", size)
	}
}

func copyRange(t *testing.T, dir string) {
	write(t, dir+"/a", "0123456789")
	a, err := os.Open(dir + "/a")
	must(t, err)
	defer a.Close()
	b, err := os.OpenFile(dir+"/b", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer b.Close()
	off, off2 := int64(2), int64(1)
	n, err := unix.CopyFileRange(int(a.Fd()), &off, int(b.Fd()), &off2, 5, 0)
	if err != nil || n != 5 || off != 7 || off2 != 6 {
		t.Errorf("copied %d, offsets %d and %d, %v", n, off, off2, err)
	}
	if got := read(t, dir+"/b"); got != "\x0023456" {
		t.Errorf("read %q", got)
	}
}

func fsync(t *testing.T, dir string) {
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("x")
	must(t, err)
	must(t, f.Sync())
	must(t, unix.Fdatasync(int(f.Fd())))
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, d.Sync())
}

func syncWrite(t *testing.T, dir string) {
	for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC, unix.O_DIRECT} {
		path := fmt.Sprintf("%s/f%x", dir, flag)
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|flag, 0o644)
		must(t, err)
		buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // page-aligned
		must(t, err)
		copy(buf, "direct")
		if n, err := unix.Pwrite(fd, buf, 4096); n != 4096 || err != nil {
			t.Errorf("flag %x: wrote %d, %v", flag, n, err)
		}
		clear(buf)
		if n, err := unix.Pread(fd, buf, 4096); n != 4096 || err != nil || string(buf[:6]) != "direct" {
			t.Errorf("flag %x: read %d, %v", flag, n, err)
		}
		unix.Munmap(buf)
		unix.Close(fd)
	}
}

func mmap(t *testing.T, dir string) { child(t, "mmap", dir) }

func mmapChild(dir string) error {
	f, err := os.OpenFile(dir+"/f", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(16384); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 16384, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[5000:], "mapped")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	buf := make([]byte, 6)
	if _, err := f.ReadAt(buf, 5000); err != nil || string(buf) != "mapped" {
		return fmt.Errorf("read %q, %v", buf, err)
	}
	if _, err := f.WriteAt([]byte("MAP"), 5000); err != nil {
		return err
	}
	if string(m[5000:5006]) != "MAPped" {
		return fmt.Errorf("the mapping shows %q", m[5000:5006])
	}
	return unix.Munmap(m)
}
