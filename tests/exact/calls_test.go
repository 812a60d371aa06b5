package exact

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that cases make most, each written down with what came of it.

func (t *tape) umask(mask int) { unix.Umask(mask); t.note("umask %o", mask) }

func (t *tape) mkdir(path string, mode uint32) {
	t.did(unix.Mkdir(path, mode), "mkdir %s %o", short(path), mode)
}

func (t *tape) mknod(path string, mode uint32, dev int) {
	t.did(unix.Mknod(path, mode, dev), "mknod %s %o %d", short(path), mode, dev)
}

func (t *tape) symlink(text, path string) {
	t.did(unix.Symlink(text, path), "symlink %s %s", short(text), short(path))
}

func (t *tape) readlink(path string) {
	buf := make([]byte, 2*unix.PathMax)
	n, err := unix.Readlink(path, buf)
	if t.got(int64(n), err, "readlink %s", short(path)) > 0 {
		t.note("  %s", digest(buf[:n]))
	}
}

func (t *tape) link(from, to string) {
	t.did(unix.Link(from, to), "link %s %s", short(from), short(to))
}
func (t *tape) unlink(path string) { t.did(unix.Unlink(path), "unlink %s", short(path)) }
func (t *tape) rmdir(path string)  { t.did(unix.Rmdir(path), "rmdir %s", short(path)) }

func (t *tape) rename(from, to string, flags uint) {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	t.did(err, "rename %s %s %d", short(from), short(to), flags)
}

func (t *tape) chmod(path string, mode uint32) {
	t.did(unix.Chmod(path, mode), "chmod %s %o", short(path), mode)
}

func (t *tape) fchmod(fd int, mode uint32) { t.did(unix.Fchmod(fd, mode), "fchmod %o", mode) }

func (t *tape) chown(path string, uid, gid int) {
	t.did(unix.Lchown(path, uid, gid), "lchown %s %d:%d", short(path), uid, gid)
}

func (t *tape) fchown(fd, uid, gid int) { t.did(unix.Fchown(fd, uid, gid), "fchown %d:%d", uid, gid) }

func (t *tape) truncate(path string, size int64) {
	_, err := retry(func() (int, error) { return 0, unix.Truncate(path, size) })
	t.did(err, "truncate %s %d", short(path), size)
}

func (t *tape) ftruncate(fd int, size int64) {
	_, err := retry(func() (int, error) { return 0, unix.Ftruncate(fd, size) })
	t.did(err, "ftruncate %d", size)
}

func (t *tape) fallocate(fd int, mode uint32, off, size int64) {
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(fd, mode, off, size) })
	t.did(err, "fallocate %#x %d %d", mode, off, size)
}

func (t *tape) copyRange(in, out int, offIn, offOut int64, size int) {
	n, err := retry(func() (int, error) { return unix.CopyFileRange(in, &offIn, out, &offOut, size, 0) })
	t.got(int64(n), err, "copy_file_range %d", size)
}

func (t *tape) seek(fd int, off int64, whence int) {
	n, err := unix.Seek(fd, off, whence)
	t.got(n, err, "lseek %d %d", off, whence)
}

func (t *tape) access(path string, mode uint32) {
	t.did(unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS), "access %s %o", short(path), mode)
}

// utimes takes seconds and nanoseconds of atime and mtime.
func (t *tape) utimes(path string, atime, mtime unix.Timespec) {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
	t.did(err, "utimensat %s %v %v", short(path), atime, mtime)
}

// futimens is utimensat(2) with no path.
func (t *tape) futimens(fd int, atime, mtime unix.Timespec) {
	times := [2]unix.Timespec{atime, mtime}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	t.did(errnoOf(errno), "futimens %v %v", atime, mtime)
}

func errnoOf(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func at(sec, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }

// proc is a descriptor's path, by which a file without a name is reached.
func proc(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func (t *tape) reopen(fd, flags int) int {
	again, err := retry(func() (int, error) { return unix.Open(proc(fd), flags|unix.O_CLOEXEC, 0) })
	t.did(err, "reopen %s", openFlags(flags))
	if err != nil {
		return -1
	}
	return again
}

// dirs makes directories that everybody may use.
func (t *tape) dirs(paths ...string) {
	for _, path := range paths {
		t.mkdir(path, 0o777)
	}
}

// fill returns size bytes that differ from place to place.
func fill(size int, seed byte) string {
	var b strings.Builder
	for i := range size {
		b.WriteByte(byte(i) + byte(i>>8)*7 + seed)
	}
	return b.String()
}

// capability is a security.capability of version 2 with one capability.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
