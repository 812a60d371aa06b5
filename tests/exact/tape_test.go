package exact

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tape makes system calls below the working directory and writes down what
// comes of each. What is written must not depend on where it runs: no device,
// inode or descriptor numbers, no times but whether they moved.
type tape struct {
	out  io.Writer
	err  error // of out
	home int   // the directory that the case runs in
	// noAtime leaves atimes out of what moved.
	noAtime bool
	// anyError leaves out which error it is that a call fails with.
	anyError bool
}

// note writes one line.
func (t *tape) note(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format+"\n", args...); err != nil && t.err == nil {
		t.err = err
	}
}

// did writes down what a call returned.
func (t *tape) did(err error, format string, args ...any) error {
	t.note("%s: %s", fmt.Sprintf(format, args...), t.outcome(err))
	return err
}

func (t *tape) outcome(err error) string {
	if err != nil && t.anyError {
		return "refused"
	}
	return outcome(err)
}

func outcome(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// got writes down a call that returns a number.
func (t *tape) got(n int64, err error, format string, args ...any) int64 {
	if err != nil {
		t.note("%s: %s", fmt.Sprintf(format, args...), t.outcome(err))
		return -1
	}
	t.note("%s: %d", fmt.Sprintf(format, args...), n)
	return n
}

// retry repeats a call that a signal of the Go runtime interrupts.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// open returns a descriptor, or -1.
func (t *tape) open(path string, flags int, mode uint32) int {
	return t.openat(unix.AT_FDCWD, path, flags, mode)
}

func (t *tape) openat(dir int, path string, flags int, mode uint32) int {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, path, flags|unix.O_CLOEXEC, mode) })
	t.did(err, "open %s %s %o", short(path), openFlags(flags), mode)
	if err != nil {
		return -1
	}
	return fd
}

func (t *tape) close(fd int) { t.did(unix.Close(fd), "close") }

// file makes a file with that content and mode.
func (t *tape) file(path, data string, mode uint32) {
	fd := t.open(path, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode)
	if fd < 0 {
		return
	}
	if data != "" {
		t.write(fd, data)
	}
	t.close(fd)
	t.did(unix.Chmod(path, mode), "chmod %s %o", short(path), mode)
}

func (t *tape) write(fd int, data string) int64 {
	n, err := retry(func() (int, error) { return unix.Write(fd, []byte(data)) })
	return t.got(int64(n), err, "write %d", len(data))
}

func (t *tape) pwrite(fd int, data string, off int64) int64 {
	n, err := retry(func() (int, error) { return unix.Pwrite(fd, []byte(data), off) })
	return t.got(int64(n), err, "pwrite %d at %d", len(data), off)
}

func (t *tape) pread(fd, size int, off int64) {
	buf := make([]byte, size)
	n, err := retry(func() (int, error) { return unix.Pread(fd, buf, off) })
	if t.got(int64(n), err, "pread %d at %d", size, off) > 0 {
		t.note("  %s", digest(buf[:n]))
	}
}

// cat reads a whole file by its name.
func (t *tape) cat(path string) {
	fd := t.open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if fd < 0 {
		return
	}
	defer unix.Close(fd)
	t.all(fd)
}

// all reads a descriptor from offset 0.
func (t *tape) all(fd int) {
	var data []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf, int64(len(data))) })
		if err != nil {
			t.note("read: %s", outcome(err))
			return
		}
		if n == 0 {
			break
		}
		data = append(data, buf[:n]...)
	}
	t.note("holds %d bytes %s", len(data), digest(data))
}

func digest(data []byte) string {
	if len(data) <= 24 {
		return fmt.Sprintf("%q", data)
	}
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%x", sum[:6])
}

func short(path string) string {
	if len(path) <= 60 {
		return fmt.Sprintf("%q", path)
	}
	return fmt.Sprintf("%q...(%d)", path[:20], len(path))
}

func openFlags(flags int) string {
	names := []string{[]string{"RDONLY", "WRONLY", "RDWR", "ACCMODE"}[flags&unix.O_ACCMODE]}
	for _, f := range []struct {
		flag int
		name string
	}{
		{unix.O_CREAT, "CREAT"}, {unix.O_EXCL, "EXCL"}, {unix.O_TRUNC, "TRUNC"}, {unix.O_APPEND, "APPEND"},
		{unix.O_TMPFILE, "TMPFILE"}, {unix.O_DIRECTORY, "DIRECTORY"}, {unix.O_NOFOLLOW, "NOFOLLOW"}, {unix.O_PATH, "PATH"},
		{unix.O_DIRECT, "DIRECT"}, {unix.O_SYNC, "SYNC"}, {unix.O_DSYNC, "DSYNC"}, {unix.O_NOATIME, "NOATIME"}, {unix.O_NONBLOCK, "NONBLOCK"},
	} {
		if flags&f.flag == f.flag {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, "|")
}

// stat writes down what lstat says of names.
func (t *tape) stat(paths ...string) {
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); t.failed(err, "lstat %s", short(path)) {
			continue
		}
		t.note("lstat %s: %s", short(path), describe(&st))
	}
}

func (t *tape) fstat(fd int) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); !t.failed(err, "fstat") {
		t.note("fstat: %s", describe(&st))
	}
}

func (t *tape) failed(err error, format string, args ...any) bool {
	if err != nil {
		t.did(err, format, args...)
	}
	return err != nil
}

// describe leaves out what depends on the place: a directory's size and
// blocks may be those of a directory that once was larger.
func describe(st *unix.Stat_t) string {
	s := fmt.Sprintf("%#o links=%d %d:%d rdev=%d:%d blksize=%d", st.Mode, st.Nlink, st.Uid, st.Gid, unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Blksize)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprintf(" size=%d", st.Size)
	}
	return s
}

// blocks writes down how much of a file is allocated.
func (t *tape) blocks(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); !t.failed(err, "lstat %s", short(path)) {
		t.note("blocks of %s: %d", short(path), st.Blocks)
	}
}

// times writes down explicit times, which no clock has set.
func (t *tape) times(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); !t.failed(err, "lstat %s", short(path)) {
		t.note("times of %s: atime %d.%09d mtime %d.%09d", short(path), st.Atim.Sec, st.Atim.Nsec, st.Mtim.Sec, st.Mtim.Nsec)
	}
}

// moved runs fn and writes down which times of which names have changed by it.
// The clock has moved on before and after.
func (t *tape) moved(what string, fn func(), paths ...string) {
	t.movedBy(what, fn, func(i int) (unix.Stat_t, error) {
		var st unix.Stat_t
		err := unix.Lstat(paths[i], &st)
		return st, err
	}, paths)
}

// fmoved is moved for descriptors.
func (t *tape) fmoved(what string, fn func(), fds ...int) {
	names := make([]string, len(fds))
	for i := range fds {
		names[i] = fmt.Sprintf("descriptor %d", i)
	}
	t.movedBy(what, fn, func(i int) (unix.Stat_t, error) {
		var st unix.Stat_t
		err := unix.Fstat(fds[i], &st)
		return st, err
	}, names)
}

func (t *tape) movedBy(what string, fn func(), stat func(int) (unix.Stat_t, error), names []string) {
	before := make([]unix.Stat_t, len(names))
	for i := range names {
		before[i], _ = stat(i)
	}
	tick()
	fn()
	for i, name := range names {
		after, err := stat(i)
		if err != nil {
			t.note("after %s: %s: %s", what, name, outcome(err))
			continue
		}
		if before[i].Ino != after.Ino {
			t.note("after %s: %s is another", what, name)
			continue
		}
		var moved []string
		for _, x := range []struct {
			name     string
			was, now unix.Timespec
		}{{"atime", before[i].Atim, after.Atim}, {"mtime", before[i].Mtim, after.Mtim}, {"ctime", before[i].Ctim, after.Ctim}} {
			if x.was != x.now && (x.name != "atime" || !t.noAtime) {
				moved = append(moved, x.name)
			}
		}
		t.note("after %s: %s moved %v", what, name, moved)
	}
	tick()
}

// tick waits until the clock that files get their times from shows another
// time. It moves by itself: there is nothing to wait for but it.
func tick() {
	var was, now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &was)
	for now = was; now == was; {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 500_000}, nil)
		_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	}
}

// list writes down the names of a directory, sorted, and that their inode
// numbers are those that stat tells.
func (t *tape) list(path string) {
	fd := t.open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if fd < 0 {
		return
	}
	defer unix.Close(fd)
	var names []string
	for _, e := range t.entries(fd) {
		text := fmt.Sprintf("%s/%d", digest([]byte(e.name)), e.kind)
		var st unix.Stat_t
		if err := unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			text += " " + outcome(err)
		} else if st.Ino != e.ino && e.name != ".." {
			text += " d_ino is not st_ino"
		}
		names = append(names, text)
	}
	slices.Sort(names)
	t.note("list %s: %v", short(path), names)
}

type entry struct {
	name string
	ino  uint64
	off  int64
	kind byte
}

// entries reads a directory from where its descriptor is.
func (t *tape) entries(fd int) (all []entry) {
	for {
		some, err := getdents(fd, 8<<10)
		if err != nil {
			t.note("getdents: %s", outcome(err))
			return all
		}
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

func getdents(fd, size int) (all []entry, err error) {
	buf := make([]byte, size)
	n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
	if err != nil {
		return nil, err
	}
	// struct linux_dirent64: ino u64, off i64, length u16, type u8, name.
	for rest := buf[:n]; len(rest) > 0; {
		length := binary.NativeEndian.Uint16(rest[16:])
		name, _, _ := strings.Cut(string(rest[19:length]), "\x00")
		all = append(all, entry{name, binary.NativeEndian.Uint64(rest), int64(binary.NativeEndian.Uint64(rest[8:])), rest[18]})
		rest = rest[length:]
	}
	return all, nil
}

// setxattr, getxattr, removexattr and listxattr are of the name itself.
func (t *tape) setxattr(path, name, value string, flags int) {
	t.did(unix.Lsetxattr(path, name, []byte(value), flags), "setxattr %s %s %s %d", short(path), short(name), digest([]byte(value)), flags)
}

func (t *tape) getxattr(path, name string, size int) {
	buf := make([]byte, size)
	n, err := unix.Lgetxattr(path, name, buf)
	if t.got(int64(n), err, "getxattr %s %s %d", short(path), short(name), size) > 0 && size > 0 {
		t.note("  %s", digest(buf[:n]))
	}
}

func (t *tape) removexattr(path, name string) {
	t.did(unix.Lremovexattr(path, name), "removexattr %s %s", short(path), short(name))
}

func (t *tape) listxattr(path string) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if t.failed(err, "listxattr %s", short(path)) {
		return
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	t.note("listxattr %s: %q", short(path), names)
}
