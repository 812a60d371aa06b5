package model

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// World is a directory and the descriptors that steps have opened in it. It
// uses bare system calls only: the mount it works on may be served by this
// very process.
type World struct {
	root  string
	slots [NumSlots]int
	maps  [NumSlots]*mapping
}

// NewWorld returns a world below the existing directory root.
func NewWorld(root string) *World {
	w := &World{root: root}
	for i := range w.slots {
		w.slots[i] = -1
	}
	return w
}

// Close closes all descriptors.
func (w *World) Close() {
	for i := range w.slots {
		w.closeSlot(i)
		w.unmap(i)
	}
}

func (w *World) closeSlot(i int) error {
	if w.slots[i] < 0 {
		return unix.EBADF
	}
	err := unix.Close(w.slots[i])
	w.slots[i] = -1
	return err
}

// Outcome is all that a step shows of itself. Two outcomes are compared with
// ==.
type Outcome struct {
	Err  error // a unix.Errno or nil
	N    int64
	Text string // what was read, and the objects afterwards
}

// String prints the outcome for a failing run.
func (o Outcome) String() string {
	if o.Err != nil {
		return fmt.Sprintf("%v (%d); %s", o.Err, o.N, o.Text)
	}
	return fmt.Sprintf("%d; %s", o.N, o.Text)
}

// Do makes the call and looks at every object that it named.
func (w *World) Do(s Step) Outcome {
	var out Outcome
	out.N, out.Text, out.Err = w.call(s)
	var after strings.Builder
	after.WriteString(out.Text)
	for _, path := range []string{s.Path, s.Path2} {
		if path != "" {
			fmt.Fprintf(&after, " | %s", w.lstat(s.Dir, path))
		}
	}
	fmt.Fprintf(&after, " | %s", fstat(w.slots[s.FD]))
	if s.Kind == CopyRange {
		fmt.Fprintf(&after, " | %s", fstat(w.slots[s.FD2]))
	}
	out.Text = after.String()
	return out
}

// at returns what a path of the step is relative to and the path to use.
func (w *World) at(dir int, path string) (int, string) {
	if dir >= 0 {
		return w.slots[dir], path
	}
	return unix.AT_FDCWD, w.root + "/" + path
}

func (w *World) call(s Step) (n int64, text string, err error) {
	fd := w.slots[s.FD]
	dir, path := w.at(s.Dir, s.Path)
	dir2, path2 := w.at(s.Dir, s.Path2)
	switch s.Kind {
	case Open, Tmpfile:
		flags := s.Flags | unix.O_CLOEXEC | unix.O_NONBLOCK
		if s.Kind == Tmpfile {
			flags |= unix.O_TMPFILE
		}
		got, err := unix.Openat(dir, path, flags, s.Mode&0o7777)
		if err != nil {
			return 0, "", err
		}
		w.closeSlot(s.FD)
		w.slots[s.FD] = got
		return 0, "", nil
	case LinkFD:
		return 0, "", unix.Linkat(fd, "", dir, path, unix.AT_EMPTY_PATH)
	case Close:
		return 0, "", w.closeSlot(s.FD)
	case Write, Pwrite:
		// The kernel keeps a pipe's times by itself, and not on any FUSE mount.
		if !isRegular(fd) {
			return 0, "not a file", nil
		}
		if s.Kind == Pwrite {
			m, err := overwrite(fd, data(s), s.Off)
			return int64(m), "", err
		}
		_, length := allowed(fd, 0, s.Len)
		buf := aligned(length)
		copy(buf, data(s))
		align(fd)
		m, err := unix.Write(fd, buf)
		return int64(m), "", err
	case Read, Pread:
		if !isRegular(fd) {
			return 0, "not a file", nil
		}
		if s.Kind == Pread {
			return digest(fd, s.Off, s.Len)
		}
		_, length := allowed(fd, 0, s.Len)
		buf := aligned(length)
		align(fd)
		m, err := unix.Read(fd, buf)
		if err != nil {
			return int64(m), "", err
		}
		sum := sha256.Sum256(buf[:m])
		return int64(m), fmt.Sprintf("read %x", sum[:6]), nil
	case Truncate:
		if s.Dir >= 0 {
			return 0, "", nil // there is no truncateat(2)
		}
		return 0, "", unix.Truncate(path, s.Off)
	case Ftruncate:
		return 0, "", unix.Ftruncate(fd, s.Off)
	case Fallocate:
		return 0, "", unix.Fallocate(fd, uint32(s.Flags), s.Off, s.Len)
	case CopyRange:
		// The end of the source is hardly ever where O_DIRECT may write.
		if direct(fd) || direct(w.slots[s.FD2]) {
			return 0, "O_DIRECT", nil
		}
		from, to := s.Off, s.Off2
		m, err := unix.CopyFileRange(fd, &from, w.slots[s.FD2], &to, int(s.Len), 0)
		return int64(m), fmt.Sprintf("offsets %d %d", from, to), err
	case SeekHole, SeekData:
		if !isRegular(fd) {
			return 0, "not a file", nil
		}
		whence := unix.SEEK_HOLE
		if s.Kind == SeekData {
			whence = unix.SEEK_DATA
		}
		n, err = unix.Seek(fd, s.Off, whence)
		return n, "", err
	case Rename:
		return 0, "", unix.Renameat2(dir, path, dir2, path2, uint(s.Flags))
	case Link:
		return 0, "", unix.Linkat(dir, path, dir2, path2, 0)
	case Symlink:
		return 0, "", unix.Symlinkat(s.Name, dir, path)
	case Unlink:
		return 0, "", unix.Unlinkat(dir, path, 0)
	case Rmdir:
		return 0, "", unix.Unlinkat(dir, path, unix.AT_REMOVEDIR)
	case Mkdir:
		return 0, "", unix.Mkdirat(dir, path, s.Mode)
	case Mknod:
		return 0, "", unix.Mknodat(dir, path, s.Mode, int(unix.Mkdev(uint32(s.ID), uint32(s.ID%7))))
	case Chmod:
		return 0, "", unix.Fchmodat(dir, path, s.Mode, 0)
	case Fchmod:
		return 0, "", unix.Fchmod(fd, s.Mode)
	case Chown:
		uid, gid := owner(s)
		return 0, "", unix.Fchownat(dir, path, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	case Fchown:
		uid, gid := owner(s)
		return 0, "", unix.Fchown(fd, uid, gid)
	case Utimens:
		return 0, "", unix.UtimesNanoAt(dir, path, times(s), unix.AT_SYMLINK_NOFOLLOW)
	case Futimens:
		// futimens(2) is utimensat(2) without a path.
		return 0, "", futimens(fd, times(s))
	case Setxattr:
		if s.Dir >= 0 {
			return 0, "", nil
		}
		return 0, "", unix.Lsetxattr(path, s.Name, value(s), s.Flags)
	case Fsetxattr:
		return 0, "", unix.Fsetxattr(fd, s.Name, value(s), s.Flags)
	case Removexattr:
		if s.Dir >= 0 {
			return 0, "", nil
		}
		return 0, "", unix.Lremovexattr(path, s.Name)
	case Fsync:
		return 0, "", unix.Fsync(fd)
	case Fdatasync:
		return 0, "", unix.Fdatasync(fd)
	case Readdir:
		text, err := w.readdir(dir, path)
		return 0, text, err
	case Map:
		return 0, "", w.mapFile(s)
	case Unmap:
		return 0, "", w.unmap(s.FD)
	case Store:
		return w.store(s)
	case Load:
		if w.maps[s.FD] == nil {
			return 0, "", unix.ENOENT
		}
		return 0, w.maps[s.FD].load(), nil
	case SetLock, GetLock, Flock:
		text, err := w.lock(s)
		return 0, text, err
	case Umask:
		return int64(unix.Umask(int(s.Mode))), "", nil
	case Reclaim:
		return 0, "", unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	}
	panic("step of no kind")
}

// readdir lists a directory with the type that each entry says it has.
func (w *World) readdir(dir int, path string) (string, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return "", err
		}
		if n == 0 {
			slices.Sort(names)
			return strings.Join(names, " "), nil
		}
		// struct linux_dirent64: ino u64, off i64, length u16, type u8, name.
		for rest := buf[:n]; len(rest) > 0; {
			length := binary.NativeEndian.Uint16(rest[16:])
			name, _, _ := strings.Cut(string(rest[19:length]), "\x00")
			names = append(names, fmt.Sprintf("%q/%d", name, rest[18]))
			rest = rest[length:]
		}
	}
}

func (w *World) lstat(dir int, path string) string {
	at, path := w.at(dir, path)
	var st unix.Stat_t
	if err := unix.Fstatat(at, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err.Error()
	}
	return describe(st)
}

func fstat(fd int) string {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err.Error()
	}
	return describe(st)
}

// describe prints what of an object's attributes must be equal. Times that a
// clock has set are not.
func describe(st unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	mtime := "clock"
	if st.Mtim.Sec < harness.ExplicitBefore {
		mtime = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	return fmt.Sprintf("%#o n=%d %d:%d dev=%x size=%d mtime=%s", st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev, size, mtime)
}

func isRegular(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFREG
}

// data returns the bytes that a write of the step carries.
func data(s Step) []byte {
	b := make([]byte, s.Len)
	x := uint32(s.ID) * 2654435761
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func owner(s Step) (uid, gid int) {
	switch s.ID % 4 {
	case 0:
		return s.ID, -1
	case 1:
		return -1, s.ID
	case 2:
		return 0, 0
	}
	if s.ID%3 == 0 {
		return memberID, memberID
	}
	return s.ID, s.ID + 1
}

func times(s Step) []unix.Timespec {
	mtime := unix.Timespec{Sec: int64(s.ID) * 1_000_003, Nsec: int64(s.ID) * 900_001}
	atime := unix.Timespec{Sec: int64(s.ID)}
	switch s.ID % 10 {
	case 0:
		mtime.Nsec = unix.UTIME_NOW
	case 1:
		mtime.Nsec = unix.UTIME_OMIT
	case 2:
		mtime.Sec = -mtime.Sec
	case 3:
		atime.Nsec = unix.UTIME_OMIT
	}
	return []unix.Timespec{atime, mtime}
}
