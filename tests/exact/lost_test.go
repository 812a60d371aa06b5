package exact

import (
	"golang.org/x/sys/unix"
)

// What goes on working without a name.
var lostCases = map[string]func(*tape){
	"files": func(t *tape) {
		gone := map[string]func(){
			"unlinked":     func() { t.unlink("f") },
			"renamed over": func() { t.file("g", "other", 0o644); t.rename("g", "f", 0) },
			"exchanged": func() {
				t.file("g", "other", 0o644)
				t.rename("g", "f", unix.RENAME_EXCHANGE)
				t.unlink("g")
			},
		}
		for _, how := range []string{"unlinked", "renamed over", "exchanged"} {
			for _, flags := range []int{unix.O_RDWR, unix.O_RDONLY, unix.O_WRONLY | unix.O_APPEND, unix.O_PATH} {
				t.note("%s, %s", how, openFlags(flags))
				t.file("f", "contents", 0o644)
				t.setxattr("f", "user.first", "1", 0)
				fd := t.open("f", flags, 0)
				gone[how]()
				t.lost(fd)
				t.close(fd)
				unix.Unlink("f")
			}
		}
	},
	"owners": func(t *tape) {
		t.chmod(".", 0o777)
		t.file("f", "contents", 0o6755)
		t.chown("f", 1000, 2000)
		t.chmod("f", 0o6777)
		fd := t.open("f", unix.O_RDWR, 0)
		t.unlink("f")
		t.as(bob, func() { t.lost(fd) })
		t.as(alice, func() { t.lost(fd) })
		t.close(fd)
	},
	"kinds": func(t *tape) {
		t.mknod("p", unix.S_IFIFO|0o644, 0)
		t.symlink("text", "l")
		t.mknod("s", unix.S_IFSOCK|0o644, 0)
		for _, name := range []string{"p", "l", "s"} {
			fd := t.open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
			t.setxattr(name, "trusted.a", "b", 0)
			t.unlink(name)
			t.fstat(fd)
			t.did(unix.Fchownat(fd, "", 1000, 1000, unix.AT_EMPTY_PATH), "fchownat")
			times := []unix.Timespec{at(1, 1), at(2, 2)}
			t.did(unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH), "utimensat")
			buf := make([]byte, 100)
			n, err := unix.Readlinkat(fd, "", buf)
			t.got(int64(n), err, "readlinkat %q", buf[:max(n, 0)])
			n, err = unix.Getxattr(proc(fd), "trusted.a", buf)
			t.got(int64(n), err, "getxattr")
			t.did(unix.Chmod(proc(fd), 0o600), "chmod")
			t.did(unix.Linkat(fd, "", unix.AT_FDCWD, "again", unix.AT_EMPTY_PATH), "linkat")
			t.fstat(fd)
			t.close(fd)
		}
		fd := t.open("p2", unix.O_RDWR|unix.O_NONBLOCK, 0)
		t.close(fd)
	},
	"directories": func(t *tape) {
		t.dirs("d", "e", "g", "g/h")
		t.setxattr("d", "user.a", "b", 0)
		d, e, h := t.open("d", unix.O_RDONLY, 0), t.open("e", unix.O_RDONLY, 0), t.open("g/h", unix.O_PATH, 0)
		t.rmdir("d")
		t.dirs("new")
		t.rename("new", "e", 0)
		t.rmdir("g/h")
		t.rmdir("g")
		for _, fd := range []int{d, e, h} {
			t.fstat(fd)
			for _, name := range []string{"x", ".", ".."} {
				var st unix.Stat_t
				t.did(unix.Fstatat(fd, name, &st, 0), "fstatat %s", name)
				t.note("%#o", st.Mode)
			}
			t.openat(fd, "x", unix.O_CREAT|unix.O_RDWR, 0o600)
			t.openat(fd, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
			t.did(unix.Mkdirat(fd, "x", 0o700), "mkdirat")
			t.did(unix.Symlinkat("x", fd, "x"), "symlinkat")
			t.did(unix.Mknodat(fd, "x", unix.S_IFREG|0o600, 0), "mknodat")
			t.did(unix.Unlinkat(fd, "x", 0), "unlinkat")
			t.file("f", "x", 0o644)
			t.did(unix.Linkat(unix.AT_FDCWD, "f", fd, "x", 0), "linkat")
			t.did(unix.Renameat(unix.AT_FDCWD, "f", fd, "x"), "renameat")
			t.did(unix.Renameat(fd, "x", unix.AT_FDCWD, "y"), "renameat out of it")
			t.unlink("f")
			_, err := unix.Getdents(fd, make([]byte, 1000))
			t.did(err, "getdents")
			t.fchmod(fd, 0o711)
			t.fchown(fd, 1000, 1000)
			t.futimens(fd, at(1, 0), at(2, 0))
			t.did(unix.Fsetxattr(fd, "user.c", []byte("d"), 0), "fsetxattr")
			t.did(unix.Fsync(fd), "fsync")
			t.fstat(fd)
			again := t.reopen(fd, unix.O_RDONLY)
			t.fstat(again)
			t.close(again)
			t.did(unix.Fchdir(fd), "fchdir")
			t.close(t.open(".", unix.O_RDONLY, 0))
			t.open("x", unix.O_CREAT|unix.O_RDWR, 0o600)
			t.did(unix.Chdir(".."), "chdir")
			_, err = unix.Getwd()
			t.note("getwd failed %t", err != nil)
			t.did(unix.Fchdir(t.home), "fchdir home")
			t.close(fd)
		}
	},
	"working directory": func(t *tape) {
		t.mkdir("d", 0o755)
		t.did(unix.Chdir("d"), "chdir")
		t.did(unix.Rmdir("../d"), "rmdir")
		t.stat(".", "..", "x")
		t.list(".")
		t.mkdir("x", 0o755)
		t.did(unix.Fchdir(t.home), "fchdir home")
	},
	"mapped": func(t *tape) {
		t.file("f", fill(8192, 1), 0o644)
		fd := t.open("f", unix.O_RDWR, 0)
		m, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		t.did(err, "mmap")
		t.close(fd)
		t.unlink("f")
		m[0], m[5000] = 'A', 'B'
		t.did(unix.Msync(m, unix.MS_SYNC), "msync")
		t.note("%s", digest(m))
		t.did(unix.Munmap(m), "munmap")
		t.stat("f")
	},
}

// lost makes all calls that need no name.
func (t *tape) lost(fd int) {
	t.fstat(fd)
	t.fmoved("fchmod", func() { t.fchmod(fd, 0o640) }, fd)
	t.fmoved("fchown", func() { t.fchown(fd, 1000, 2000) }, fd)
	t.fmoved("futimens", func() { t.futimens(fd, at(1000, 1), at(2000, 2)) }, fd)
	t.fmoved("fsetxattr", func() { t.did(unix.Fsetxattr(fd, "user.second", []byte("2"), unix.XATTR_CREATE), "fsetxattr") }, fd)
	t.did(unix.Fsetxattr(fd, "user.second", []byte("2"), unix.XATTR_CREATE), "fsetxattr again")
	buf := make([]byte, 1000)
	n, err := unix.Fgetxattr(fd, "user.first", buf)
	t.got(int64(n), err, "fgetxattr")
	n, err = unix.Flistxattr(fd, buf)
	t.got(int64(n), err, "flistxattr")
	t.did(unix.Fremovexattr(fd, "user.first"), "fremovexattr")
	t.did(unix.Fremovexattr(fd, "user.first"), "fremovexattr again")
	n, err = unix.Flistxattr(fd, buf)
	t.got(int64(n), err, "flistxattr")
	t.fmoved("ftruncate", func() { t.ftruncate(fd, 5) }, fd)
	t.fmoved("pwrite", func() { t.pwrite(fd, "XYZ", 4) }, fd)
	t.pread(fd, 100, 0)
	t.fallocate(fd, 0, 0, 5000)
	t.fstat(fd)
	t.did(unix.Fsync(fd), "fsync")
	for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_APPEND, unix.O_PATH, unix.O_DIRECTORY, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL} {
		again := t.reopen(fd, flags)
		if again < 0 {
			continue
		}
		t.fstat(again)
		t.write(again, "w")
		t.pread(again, 100, 0)
		t.close(again)
	}
	t.did(unix.Chmod(proc(fd), 0o604), "chmod through /proc")
	t.did(unix.Truncate(proc(fd), 3), "truncate through /proc")
	t.did(unix.Setxattr(proc(fd), "user.third", []byte("3"), 0), "setxattr through /proc")
	t.did(unix.Access(proc(fd), unix.R_OK), "access through /proc")
	t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "again", unix.AT_SYMLINK_FOLLOW), "linkat")
	t.fstat(fd)
}
