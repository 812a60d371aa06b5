package exact

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Content: sizes, holes, allocation, copies.
var dataCases = map[string]func(*tape){
	"holes": func(t *tape) {
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		t.seek(fd, 0, unix.SEEK_DATA)
		t.seek(fd, 0, unix.SEEK_HOLE)
		t.pwrite(fd, "a", 0)
		t.pwrite(fd, "b", 1<<20)
		t.pwrite(fd, "c", 5<<20)
		t.ftruncate(fd, 6<<20)
		t.did(unix.Fsync(fd), "fsync")
		for _, off := range []int64{0, 1, 4096, 8192, 1 << 20, 1<<20 + 4095, 1<<20 + 4096, 5 << 20, 5<<20 + 4096, 6<<20 - 1, 6 << 20, 6<<20 + 1, -1} {
			t.seek(fd, off, unix.SEEK_DATA)
			t.seek(fd, off, unix.SEEK_HOLE)
			t.seek(fd, off, unix.SEEK_SET)
			t.seek(fd, 0, unix.SEEK_CUR)
		}
		t.seek(fd, 5, 17)
		t.blocks("f")
		t.fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 4096)
		t.seek(fd, 4096, unix.SEEK_DATA)
		t.blocks("f")
		t.all(fd)
		t.close(fd)
	},
	"fallocate": func(t *tape) {
		const keep = unix.FALLOC_FL_KEEP_SIZE
		for _, mode := range []uint32{0, keep, unix.FALLOC_FL_PUNCH_HOLE | keep, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | keep} {
			for _, r := range [][2]int64{{0, 4096}, {100, 50}, {4000, 5000}, {0, 1 << 20}, {9000, 10}, {20000, 1000}, {0, 0}, {-1, 10}, {5, -1}, {1 << 62, 1}, {1 << 44, 4096}} {
				fd := t.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_TRUNC, 0o644)
				t.pwrite(fd, fill(10000, 9), 0)
				t.moved("fallocate", func() { t.fallocate(fd, mode, r[0], r[1]) }, "f")
				t.did(unix.Fsync(fd), "fsync")
				t.fstat(fd)
				t.blocks("f")
				t.all(fd)
				t.close(fd)
				t.unlink("f")
			}
		}
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_APPEND, 0o644)
		t.fallocate(fd, 0, 0, 100)
		t.write(fd, "behind")
		t.all(fd)
		t.close(fd)
		t.mknod("p", unix.S_IFIFO|0o600, 0)
		fd = t.open("p", unix.O_RDWR, 0)
		t.fallocate(fd, 0, 0, 100)
		t.close(fd)
		fd = t.open(".", unix.O_RDONLY, 0)
		t.fallocate(fd, 0, 0, 100)
		t.close(fd)
	},
	"sizes": func(t *tape) {
		t.file("f", "contents", 0o644)
		fd := t.open("f", unix.O_RDWR, 0)
		for _, size := range []int64{0, 1, 4095, 4096, 4097, 1 << 20, 1 << 40, 1<<44 - 4096, 1<<44 - 4095, 1 << 44, 1 << 50, 1<<63 - 1, -1, 5} {
			t.truncate("f", size)
			t.fstat(fd)
			t.ftruncate(fd, size)
			t.fstat(fd)
			t.pwrite(fd, "z", size)
			t.fstat(fd)
			t.blocks("f")
		}
		t.truncate("f", 9)
		t.all(fd)
		t.close(fd)
		t.mkdir("d", 0o755)
		t.symlink("f", "l")
		t.truncate("d", 0)
		t.truncate("l", 3)
		t.truncate("none", 3)
		t.truncate("f/x", 3)
		t.mknod("p", unix.S_IFIFO|0o600, 0)
		t.truncate("p", 3)
		t.cat("f")
		fd = t.open("f", unix.O_RDONLY, 0)
		t.ftruncate(fd, 0)
		t.close(fd)
		t.file("g", fill(5000, 0), 0o644)
		fd = t.open("g", unix.O_RDWR, 0)
		t.pread(fd, 5000, 0)
		t.ftruncate(fd, 4000)
		t.ftruncate(fd, 5000)
		t.all(fd) // zeroes where there was something
		t.close(fd)
	},
	"limit": func(t *tape) {
		signal.Ignore(syscall.SIGXFSZ)
		var old unix.Rlimit
		t.did(unix.Getrlimit(unix.RLIMIT_FSIZE, &old), "getrlimit")
		t.did(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10000, Max: old.Max}), "setrlimit")
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		t.pwrite(fd, fill(9000, 1), 0)
		t.pwrite(fd, fill(2000, 1), 9000)
		t.pwrite(fd, "x", 10000)
		t.ftruncate(fd, 10001)
		t.ftruncate(fd, 10000)
		t.fallocate(fd, 0, 0, 10001)
		t.fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 10001)
		t.copyRange(fd, fd, 0, 9990, 100)
		t.fstat(fd)
		t.all(fd)
		t.close(fd)
		t.did(unix.Setrlimit(unix.RLIMIT_FSIZE, &old), "setrlimit")
	},
	"copy": func(t *tape) {
		t.file("a", fill(300000, 1), 0o644)
		t.file("b", "", 0o644)
		a, b := t.open("a", unix.O_RDWR, 0), t.open("b", unix.O_RDWR, 0)
		for _, c := range []struct {
			in, out int64
			size    int
		}{{0, 0, 100}, {0, 50, 4096}, {299990, 0, 100}, {300000, 0, 100}, {400000, 0, 100}, {0, 1 << 20, 5000}, {5, 7, 200000}, {0, 0, 0}, {-1, 0, 5}, {0, -1, 5}, {0, 1<<63 - 10, 100}} {
			t.moved("copy", func() { t.copyRange(a, b, c.in, c.out, c.size) }, "a", "b")
			t.fstat(b)
			t.all(b)
		}
		t.copyRange(a, a, 0, 300000, 1000)
		t.copyRange(a, a, 0, 500, 1000)
		t.copyRange(a, a, 1000, 0, 1000)
		t.copyRange(a, a, 299999, 310000, 1<<30)
		t.all(a)
		reading, appending := t.open("a", unix.O_RDONLY, 0), t.open("b", unix.O_WRONLY|unix.O_APPEND, 0)
		t.copyRange(b, reading, 0, 0, 10)
		t.copyRange(appending, a, 0, 0, 10)
		t.copyRange(a, appending, 0, 0, 10)
		dir := t.open(".", unix.O_RDONLY, 0)
		t.copyRange(dir, a, 0, 0, 10)
		t.copyRange(a, dir, 0, 0, 10)
		n, err := unix.CopyFileRange(a, nil, b, nil, 10, 7)
		t.got(int64(n), err, "copy_file_range with flags")
		n, err = unix.CopyFileRange(a, nil, b, nil, 10, 0)
		t.got(int64(n), err, "copy_file_range from where they are")
		t.seek(a, 0, unix.SEEK_CUR)
		t.seek(b, 0, unix.SEEK_CUR)
		n, err = retry(func() (int, error) { var off int64 = 5; return unix.Sendfile(b, a, &off, 5000) })
		t.got(int64(n), err, "sendfile")
		t.all(b)
		for _, fd := range []int{a, b, reading, appending, dir} {
			t.close(fd)
		}
		// A hole stays one.
		t.file("sparse", "", 0o644)
		t.truncate("sparse", 8<<20)
		a, b = t.open("sparse", unix.O_RDWR, 0), t.open("copy", unix.O_CREAT|unix.O_RDWR, 0o600)
		t.pwrite(a, "end", 8<<20-3)
		t.copyRange(a, b, 0, 0, 8<<20)
		t.all(b)
		t.close(a)
		t.close(b)
	},
	"vectors": func(t *tape) {
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		var many [][]byte
		for i := range 100 {
			many = append(many, []byte(fill(i*37, byte(i))))
		}
		n, err := unix.Pwritev(fd, many, 3)
		t.got(int64(n), err, "pwritev")
		t.all(fd)
		for i := range many {
			clear(many[i])
		}
		n, err = unix.Preadv(fd, many, 3)
		t.got(int64(n), err, "preadv")
		t.note("%s", digest(many[99]))
		big := fill(3<<20+5, 4)
		t.pwrite(fd, big, 4095)
		t.pread(fd, 3<<20, 4000)
		t.pread(fd, 10, 4095+3<<20)
		t.all(fd)
		t.pwrite(fd, "x", -1)
		t.pread(fd, 1, -1)
		t.close(fd)
		t.write(-1, "x")
	},
	"interleaved": func(t *tape) {
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		again := t.open("f", unix.O_RDWR, 0)
		for i := range 20 {
			off := int64(i * 1777 % 20000)
			t.pwrite(fd, fill(i*211, byte(i)), off)
			t.pread(again, 8192, off/2)
			t.ftruncate(again, int64(20000-i*500))
			t.pread(fd, 8192, int64(20000-i*500)-4000)
			t.fstat(fd)
		}
		t.close(fd)
		t.close(again)
		t.cat("f")
	},
	"births": func(t *tape) {
		t.file("f", "x", 0o644)
		var before, after unix.Statx_t
		const mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
		t.did(unix.Statx(unix.AT_FDCWD, "f", 0, mask, &before), "statx")
		tick()
		fd := t.open("f", unix.O_RDWR|unix.O_TRUNC, 0)
		t.write(fd, "y")
		t.did(unix.Statx(fd, "", unix.AT_EMPTY_PATH, mask, &after), "statx of the descriptor")
		t.note("mask %#x of which asked for %#x, born then %t", after.Mask, after.Mask&mask, before.Btime == after.Btime && after.Btime.Sec > 0)
		t.note("born before it changed %t", after.Btime.Sec < after.Ctime.Sec || after.Btime.Nsec < after.Ctime.Nsec)
		t.unlink("f")
		t.did(unix.Statx(fd, "", unix.AT_EMPTY_PATH, mask, &after), "statx of the unlinked")
		t.note("born then %t, links %d", before.Btime == after.Btime, after.Nlink)
		t.did(unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, &after), "statx for the size")
		t.note("size %d of %#x", after.Size, after.Mask&unix.STATX_SIZE)
		t.close(fd)
		t.did(unix.Statx(unix.AT_FDCWD, "none", 0, mask, &after), "statx of nothing")
		t.did(unix.Statx(unix.AT_FDCWD, ".", 0, 1<<31, &after), "statx with a wrong mask")
		t.symlink("none", "l")
		t.did(unix.Statx(unix.AT_FDCWD, "l", unix.AT_SYMLINK_NOFOLLOW, mask, &after), "statx of a link")
		t.note("mode %#o size %d", after.Mode, after.Size)
		t.did(unix.Statx(unix.AT_FDCWD, "l", 0, mask, &after), "statx through a link")
	},
}
