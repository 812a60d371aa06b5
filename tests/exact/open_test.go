package exact

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The flags of open(2), and what a descriptor then does.
var openCases = map[string]func(*tape){
	"flags": func(t *tape) {
		t.file("f", "contents", 0o644)
		t.mkdir("d", 0o755)
		t.symlink("f", "l")
		t.symlink("d", "ld")
		t.symlink("none", "dangling")
		t.symlink("loop", "loop")
		t.mknod("p", unix.S_IFIFO|0o644, 0)
		t.mknod("s", unix.S_IFSOCK|0o644, 0)
		all := []int{
			unix.O_CREAT, unix.O_EXCL, unix.O_CREAT | unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND, unix.O_DIRECTORY, unix.O_NOFOLLOW,
			unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_TMPFILE, unix.O_NOATIME, unix.O_SYNC, unix.O_DSYNC, unix.O_DIRECT,
			unix.O_CREAT | unix.O_DIRECTORY, unix.O_CREAT | unix.O_NOFOLLOW, unix.O_TRUNC | unix.O_APPEND,
		}
		for _, path := range []string{"f", "d", "l", "ld", "dangling", "loop", "p", "s", "none2", "f/x", "d/", "f/", "none/x", "", "."} {
			for _, access := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_ACCMODE} {
				for _, flags := range all {
					fd := t.open(path, access|flags|unix.O_NONBLOCK, 0o600)
					if fd >= 0 {
						got, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
						t.got(int64(got), err, "F_GETFL")
						t.fstat(fd)
						t.close(fd)
					}
				}
			}
		}
		t.list(".")
	},
	"descriptor": func(t *tape) {
		for _, access := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
			for _, flags := range []int{0, unix.O_APPEND, unix.O_TRUNC, unix.O_SYNC, unix.O_DSYNC, unix.O_APPEND | unix.O_DSYNC} {
				t.file("f", "0123456789", 0o644)
				fd := t.open("f", access|flags, 0)
				t.write(fd, "abc")
				t.pwrite(fd, "XY", 1)
				t.pread(fd, 4, 0)
				t.seek(fd, 0, unix.SEEK_CUR)
				t.seek(fd, 0, unix.SEEK_END)
				t.write(fd, "end")
				t.ftruncate(fd, 12)
				t.fallocate(fd, 0, 0, 20)
				t.fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3)
				t.did(unix.Fsync(fd), "fsync")
				t.did(unix.Fdatasync(fd), "fdatasync")
				t.did(unix.Fchmod(fd, 0o600), "fchmod")
				t.futimens(fd, at(5, 0), at(6, 0))
				t.did(unix.Fsetxattr(fd, "user.x", []byte("v"), 0), "fsetxattr")
				t.did(unix.SyncFileRange(fd, 0, 4, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER), "sync_file_range")
				t.did(unix.Syncfs(fd), "syncfs")
				t.did(unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED), "fadvise")
				_, err := unix.Getdents(fd, make([]byte, 1000))
				t.did(err, "getdents")
				t.close(fd)
				t.cat("f")
				t.unlink("f")
			}
		}
		fd := t.open(".", unix.O_PATH, 0)
		t.fstat(fd)
		t.write(fd, "x")
		t.pread(fd, 1, 0)
		t.fchmod(fd, 0o755)
		t.fchown(fd, -1, -1)
		t.ftruncate(fd, 0)
		t.did(unix.Fsync(fd), "fsync")
		_, err := unix.Getdents(fd, make([]byte, 1000))
		t.did(err, "getdents")
		t.close(t.openat(fd, "made", unix.O_CREAT|unix.O_RDWR, 0o640))
		t.close(fd)
		t.stat("made")
		fd = t.open(".", unix.O_RDONLY, 0)
		t.write(fd, "x")
		t.pread(fd, 1, 0)
		t.ftruncate(fd, 0)
		t.fallocate(fd, 0, 0, 1)
		t.fchmod(fd, 0o777)
		t.did(unix.Fsync(fd), "fsync of a directory")
		t.did(unix.Fdatasync(fd), "fdatasync of a directory")
		t.did(unix.Syncfs(fd), "syncfs of a directory")
		t.close(fd)
	},
	"truncating": func(t *tape) {
		t.file("f", fill(10000, 1), 0o644)
		reader := t.open("f", unix.O_RDONLY, 0)
		writer := t.open("f", unix.O_RDWR, 0)
		t.pread(reader, 100, 9000)
		t.close(t.open("f", unix.O_RDONLY|unix.O_TRUNC, 0))
		t.fstat(reader)
		t.all(reader)
		t.pwrite(writer, "tail", 5000)
		t.all(reader)
		t.close(t.open("f", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600))
		t.all(reader)
		t.moved("O_TRUNC of an empty file", func() { t.close(t.open("f", unix.O_WRONLY|unix.O_TRUNC, 0)) }, "f")
		t.moved("truncate to the same size", func() { t.truncate("f", 0) }, "f")
		t.moved("ftruncate to the same size", func() { t.ftruncate(writer, 0) }, "f")
		t.moved("O_CREAT of what is there", func() { t.close(t.open("f", unix.O_WRONLY|unix.O_CREAT, 0o600)) }, "f", ".")
		t.close(reader)
		t.close(writer)
		t.stat("f")
	},
	"append": func(t *tape) {
		t.file("f", "", 0o644)
		// Writers beside each other, each with descriptors of its own.
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				f, err := os.OpenFile("f", os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					panic(err)
				}
				defer f.Close()
				for i := range 200 {
					if _, err := fmt.Fprintf(f, "%d %04d\n", w, i); err != nil {
						panic(err)
					}
				}
			})
		}
		writers.Wait()
		text, err := os.ReadFile("f")
		t.did(err, "read")
		next := [4]int{}
		for len(text) >= 7 {
			var w, i int
			if _, err := fmt.Sscanf(string(text[:7]), "%d %04d\n", &w, &i); err != nil || i != next[w] {
				t.note("torn or out of order: %q", text[:7])
				break
			}
			next[w]++
			text = text[7:]
		}
		t.note("appended %v, %d left over", next, len(text))
		fd := t.open("f", unix.O_RDWR|unix.O_APPEND, 0)
		t.ftruncate(fd, 3)
		t.pwrite(fd, "P", 0)
		n, err := unix.Pwritev2(fd, [][]byte{[]byte("not appended")}, 0, 0x20) // RWF_NOAPPEND
		t.got(int64(n), err, "pwritev2 RWF_NOAPPEND")
		t.all(fd)
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
		t.did(err, "F_SETFL without O_APPEND")
		t.pwrite(fd, "Q", 0)
		t.all(fd)
		t.close(fd)
		fd = t.open("f", unix.O_RDWR, 0)
		n, err = unix.Pwritev2(fd, [][]byte{[]byte("more"), []byte("!")}, 0, unix.RWF_APPEND)
		t.got(int64(n), err, "pwritev2 RWF_APPEND")
		for _, flags := range []int{unix.RWF_SYNC, unix.RWF_DSYNC, unix.RWF_HIPRI, 1 << 20} {
			n, err = unix.Pwritev2(fd, [][]byte{[]byte("zz")}, 1, flags)
			t.got(int64(n), err, "pwritev2 %#x", flags)
			n, err = unix.Preadv2(fd, [][]byte{make([]byte, 2)}, 1, flags)
			t.got(int64(n), err, "preadv2 %#x", flags)
		}
		t.all(fd)
		t.close(fd)
	},
	"tmpfile": func(t *tape) {
		t.umask(0o022)
		for _, u := range []user{root, alice} {
			t.chmod(".", 0o777)
			t.as(u, func() {
				fd := t.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o666)
				t.fstat(fd)
				t.write(fd, "nameless")
				t.did(unix.Fsetxattr(fd, "user.a", []byte("b"), 0), "fsetxattr")
				t.futimens(fd, at(100, 5), at(200, 6))
				t.fchmod(fd, 0o640)
				again := t.reopen(fd, unix.O_RDWR)
				t.pwrite(again, "N", 0)
				t.did(unix.Linkat(fd, "", unix.AT_FDCWD, "linked"+u.name, unix.AT_EMPTY_PATH), "linkat with AT_EMPTY_PATH")
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "proc"+u.name, unix.AT_SYMLINK_FOLLOW), "linkat through /proc")
				t.fstat(again)
				t.stat("proc" + u.name)
				t.write(fd, " no more")
				t.close(fd)
				t.all(again)
				t.close(again)
				t.cat("proc" + u.name)
				t.getxattr("proc"+u.name, "user.a", 10)
				t.unlink("proc" + u.name)

				fd = t.open(".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_EXCL, 0o666)
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "excl", unix.AT_SYMLINK_FOLLOW), "linkat of O_EXCL")
				t.close(fd)
				fd = t.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o400)
				t.write(fd, "read only by mode")
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "linked", unix.AT_SYMLINK_FOLLOW), "linkat")
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "linked", unix.AT_SYMLINK_FOLLOW), "linkat over a name")
				t.unlink("linked")
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "linked", unix.AT_SYMLINK_FOLLOW), "linkat once more")
				t.fstat(fd)
				t.close(fd)
			})
		}
		t.list(".")
	},
	"many": func(t *tape) {
		t.file("f", "x", 0o644)
		var old unix.Rlimit
		t.did(unix.Getrlimit(unix.RLIMIT_NOFILE, &old), "getrlimit")
		t.did(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: old.Max}), "setrlimit")
		var fds []int
		for {
			fd, err := retry(func() (int, error) { return unix.Open("f", unix.O_RDWR|unix.O_CLOEXEC, 0) })
			if err != nil {
				t.note("in the end: %s", outcome(err))
				break
			}
			fds = append(fds, fd)
		}
		// What could not be opened is not there either.
		_, err := unix.Open("g", unix.O_CREAT|unix.O_RDWR, 0o600)
		t.did(err, "create")
		for _, fd := range fds {
			unix.Close(fd)
		}
		t.stat("f", "g")
	},
	"direct, misaligned": func(t *tape) {
		t.file("f", fill(20_000, 1), 0o644)
		fd := t.open("f", unix.O_RDWR|unix.O_DIRECT, 0)
		block := aligned(4 << 20)
		copy(block, fill(4<<20, 2))
		at := func(from, size int, off int64) {
			n, err := unix.Pread(fd, block[from:from+size], off)
			t.got(int64(n), err, "pread %d at %d", size, off)
			n, err = unix.Pwrite(fd, block[from:from+size], off)
			t.got(int64(n), err, "pwrite %d at %d from %d", size, off, from)
			t.fstat(fd)
		}
		for _, size := range []int{0, 1, 100, 511, 512, 513, 1024, 4095, 4096, 4097, 5000} {
			for _, off := range []int64{0, 1, 256, 512, 1000, 4095, 4096, 19_999, 20_000, 20_480, 100_001} {
				at(0, size, off)
			}
		}
		// So long that it comes in pieces. If only the last one is odd, the others
		// are done, where ext4 does nothing.
		for _, from := range []int{0, 512} {
			for _, size := range []int{1 << 20, 1<<20 + 512, 3 << 20} {
				at(from, size, 0)
				at(from, size, 4096)
				at(from, size, 100)
			}
		}
		n, err := unix.Pwritev(fd, [][]byte{block[:512], block[1024:1536], block[4096:8192]}, 512)
		t.got(int64(n), err, "pwritev")
		n, err = unix.Pwritev(fd, [][]byte{block[:512], block[1024:1524], block[4096:8192]}, 512)
		t.got(int64(n), err, "pwritev")
		t.ftruncate(fd, 20_000)
		m, err := unix.Mmap(fd, 0, 20_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if t.did(err, "mmap") == nil {
			copy(m[19_990:], "the end")
			t.did(unix.Msync(m, unix.MS_SYNC), "msync")
			t.did(unix.Munmap(m), "munmap")
		}
		appending := t.open("f", unix.O_WRONLY|unix.O_APPEND|unix.O_DIRECT, 0)
		n, err = unix.Write(appending, block[:512])
		t.got(int64(n), err, "append to an odd end")
		n, err = unix.Write(appending, block[:480])
		t.got(int64(n), err, "append to an odd end up to an even one")
		t.close(appending)
		// Directness comes and goes.
		t.did(setfl(fd, 0), "fcntl")
		n, err = unix.Pwrite(fd, block[:100], 50)
		t.got(int64(n), err, "pwrite")
		t.did(setfl(fd, unix.O_DIRECT), "fcntl")
		n, err = unix.Pwrite(fd, block[:100], 50)
		t.got(int64(n), err, "pwrite")
		t.close(fd)
		t.cat("f")
	},
	"direct": func(t *tape) {
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o644)
		buffered := t.open("f", unix.O_RDWR, 0)
		block := aligned(8192)
		copy(block, fill(8192, 3))
		n, err := unix.Pwrite(fd, block, 0)
		t.got(int64(n), err, "pwrite of two blocks")
		t.all(buffered)
		n, err = unix.Pwrite(fd, block[:4096], 16384)
		t.got(int64(n), err, "pwrite behind a hole")
		t.all(buffered)
		t.pwrite(buffered, "buffered", 100)
		n, err = unix.Pread(fd, block, 0)
		t.got(int64(n), err, "pread")
		t.note("%s", digest(block))
		n, err = unix.Pread(fd, block, 16384+4096)
		t.got(int64(n), err, "pread at the end")
		t.ftruncate(buffered, 5000)
		n, err = unix.Pread(fd, block, 4096)
		t.got(int64(n), err, "pread of the last block")
		t.note("%s", digest(block[:904]))
		t.fstat(fd)
		t.close(fd)
		fd = t.open("f", unix.O_WRONLY|unix.O_APPEND|unix.O_DIRECT|unix.O_DSYNC, 0)
		t.ftruncate(fd, 4096)
		copy(block, fill(4096, 7))
		n, err = unix.Write(fd, block[:4096])
		t.got(int64(n), err, "append")
		t.close(fd)
		t.all(buffered)
		t.close(buffered)
	},
}

func setfl(fd, flags int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return err
}
