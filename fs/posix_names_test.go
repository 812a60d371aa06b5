package fs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"golang.org/x/sys/unix"
)

func unlinkedOpen(t *testing.T, dir string) {
	path := dir + "/f"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("before")
	must(t, err)
	must(t, os.Remove(path))
	write(t, path, "another") // may get the number of the first one below
	liveWithoutName(t, f)
	if got := read(t, path); got != "another" {
		t.Errorf("the new file holds %q", got)
	}
}

// liveWithoutName does everything with f that works on a file without a name.
// f holds "before".
func liveWithoutName(t *testing.T, f *os.File) {
	t.Helper()
	fd := int(f.Fd())
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	if st.Nlink != 0 || st.Size != 6 {
		t.Errorf("fstat: %d links, %d bytes", st.Nlink, st.Size)
	}
	must(t, unix.Fchmod(fd, 0o600))
	must(t, unix.Fchown(fd, 12, 34))
	must(t, unix.Fsetxattr(fd, "user.a", []byte("x"), 0))
	buf := make([]byte, 8)
	if n, err := unix.Fgetxattr(fd, "user.a", buf); err != nil || string(buf[:n]) != "x" {
		t.Errorf("fgetxattr: %q, %v", buf[:max(n, 0)], err)
	}
	must(t, unix.Futimes(fd, []unix.Timeval{{Sec: 1000}, {Sec: 2000}}))
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR, 0)
	must(t, err)
	defer again.Close()
	must(t, unix.Fstat(fd, &st))
	if st.Mode&0o7777 != 0o600 || st.Uid != 12 || st.Gid != 34 || st.Mtim.Sec != 2000 {
		t.Errorf("fstat: mode %o, owner %d:%d, mtime %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	_, err = again.WriteAt([]byte("after!!"), 0)
	must(t, err)
	must(t, again.Sync())
	must(t, f.Truncate(5))
	must(t, unix.Truncate(fmt.Sprintf("/proc/self/fd/%d", fd), 4))
	if _, err := f.ReadAt(buf[:4], 0); err != nil || string(buf[:4]) != "afte" {
		t.Errorf("read %q, %v", buf[:4], err)
	}
	if data, err := io.ReadAll(again); err != nil || string(data) != "afte" {
		t.Errorf("the second handle reads %q, %v", data, err)
	}
}

func renamedOver(t *testing.T, dir string) {
	write(t, dir+"/new", "new")
	f, err := os.OpenFile(dir+"/old", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("before")
	must(t, err)
	must(t, os.Rename(dir+"/new", dir+"/old"))
	liveWithoutName(t, f)
	if got := read(t, dir+"/old"); got != "new" {
		t.Errorf("the name means %q", got)
	}
}

func removedDirectory(t *testing.T, dir string) {
	must(t, os.Mkdir(dir+"/d", 0o755))
	fd, err := unix.Open(dir+"/d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Remove(dir+"/d"))
	must(t, os.Mkdir(dir+"/d", 0o700))
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	if st.Nlink != 0 || st.Mode&0o777 != 0o755 {
		t.Errorf("fstat: %d links, mode %o", st.Nlink, st.Mode)
	}
	must(t, unix.Fchmod(fd, 0o711))
	_, err = unix.Openat(fd, "x", unix.O_CREAT|unix.O_RDWR, 0o644)
	want(t, "create in a removed directory", err, unix.ENOENT)
	if got := stat(t, dir+"/d").Mode & 0o777; got != 0o700 {
		t.Errorf("the new directory has mode %o", got)
	}
}

func hardLinks(t *testing.T, dir string) {
	must(t, os.Mkdir(dir+"/sub", 0o755))
	write(t, dir+"/a", "one")
	must(t, os.Link(dir+"/a", dir+"/sub/b"))
	a, b := stat(t, dir+"/a"), stat(t, dir+"/sub/b")
	if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
		t.Errorf("inodes %d and %d, links %d and %d", a.Ino, b.Ino, a.Nlink, b.Nlink)
	}
	f, err := os.OpenFile(dir+"/a", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, os.Remove(dir+"/a"))
	_, err = f.WriteAt([]byte("two"), 0)
	must(t, err)
	must(t, f.Chmod(0o640))
	if got := read(t, dir+"/sub/b"); got != "two" {
		t.Errorf("the other name holds %q", got)
	}
	if st := stat(t, dir+"/sub/b"); st.Nlink != 1 || st.Mode&0o777 != 0o640 {
		t.Errorf("%d links, mode %o", st.Nlink, st.Mode)
	}
	must(t, os.Rename(dir+"/sub/b", dir+"/a"))
	must(t, os.Link(dir+"/a", dir+"/c"))
	must(t, os.Rename(dir+"/a", dir+"/c")) // two names of one file: nothing happens
	if stat(t, dir+"/a").Nlink != 2 {
		t.Error("a rename between names of one file removed one")
	}
	want(t, "link over a name", os.Link(dir+"/a", dir+"/c"), unix.EEXIST)
}

// TestLinkMax gives a file on a mount as many links as the disk lets it have:
// on ext4 65,000. All but a few are made below the mount, before it has seen
// the file.
func TestLinkMax(t *testing.T) {
	most := func(t *testing.T, dir string, from int) int {
		t.Helper()
		for n := from; n < 100_000; n++ {
			err := unix.Link(dir+"/0", fmt.Sprintf("%s/%d", dir, n))
			if errors.Is(err, unix.EMLINK) {
				return n
			}
			must(t, err)
		}
		t.Skip("the disk has no limit within reach")
		return 0
	}
	m := mount(t, fs.Null{}, fs.Options{})
	write(t, m.Backing+"/0", "x")
	limit := most(t, m.Backing, 1)
	const some = 10
	for n := limit - some; n < limit; n++ {
		must(t, os.Remove(fmt.Sprintf("%s/%d", m.Backing, n)))
	}
	if got := most(t, m.Dir, limit-some); got != limit {
		t.Errorf("%d links on the mount, %d on the disk", got, limit)
	}
	if st := stat(t, m.Dir+"/0"); st.Nlink != uint64(limit) {
		t.Errorf("the file says it has %d links", st.Nlink)
	}
}

// linkUnknownName removes a name while another exists that the file system was
// not asked about since it was mounted, if it is mounted.
func linkUnknownName(t *testing.T, dir string) {
	write(t, dir+"/a", "one")
	must(t, os.Link(dir+"/a", dir+"/b"))
	f, err := os.OpenFile(dir+"/a", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, os.Remove(dir+"/a"))
	must(t, os.Remove(dir+"/b"))
	_, err = f.WriteAt([]byte("two"), 0)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 {
		t.Errorf("%d links", st.Nlink)
	}
}

func renameFlags(t *testing.T, dir string) {
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, dir+"/"+from, unix.AT_FDCWD, dir+"/"+to, flags)
	}
	write(t, dir+"/a", "a")
	must(t, os.MkdirAll(dir+"/d/e", 0o755))
	write(t, dir+"/d/e/f", "f")
	want(t, "RENAME_NOREPLACE", rename("a", "d", unix.RENAME_NOREPLACE), unix.EEXIST)
	must(t, rename("a", "b", unix.RENAME_NOREPLACE))
	must(t, rename("b", "d/e", unix.RENAME_EXCHANGE))
	if read(t, dir+"/b/f") != "f" || read(t, dir+"/d/e") != "b" && read(t, dir+"/d/e") != "a" {
		t.Error("RENAME_EXCHANGE did not exchange")
	}
	write(t, dir+"/b/g", "g") // below the directory that moved
	must(t, rename("b/g", "h", unix.RENAME_WHITEOUT))
	if st := stat(t, dir+"/b/g"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout has mode %o, rdev %x", st.Mode, st.Rdev)
	}
	want(t, "a directory over a file", rename("b", "h", 0), unix.ENOTDIR)
	want(t, "a file over a directory", rename("h", "b", 0), unix.EISDIR)
	must(t, os.Mkdir(dir+"/empty", 0o755))
	want(t, "a directory over a full one", rename("empty", "b", 0), unix.ENOTEMPTY)
	must(t, rename("b", "empty", 0))
	want(t, "a directory into itself", rename("d", "d/x", 0), unix.EINVAL)
}

// failedWhiteout sees the time that ext4 changes even though the rename fails.
func failedWhiteout(t *testing.T, dir string) {
	must(t, os.MkdirAll(dir+"/from/d", 0o755))
	must(t, os.MkdirAll(dir+"/full/d", 0o755))
	past := time.Unix(1_000_000_000, 0)
	must(t, os.Chtimes(dir+"/from", past, past))
	before := stat(t, dir+"/from")
	err := unix.Renameat2(unix.AT_FDCWD, dir+"/from/d", unix.AT_FDCWD, dir+"/full", unix.RENAME_WHITEOUT)
	want(t, "a directory over a full one", err, unix.ENOTEMPTY)
	after := stat(t, dir+"/from")
	var asked unix.Statx_t // of the file system itself, never of a cache
	must(t, unix.Statx(unix.AT_FDCWD, dir+"/from", unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &asked))
	if after.Mtim.Sec != asked.Mtime.Sec || after.Mtim.Nsec != int64(asked.Mtime.Nsec) {
		t.Errorf("mtime was %v and seems to be %v, but is %v", before.Mtim, after.Mtim, asked.Mtime)
	}
}

func renameDirectory(t *testing.T, dir string) {
	must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
	must(t, os.Mkdir(dir+"/z", 0o755))
	f, err := os.Create(dir + "/a/b/c/f")
	must(t, err)
	defer f.Close()
	must(t, os.Rename(dir+"/a/b", dir+"/z/y"))
	_, err = f.WriteString("moved")
	must(t, err)
	must(t, f.Chmod(0o600))
	if got := read(t, dir+"/z/y/c/f"); got != "moved" {
		t.Errorf("read %q", got)
	}
	must(t, os.Mkdir(dir+"/a/b", 0o755)) // the old name again
	write(t, dir+"/a/b/c", "new")
	if stat(t, dir+"/z/y/c/f").Mode&0o777 != 0o600 {
		t.Error("mode was lost")
	}
	must(t, os.RemoveAll(dir+"/z"))
}

func tmpfile(t *testing.T, dir string) {
	must(t, os.Mkdir(dir+"/d", 0o2775))
	must(t, os.Chown(dir+"/d", 0, 77))
	must(t, os.Chmod(dir+"/d", os.ModeSetgid|0o775))
	fd, err := unix.Open(dir+"/d", unix.O_TMPFILE|unix.O_RDWR, 0o640)
	must(t, err)
	f := os.NewFile(uintptr(fd), "tmpfile")
	defer f.Close()
	_, err = f.WriteString("before")
	must(t, err)
	must(t, unix.Fsetxattr(fd, "user.k", []byte("v"), 0))
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/d/named", unix.AT_SYMLINK_FOLLOW))
	_, err = f.WriteString(" and after")
	must(t, err)
	if got := read(t, dir+"/d/named"); got != "before and after" {
		t.Errorf("read %q", got)
	}
	if st := stat(t, dir+"/d/named"); st.Mode&0o7777 != 0o640 || st.Gid != 77 || st.Nlink != 1 {
		t.Errorf("mode %o, group %d, %d links", st.Mode, st.Gid, st.Nlink)
	}
	fd, err = unix.Open(dir+"/d", unix.O_TMPFILE|unix.O_RDWR, 0o640)
	must(t, err)
	g := os.NewFile(uintptr(fd), "tmpfile")
	defer g.Close()
	_, err = g.WriteString("before")
	must(t, err)
	liveWithoutName(t, g)
}

func symlinks(t *testing.T, dir string) {
	long := strings.Repeat("x/", 2000)
	for i, text := range []string{"target", "/absolute/../way", long, "\xff\xfe not UTF-8"} {
		path := fmt.Sprintf("%s/l%d", dir, i)
		must(t, os.Symlink(text, path))
		if got, err := os.Readlink(path); err != nil || got != text {
			t.Errorf("readlink: %q, %v", got, err)
		}
		if st := stat(t, path); st.Size != int64(len(text)) || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("size %d, mode %o", st.Size, st.Mode)
		}
	}
	write(t, dir+"/target", "x")
	if got := read(t, dir+"/l0"); got != "x" {
		t.Errorf("through the link: %q", got)
	}
	ts := []unix.Timespec{{Sec: 1}, {Sec: 2, Nsec: 3}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/l0", ts, unix.AT_SYMLINK_NOFOLLOW))
	if st := stat(t, dir+"/l0"); st.Mtim != ts[1] {
		t.Errorf("mtime %v", st.Mtim)
	}
}

func specialFiles(t *testing.T, dir string) {
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(dir+"/big", unix.S_IFBLK|0o600, int(unix.Mkdev(260, 70000))))
	must(t, unix.Mknod(dir+"/sock", unix.S_IFSOCK|0o755, 0))
	if st := stat(t, dir+"/null"); st.Rdev != unix.Mkdev(1, 3) || st.Mode != unix.S_IFCHR|0o666 {
		t.Errorf("null: rdev %x, mode %o", st.Rdev, st.Mode)
	}
	if st := stat(t, dir+"/big"); st.Rdev != unix.Mkdev(260, 70000) {
		t.Errorf("big: rdev %x", st.Rdev)
	}
	write(t, dir+"/null", "gone")
	f, err := os.OpenFile(dir+"/fifo", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("through")
	must(t, err)
	buf := make([]byte, 7)
	_, err = io.ReadFull(f, buf)
	if err != nil || string(buf) != "through" {
		t.Errorf("fifo: %q, %v", buf, err)
	}
}

func longNames(t *testing.T, dir string) {
	name := strings.Repeat("n", 255)
	write(t, dir+"/"+name, "x")
	if got := read(t, dir+"/"+name); got != "x" {
		t.Errorf("read %q", got)
	}
	want(t, "a name of 256 bytes", os.WriteFile(dir+"/"+name+"n", nil, 0o644), unix.ENAMETOOLONG)
	odd := dir + "/\xff\x01 \n*"
	write(t, odd, "odd")
	if names := list(t, dir); len(names) != 2 || !slices.Contains(names, filepath.Base(odd)) {
		t.Errorf("names %q", names)
	}
}

// deepTree goes deeper than PATH_MAX by changing into each directory.
func deepTree(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	name := strings.Repeat("d", 200)
	for range 25 {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		must(t, err)
		fd = next
	}
	defer unix.Close(fd)
	f, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_RDWR, 0o644)
	must(t, err)
	defer unix.Close(f)
	_, err = unix.Write(f, []byte("deep"))
	must(t, err)
	must(t, unix.Fsetxattr(f, "user.x", []byte("y"), 0))
	must(t, unix.Renameat(fd, "file", fd, "renamed"))
	var st unix.Stat_t
	must(t, unix.Fstatat(fd, "renamed", &st, 0))
	if st.Size != 4 {
		t.Errorf("size %d", st.Size)
	}
}
