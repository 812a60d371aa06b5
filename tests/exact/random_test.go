package exact

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"
)

// walker makes random calls on few names, so that they meet.
type walker struct {
	*tape
	*rand.Rand
	fds []int
	// kinds is how many kinds of calls there are to choose from, by the hundred.
	kinds int
}

// Of the kinds of calls the last ones lock files and directories, or give them
// access lists.
const (
	plain  = 100
	locked = 112
)

var people = []user{root, alice, bob, carol, tame, fowner}

// random makes some hundred calls. What it chooses depends on the seed and on
// what calls returned, which has to be the same in both places.
func random(t *tape, kinds int, seed uint64) {
	// What is cached moves no atime.
	t.noAtime = true
	// Of two reasons to refuse a call the kernel finds another one first if it
	// does not know of inode flags.
	t.anyError = kinds == locked
	w := &walker{tape: t, Rand: rand.New(rand.NewPCG(seed, 1)), kinds: kinds}
	t.umask(0)
	// A level down, since there are links out of where it is: what they lead to
	// must not be there for the next seed.
	t.mkdir("top", 0o777)
	t.did(unix.Chdir("top"), "chdir")
	t.chmod(".", 0o777)
	for range 60 {
		u := people[w.IntN(len(people))]
		t.umask([]int{0, 0o022, 0o027, 0o077}[w.IntN(4)])
		t.as(u, func() {
			for range 1 + w.IntN(15) {
				w.step()
			}
		})
	}
	for _, fd := range w.fds {
		t.fstat(fd)
		t.close(fd)
	}
	w.walk(".")
}

// path returns a name that may be there or not, up to three levels deep.
func (w *walker) path() string {
	path := fmt.Sprintf("n%d", w.IntN(6))
	for range w.IntN(3) {
		path += fmt.Sprintf("/n%d", w.IntN(4))
	}
	return path
}

func (w *walker) mode() uint32 {
	modes := []uint32{0o644, 0o600, 0o666, 0o755, 0o777, 0o6777, 0o2775, 0o2664, 0o1777, 0o4755, 0o700, 0}
	return modes[w.IntN(len(modes))]
}

func (w *walker) id() int { return []int{-1, 0, 1000, 1001, 2000, 2001}[w.IntN(6)] }

func (w *walker) offset() int64 {
	return []int64{0, 1, 100, 4095, 4096, 4097, 10000, 65536, 65537, 200000}[w.IntN(10)]
}

func (w *walker) size() int {
	sizes := []int{0, 1, 10, 4096, 5000, 70000}
	if w.kinds == locked {
		sizes[0] = 2 // nothing may be written to a locked file without an error
	}
	return sizes[w.IntN(6)]
}

func (w *walker) step() {
	switch n := w.IntN(w.kinds); {
	case n < 14:
		flags := []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR}[w.IntN(3)]
		for _, f := range []int{unix.O_CREAT, unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND, unix.O_NOFOLLOW, unix.O_DSYNC, unix.O_PATH} {
			if w.IntN(3) == 0 {
				flags |= f
			}
		}
		w.take(w.open(w.path(), flags|unix.O_NONBLOCK, w.mode()))
	case n < 16:
		w.take(w.open(w.path(), unix.O_TMPFILE|unix.O_RDWR, w.mode()))
	case n < 24:
		w.mkdir(w.path(), w.mode())
	case n < 27:
		w.mknod(w.path(), []uint32{unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR}[w.IntN(4)]|w.mode(), 0x103)
	case n < 29:
		w.symlink([]string{"n0", "n1/n2", "../n3", "none"}[w.IntN(4)], w.path())
	case n < 33:
		w.unlink(w.path())
	case n < 36:
		w.rmdir(w.path())
	case n < 41:
		w.link(w.path(), w.path())
	case n < 50:
		from, to := w.path(), w.path()
		w.moved("rename", func() {
			w.rename(from, to, []uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT}[w.IntN(5)])
		}, from, to)
		w.stat(from, to)
	case n < 55:
		path := w.path()
		w.chmod(path, w.mode())
		w.stat(path)
	case n < 59:
		path := w.path()
		w.chown(path, w.id(), w.id())
		w.stat(path)
	case n < 62:
		path := w.path()
		w.utimes(path, at(int64(w.IntN(1<<30)), 5), at(0, []int64{unix.UTIME_NOW, unix.UTIME_OMIT, 77}[w.IntN(3)]))
		w.stat(path)
	case n < 66:
		path, name := w.path(), fmt.Sprintf("%s%d", []string{"user.", "user.", "trusted."}[w.IntN(3)], w.IntN(3))
		switch w.IntN(3) {
		case 0:
			w.setxattr(path, name, fill(w.IntN(300), 0), w.IntN(3))
		case 1:
			w.removexattr(path, name)
		case 2:
			w.getxattr(path, name, w.IntN(300))
			w.listxattr(path)
		}
	case n < 68:
		path := w.path()
		w.truncate(path, w.offset())
		w.stat(path)
	case n < 71:
		w.stat(w.path())
		if w.kinds == plain { // and then grants more than there is
			w.access(w.path(), uint32(w.IntN(8)))
		}
	case n < 100:
		w.use(n)
	case n < 106:
		path := w.path()
		w.chattr(path, []int{flagAppend, flagImmutable, flagNodump, flagNoatime | flagSync, flagDirsync, 0, 0, 0}[w.IntN(8)])
		w.stat(path)
	default:
		path, perm := w.path(), func() uint32 { return uint32(w.IntN(8)) }
		list, name := listFor(perm(), perm(), perm(), perm(), perm(), perm()), []string{access, defaults}[w.IntN(2)]
		_, err := unix.Lgetxattr(path, name, nil)
		if w.IntN(4) == 0 {
			if err == nil { // to take from what is locked what it does not have may succeed
				w.removexattr(path, name)
			}
		} else {
			w.setxattr(path, name, list, 0)
		}
		w.stat(path)
		w.getxattr(path, name, 100)
	}
}

func (w *walker) take(fd int) {
	if fd >= 0 {
		w.fds = append(w.fds, fd)
	}
	for len(w.fds) > 12 {
		w.close(w.fds[0])
		w.fds = w.fds[1:]
	}
}

// use makes a call on something open.
func (w *walker) use(n int) {
	if len(w.fds) == 0 {
		return
	}
	fd, other := w.fds[w.IntN(len(w.fds))], w.fds[w.IntN(len(w.fds))]
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return // a FIFO has its content in memory
	}
	switch {
	case n < 78:
		w.fmoved("pwrite", func() { w.pwrite(fd, fill(w.size(), byte(n)), w.offset()) }, fd)
	case n < 80:
		w.write(fd, fill(w.size(), byte(n)))
	case n < 83:
		w.pread(fd, w.size(), w.offset())
	case n < 86:
		w.fmoved("ftruncate", func() { w.ftruncate(fd, w.offset()) }, fd)
	case n < 89:
		modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE}
		w.fmoved("fallocate", func() { w.fallocate(fd, modes[w.IntN(4)], w.offset(), int64(w.size())) }, fd)
	case n < 92:
		from, to, size := w.offset(), w.offset(), w.size()
		var st unix.Stat_t
		if w.kinds == locked && unix.Fstat(other, &st) == nil && from >= st.Size {
			return // there is nothing to copy: to what may not be changed that succeeds
		}
		w.fmoved("copy_file_range", func() { w.copyRange(other, fd, from, to, size) }, fd)
	case n < 94:
		w.fchmod(fd, w.mode())
	case n < 95:
		w.fchown(fd, w.id(), w.id())
	case n < 96:
		w.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, w.path(), unix.AT_SYMLINK_FOLLOW), "linkat through /proc")
	case n < 97:
		w.take(w.reopen(fd, []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC}[w.IntN(3)]))
	case n < 98:
		w.did(unix.Fsync(fd), "fsync")
	case n < 99:
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return // where a directory ends nobody says
		}
		// Not for data or holes: space that was reserved is data where it was read,
		// and the mount reads farther ahead.
		w.seek(fd, w.offset(), unix.SEEK_END)
	}
	w.fstat(fd)
}

// walk writes down all that is there.
func (w *walker) walk(dir string) {
	w.list(dir)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	kinds := map[string]byte{}
	for _, e := range w.entries(fd) {
		if e.name != "." && e.name != ".." {
			kinds[e.name] = e.kind
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		path := dir + "/" + name
		w.stat(path)
		w.listxattr(path)
		switch kinds[name] {
		case unix.DT_REG:
			w.cat(path)
		case unix.DT_LNK:
			w.readlink(path)
		case unix.DT_DIR:
			w.walk(path)
		}
	}
}
