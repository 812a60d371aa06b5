package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func setgidDirectory(t *testing.T, dir string) {
	must(t, os.Mkdir(dir+"/d", 0o777))
	must(t, os.Chown(dir+"/d", 0, 4321))
	must(t, unix.Chmod(dir+"/d", 0o2777))
	child(t, "makeAll", dir+"/d", 1000, 1000)
	for name, mode := range map[string]uint32{"file": 0o644, "dir": 0o2755, "fifo": 0o600, "link": 0o777} {
		st := stat(t, dir+"/d/"+name)
		if st.Mode&0o7777 != mode || st.Uid != 1000 || st.Gid != 4321 {
			t.Errorf("%s: mode %o, owner %d:%d", name, st.Mode&0o7777, st.Uid, st.Gid)
		}
	}
}

func umask(t *testing.T, dir string) {
	child(t, "umask", dir)
	for name, mode := range map[string]uint32{"file": 0o640, "dir": 0o750, "node": 0o640} {
		if got := stat(t, dir+"/"+name).Mode & 0o7777; got != mode {
			t.Errorf("%s: mode %o, want %o", name, got, mode)
		}
	}
}

func specialBits(t *testing.T, dir string) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	fd, err := unix.Open(dir+"/f", unix.O_CREAT|unix.O_RDWR, 0o6755)
	must(t, err)
	unix.Close(fd)
	must(t, unix.Mkdir(dir+"/d", 0o1777))
	must(t, unix.Mknod(dir+"/n", unix.S_IFREG|0o4755, 0))
	for name, mode := range map[string]uint32{"f": 0o6755, "d": 0o1777, "n": 0o4755} {
		if got := stat(t, dir+"/"+name).Mode & 0o7777; got != mode {
			t.Errorf("%s: mode %o, want %o", name, got, mode)
		}
	}
}

// suidClearing changes files with set-ID bits in every way that clears them,
// as an ordinary user, and as root, who keeps them.
func suidClearing(t *testing.T, dir string) {
	for _, name := range suidWays {
		for _, who := range []string{"user", "root"} {
			path := dir + "/" + name + who
			write(t, path, strings.Repeat("x", 8192))
			must(t, unix.Chmod(path, 0o6777))
		}
	}
	child(t, "suid", dir, 1000, 1000)
	child(t, "suid", dir)
	for _, name := range suidWays {
		if got := stat(t, dir+"/"+name+"user").Mode & 0o7777; got != 0o777 {
			t.Errorf("%s by a user leaves mode %o", name, got)
		}
		if got := stat(t, dir+"/"+name+"root").Mode & 0o7777; got != 0o6777 {
			t.Errorf("%s by root leaves mode %o", name, got)
		}
	}
	unchanged := dir + "/unchanged"
	write(t, unchanged, "x")
	must(t, unix.Chmod(unchanged, 0o6755))
	must(t, unix.Chown(unchanged, -1, -1))
	wantMode(t, unchanged, 0o755)
	path := dir + "/chown"
	write(t, path, "x")
	must(t, unix.Chmod(path, 0o6755))
	must(t, unix.Chown(path, 5, 5))
	if got := stat(t, path).Mode & 0o7777; got != 0o755 {
		t.Errorf("chown leaves mode %o", got)
	}
}

// setgidWithoutExec sees that set-group-ID without group execution, which is no
// privilege, stays for members of the group only.
func setgidWithoutExec(t *testing.T, dir string) {
	for gid, mode := range map[uint32]uint32{1000: 0o2666, 4321: 0o666} {
		for _, name := range suidWays {
			write(t, dir+"/"+name+"user", strings.Repeat("x", 8192))
			must(t, os.Chown(dir+"/"+name+"user", 1000, int(gid)))
			must(t, unix.Chmod(dir+"/"+name+"user", 0o2666))
		}
		child(t, "suid", dir, 1000, 1000)
		for _, name := range suidWays {
			if got := stat(t, dir+"/"+name+"user").Mode & 0o7777; got != mode {
				t.Errorf("%s with group %d leaves mode %o, want %o", name, gid, got, mode)
			}
		}
		must(t, unix.Chmod(dir+"/writeuser", 0o2666))
		child(t, "chownGroup", dir+"/writeuser", 1000, 1000)
		wantMode(t, dir+"/writeuser", mode)
	}
}

var suidWays = []string{"write", "truncate", "ftruncate", "fallocate", "opentrunc", "copy"}

func suidChild(dir string) error {
	who := "user"
	if os.Getuid() == 0 {
		who = "root"
	}
	var errs []error
	for _, name := range suidWays {
		path := dir + "/" + name + who
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		switch name {
		case "write":
			_, err = f.WriteAt([]byte("y"), 0)
		case "truncate":
			err = os.Truncate(path, 10)
		case "ftruncate":
			err = f.Truncate(10)
		case "fallocate":
			err = unix.Fallocate(int(f.Fd()), 0, 0, 20000)
		case "copy":
			var from, to int64 = 0, 4096
			_, err = unix.CopyFileRange(int(f.Fd()), &from, int(f.Fd()), &to, 100, 0)
		case "opentrunc":
			var g *os.File
			if g, err = os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0); err == nil {
				g.Close()
			}
		}
		errs = append(errs, err, f.Close())
	}
	return errors.Join(errs...)
}

func owner(t *testing.T, dir string) {
	child(t, "makeAll", dir, 1000, 1001)
	for _, name := range []string{"file", "dir", "fifo", "link"} {
		if st := stat(t, dir+"/"+name); st.Uid != 1000 || st.Gid != 1001 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	must(t, os.Lchown(dir+"/link", 3, 4))
	if st := stat(t, dir+"/link"); st.Uid != 3 || st.Gid != 4 {
		t.Errorf("the symbolic link belongs to %d:%d", st.Uid, st.Gid)
	}
	write(t, dir+"/secret", "x")
	must(t, os.Chmod(dir+"/secret", 0o600))
	must(t, os.Mkdir(dir+"/sticky", 0o777))
	must(t, unix.Chmod(dir+"/sticky", 0o1777))
	write(t, dir+"/sticky/theirs", "x")
	child(t, "denied", dir, 1000, 1000)
}

func xattrs(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	must(t, unix.Symlink("f", dir+"/l"))
	must(t, os.Mkdir(dir+"/d", 0o755))
	for _, path := range []string{dir + "/f", dir + "/d", dir} {
		must(t, unix.Lsetxattr(path, "user.one", []byte("1"), unix.XATTR_CREATE))
		want(t, "XATTR_CREATE", unix.Lsetxattr(path, "user.one", []byte("1"), unix.XATTR_CREATE), unix.EEXIST)
		want(t, "XATTR_REPLACE", unix.Lsetxattr(path, "user.two", []byte("1"), unix.XATTR_REPLACE), unix.ENODATA)
		must(t, unix.Lsetxattr(path, "user.empty", nil, 0))
		must(t, unix.Lsetxattr(path, "trusted.t", bytes.Repeat([]byte("z"), 2000), 0))
		buf := make([]byte, 4096)
		if n, err := unix.Lgetxattr(path, "trusted.t", buf); err != nil || n != 2000 {
			t.Errorf("getxattr: %d, %v", n, err)
		}
		_, err := unix.Lgetxattr(path, "trusted.t", buf[:10])
		want(t, "getxattr into a small buffer", err, unix.ERANGE)
		if n, err := unix.Lgetxattr(path, "trusted.t", nil); err != nil || n != 2000 {
			t.Errorf("size of an xattr: %d, %v", n, err)
		}
		n, err := unix.Llistxattr(path, buf)
		must(t, err)
		names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
		slices.Sort(names)
		if !slices.Equal(names, []string{"trusted.t", "user.empty", "user.one"}) {
			t.Errorf("listxattr: %q", names)
		}
		must(t, unix.Lremovexattr(path, "user.one"))
		want(t, "removexattr of nothing", unix.Lremovexattr(path, "user.one"), unix.ENODATA)
	}
	want(t, "user xattr on a symbolic link", unix.Lsetxattr(dir+"/l", "user.x", []byte("1"), 0), unix.EPERM)
	must(t, unix.Lsetxattr(dir+"/l", "trusted.x", []byte("1"), 0))
	if _, err := unix.Lgetxattr(dir+"/f", "trusted.x", nil); err != unix.ENODATA {
		t.Errorf("the xattr of a link shows on its target: %v", err)
	}
}

func trustedXattrs(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	must(t, os.Chmod(dir+"/f", 0o666))
	must(t, unix.Lsetxattr(dir+"/f", "trusted.t", []byte("1"), 0))
	must(t, unix.Lsetxattr(dir+"/f", "user.u", []byte("1"), 0))
	child(t, "trusted", dir, 1000, 1000)
}

func init() {
	children["chownGroup"] = func(path string) error { return os.Chown(path, -1, 1000) }
	children["trusted"] = func(dir string) error {
		buf := make([]byte, 100)
		n, err := unix.Llistxattr(dir+"/f", buf)
		if err != nil || string(buf[:n]) != "user.u\x00" {
			return fmt.Errorf("listxattr by a user: %q, %v", buf[:max(n, 0)], err)
		}
		if n, err := unix.Llistxattr(dir+"/f", nil); err != nil || n != 7 {
			return fmt.Errorf("size of the list: %d, %v", n, err)
		}
		if _, err := unix.Lgetxattr(dir+"/f", "trusted.t", buf); err != unix.ENODATA {
			return fmt.Errorf("getxattr by a user: %v", err)
		}
		if err := unix.Lsetxattr(dir+"/f", "trusted.t", nil, 0); err != unix.EPERM {
			return fmt.Errorf("setxattr by a user: %v", err)
		}
		return nil
	}
}

func birthTime(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	must(t, os.Symlink("f", dir+"/l"))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/f", []unix.Timespec{{Sec: 1}, {Sec: 2}}, 0))
	f, err := os.Open(dir + "/f")
	must(t, err)
	defer f.Close()
	for name, at := range map[string]struct {
		fd    int
		path  string
		flags int
		typ   uint16
	}{
		"file":   {unix.AT_FDCWD, dir + "/f", 0, unix.S_IFREG},
		"handle": {int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.S_IFREG},
		"link":   {unix.AT_FDCWD, dir + "/l", unix.AT_SYMLINK_NOFOLLOW, unix.S_IFLNK},
		"root":   {unix.AT_FDCWD, dir, 0, unix.S_IFDIR},
	} {
		var st unix.Statx_t
		must(t, unix.Statx(at.fd, at.path, at.flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st))
		if st.Mask&unix.STATX_BTIME == 0 || st.Btime.Sec < 1<<30 || st.Mode&unix.S_IFMT != at.typ {
			t.Errorf("%s: mask %x, born %v, mode %o", name, st.Mask, st.Btime, st.Mode)
		}
	}
}

// fileFlags reads and sets the flags of chattr(1), without the ones that only
// say how a file lies on its disk.
func fileFlags(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	must(t, os.Mkdir(dir+"/d", 0o755))
	for _, path := range []string{dir + "/d", dir + "/f"} {
		f, err := os.Open(path)
		must(t, err)
		flags := func() int {
			flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			must(t, err)
			return int(flags)
		}
		for _, want := range []int{flags(), 0x10, 0} {
			if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want); err != nil {
				t.Errorf("setting the flags of %s to %#x: %v", path, want, err)
			}
			if got := flags(); got&0x10 != want&0x10 {
				t.Errorf("flags of %s are %#x, set to %#x", path, got, want)
			}
			if err := os.Chmod(path, 0o700); (err == nil) != (want&0x10 == 0) {
				t.Errorf("chmod of %s with flags %#x: %v", path, want, err)
			}
		}
		f.Close()
	}
}

// appendOnly tries to change what an append-only file has, by descriptors from
// before and after it became one. How that fails is not the same everywhere.
func appendOnly(t *testing.T, dir string) {
	path := dir + "/f"
	write(t, path, "contents")
	flags := func(want int) {
		f, err := os.Open(path)
		must(t, err)
		defer f.Close()
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want))
	}
	before, err := unix.Open(path, unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(before)
	const appendOnly = 0x20
	flags(appendOnly)
	defer flags(0)
	after, err := unix.Open(path, unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(after)
	for _, fd := range []int{before, after} {
		// Of the one from before the kernel does not say that it overrules O_APPEND.
		if fd == after {
			if n, err := unix.Pwritev2(fd, [][]byte{[]byte("XX")}, 0, 0x20); err == nil { // RWF_NOAPPEND
				t.Errorf("RWF_NOAPPEND wrote %d", n)
			}
		}
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
		_, _ = unix.Pwrite(fd, []byte("YY"), 1)
		if err := unix.Ftruncate(fd, 3); err == nil {
			t.Error("it was cut")
		}
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND)
		if n, err := unix.Write(fd, []byte(" more")); n != 5 || err != nil {
			t.Errorf("append: %d, %v", n, err)
		}
	}
	child(t, "mapAppending", dir)
	if text := read(t, path); !strings.HasPrefix(text, "contents") || strings.Count(text, " more") != 2 {
		t.Errorf("it holds %q", text)
	}
	// Without the attribute it is a file like any other, also by descriptors that
	// had to append.
	flags(0)
	for _, fd := range []int{before, after} {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
		must(t, err)
		if n, err := unix.Pwrite(fd, []byte("CON"), 0); n != 3 || err != nil {
			t.Errorf("write after all: %d, %v", n, err)
		}
	}
	if text := read(t, path); !strings.HasPrefix(text, "CONtents") || strings.Count(text, " more") != 2 {
		t.Errorf("it holds %q", text)
	}
}

// mapAppending tries to change an append-only file through a mapping.
func mapAppending(dir string) error {
	fd, err := unix.Open(dir+"/f", unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// ext4 refuses that. A FUSE file system is not asked, and refuses what is stored.
	if m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		m[0] = 'S'
		if err := unix.Msync(m, unix.MS_SYNC); err == nil {
			return errors.New("what was stored through a mapping was written")
		}
		// The kernel is told to forget it, and does when it finds the time.
		again := time.NewTicker(time.Millisecond)
		defer again.Stop()
		for tries := 0; m[0] == 'S'; tries++ {
			if tries > 15_000 {
				return errors.New("the kernel goes on to show what is nowhere")
			}
			<-again.C
		}
		if err := unix.Munmap(m); err != nil {
			return err
		}
	}
	m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(m, []byte("contents")) {
		return fmt.Errorf("the mapping shows %q", m[:8])
	}
	m[0] = 'P'
	return unix.Munmap(m)
}

func times(t *testing.T, dir string) {
	write(t, dir+"/f", "x")
	ts := []unix.Timespec{{Sec: -5, Nsec: 6}, {Sec: 1 << 33, Nsec: 7}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/f", ts, 0))
	if st := stat(t, dir+"/f"); st.Atim != ts[0] || st.Mtim != ts[1] {
		t.Errorf("times %v %v", st.Atim, st.Mtim)
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/f", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
	if st := stat(t, dir+"/f"); st.Atim != ts[0] || st.Mtim.Sec == ts[1].Sec {
		t.Errorf("times %v %v", st.Atim, st.Mtim)
	}
	// What changes a directory changes its mtime, and at once.
	old := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	for _, change := range []func() error{
		func() error { return os.Mkdir(dir+"/d", 0o755) },
		func() error { return os.Remove(dir + "/d") },
		func() error { return os.Rename(dir+"/f", dir+"/g") },
		func() error { return os.Link(dir+"/g", dir+"/h") },
		func() error { return os.Symlink("a", dir+"/s") },
	} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir, old, 0))
		must(t, change())
		if stat(t, dir).Mtim.Sec == 1 {
			t.Error("the directory's mtime stayed")
		}
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/g", old, 0))
	f, err := os.OpenFile(dir+"/g", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("y")
	must(t, err)
	if stat(t, dir+"/g").Mtim.Sec == 1 {
		t.Error("the file's mtime stayed after a write")
	}
}
