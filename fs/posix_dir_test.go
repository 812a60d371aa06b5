package fs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func readdirDeleting(t *testing.T, dir string) {
	const files = 3000
	for i := range files {
		write(t, fmt.Sprintf("%s/file%d", dir, i), "")
	}
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	seen := make(map[string]bool)
	for {
		names, err := d.Readdirnames(100)
		if err == io.EOF {
			break
		}
		must(t, err)
		for _, name := range names {
			if seen[name] {
				t.Fatalf("%s came twice", name)
			}
			seen[name] = true
			must(t, os.Remove(dir+"/"+name))
		}
	}
	if len(seen) != files {
		t.Errorf("saw %d of %d", len(seen), files)
	}
	must(t, os.Mkdir(dir+"/d", 0o755))
	must(t, os.Remove(dir+"/d"))
	if left := list(t, dir); len(left) != 0 {
		t.Errorf("%d names left", len(left))
	}
}

// readdirOffsets sees that an offset still means the same place after entries
// before it went.
func readdirOffsets(t *testing.T, dir string) {
	for i := range 500 {
		write(t, fmt.Sprintf("%s/%d", dir, i), "")
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	n, err := unix.Getdents(fd, buf[:2048])
	must(t, err)
	_, _, first := unix.ParseDirent(buf[:n], -1, nil)
	off, err := unix.Seek(fd, 0, 1)
	must(t, err)
	rest := func() (names []string) {
		for {
			n, err := unix.Getdents(fd, buf)
			must(t, err)
			if n == 0 {
				return names
			}
			_, _, names = unix.ParseDirent(buf[:n], -1, names)
		}
	}
	before := rest()
	for _, name := range first[:len(first)/2] {
		must(t, os.Remove(dir+"/"+name))
	}
	_, err = unix.Seek(fd, off, 0)
	must(t, err)
	if after := rest(); !slices.Equal(before, after) || len(before)+len(first) != 500 {
		t.Errorf("%d names before, %d after, %d at first", len(before), len(after), len(first))
	}
	_, err = unix.Seek(fd, 0, 0)
	must(t, err)
	if again := rest(); len(again) != 500-len(first)/2 {
		t.Errorf("%d names after a rewind", len(again))
	}
}

func inodeNumbers(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	must(t, os.Mkdir(dir+"/d", 0o755))
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(d)
	buf := make([]byte, 4096)
	n, err := unix.Getdents(d, buf)
	must(t, err)
	for len(buf[:n]) > 0 {
		e := (*syscall.Dirent)(unsafe.Pointer(&buf[0]))
		name := string(bytes.TrimRight(buf[19:e.Reclen], "\x00"))
		if name != ".." && e.Ino != stat(t, dir+"/"+name).Ino {
			t.Errorf("%q: readdir says %d, stat %d", name, e.Ino, stat(t, dir+"/"+name).Ino)
		}
		buf, n = buf[e.Reclen:], n-int(e.Reclen)
	}
}
