package exact

import (
	"math"

	"golang.org/x/sys/unix"
)

// Which calls move which times, and times that are set.
var timeCases = map[string]func(*tape){
	"moved": func(t *tape) {
		t.umask(0)
		t.mkdir("d", 0o755)
		t.file("d/f", "contents", 0o644)
		t.mkdir("d/sub", 0o755)
		t.symlink("f", "d/l")
		fd := t.open("d/f", unix.O_RDWR, 0)
		all := []string{"d", "d/f", "d/sub", "d/l"}
		for _, c := range []struct {
			name string
			call func()
		}{
			{"create", func() { t.close(t.open("d/new", unix.O_CREAT|unix.O_RDWR, 0o600)) }},
			{"create over", func() { t.close(t.open("d/new", unix.O_CREAT|unix.O_RDWR, 0o600)) }},
			{"exclusive create over", func() { t.open("d/new", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600) }},
			{"mkdir", func() { t.mkdir("d/sub/x", 0o700) }},
			{"mkdir over", func() { t.mkdir("d/sub/x", 0o700) }},
			{"mknod", func() { t.mknod("d/p", unix.S_IFIFO|0o600, 0) }},
			{"symlink", func() { t.symlink("x", "d/x") }},
			{"link", func() { t.link("d/f", "d/hard") }},
			{"rename", func() { t.rename("d/hard", "d/sub/hard", 0) }},
			{"rename of a directory", func() { t.rename("d/sub", "d/moved", 0) }},
			{"rename back", func() { t.rename("d/moved", "d/sub", 0) }},
			{"unlink", func() { t.unlink("d/sub/hard") }},
			{"rmdir", func() { t.rmdir("d/sub/x") }},
			{"unlink of nothing", func() { t.unlink("d/none") }},
			{"rmdir of what is not empty", func() { t.rmdir("d") }},
			{"write", func() { t.pwrite(fd, "x", 0) }},
			{"write of nothing", func() { t.pwrite(fd, "", 0) }},
			{"truncate", func() { t.truncate("d/f", 5) }},
			{"truncate to the same", func() { t.truncate("d/f", 5) }},
			{"ftruncate", func() { t.ftruncate(fd, 9) }},
			{"fallocate", func() { t.fallocate(fd, 0, 0, 100) }},
			{"fallocate of what is there", func() { t.fallocate(fd, 0, 0, 100) }},
			{"punch", func() { t.fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 50) }},
			{"chmod", func() { t.chmod("d/f", 0o640) }},
			{"chmod to the same", func() { t.chmod("d/f", 0o640) }},
			{"chmod of a directory", func() { t.chmod("d/sub", 0o700) }},
			{"chown", func() { t.chown("d/f", 5, 5) }},
			{"chown to the same", func() { t.chown("d/f", 5, 5) }},
			{"chown of nobody", func() { t.chown("d/f", -1, -1) }},
			{"chown of a link", func() { t.chown("d/l", 5, 5) }},
			{"setxattr", func() { t.setxattr("d/f", "user.a", "b", 0) }},
			{"setxattr to the same", func() { t.setxattr("d/f", "user.a", "b", 0) }},
			{"removexattr", func() { t.removexattr("d/f", "user.a") }},
			{"removexattr of nothing", func() { t.removexattr("d/f", "user.a") }},
			{"setxattr of a directory", func() { t.setxattr("d", "user.a", "b", 0) }},
			{"utimes", func() { t.utimes("d/f", at(1, 0), at(2, 0)) }},
			{"utimes of nothing", func() { t.utimes("d/f", at(0, unix.UTIME_OMIT), at(0, unix.UTIME_OMIT)) }},
			{"touch", func() { t.utimes("d/f", at(0, unix.UTIME_NOW), at(0, unix.UTIME_NOW)) }},
			{"fsync", func() { t.did(unix.Fsync(fd), "fsync") }},
			{"close", func() { t.close(t.open("d/f", unix.O_RDWR, 0)) }},
			{"whiteout", func() { t.rename("d/new", "d/old", unix.RENAME_WHITEOUT) }},
			{"exchange", func() { t.rename("d/old", "d/sub", unix.RENAME_EXCHANGE) }},
		} {
			t.moved(c.name, c.call, all...)
			t.fmoved(c.name+" again by descriptor", func() {}, fd)
		}
		t.close(fd)
	},
	"atime": func(t *tape) {
		for _, size := range []int{1, 4096, 10000} {
			for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_NOATIME} {
				t.note("%d bytes, %s", size, openFlags(flags))
				t.file("f", fill(size, 1), 0o644)
				tick()
				// What is cached moves no atime of a FUSE file system until the
				// file is opened again.
				read := func() {
					fd := t.open("f", flags, 0)
					t.pread(fd, 20000, 0)
					t.close(fd)
				}
				t.moved("first read", read, "f")
				t.moved("second read", read, "f")
				t.utimes("f", at(1000, 0), at(2000, 0))
				t.moved("read after utimes", read, "f")
				t.moved("one more", read, "f")
				writer := t.open("f", unix.O_WRONLY, 0)
				t.pwrite(writer, "y", 0)
				t.moved("read after a write", read, "f")
				t.moved("one more", read, "f")
				t.pwrite(writer, fill(size, 3), 0)
				t.moved("read after a write of all", read, "f")
				t.utimes("f", at(0, unix.UTIME_OMIT), at(2000, 0))
				t.chmod("f", 0o600)
				t.moved("read after chmod", read, "f")
				t.moved("cat", func() { t.cat("f") }, "f")
				t.utimes("f", at(1000, 0), at(2000, 0))
				t.moved("open", func() { t.close(t.open("f", flags, 0)) }, "f")
				t.moved("copy", func() {
					fd, to := t.open("f", flags, 0), t.open("copy", unix.O_CREAT|unix.O_WRONLY, 0o600)
					t.copyRange(fd, to, 0, 0, size)
					t.close(fd)
					t.close(to)
				}, "f")
				t.close(writer)
				t.unlink("f")
			}
		}
	},
	"atime of directories": func(t *tape) {
		t.mkdir("d", 0o755)
		t.file("d/f", "", 0o644)
		t.symlink("d", "l")
		tick()
		for range 2 {
			t.moved("lookup", func() { t.stat("d/f", "d/none") }, "d")
			t.moved("list", func() { t.list("d") }, "d")
			t.moved("list again", func() { t.list("d") }, "d")
			t.moved("readlink", func() { t.readlink("l") }, "l")
			t.moved("readlink again", func() { t.readlink("l") }, "l")
			t.utimes("d", at(1000, 0), at(2000, 0))
			t.moved("list after utimes", func() { t.list("d") }, "d")
			t.file("d/g", "", 0o644)
			t.moved("list after a create", func() { t.list("d") }, "d")
			t.unlink("d/g")
			t.unlink("l")
			t.symlink("d", "l")
			t.moved("through a new link", func() { t.stat("l/f") }, "l")
		}
	},
	"set": func(t *tape) {
		t.file("f", "x", 0o644)
		t.mkdir("d", 0o755)
		t.symlink("f", "l")
		for _, path := range []string{"f", "d", "l"} {
			for _, sec := range []int64{0, 1, -1, 1 << 31, 1<<31 - 1, -1 << 31, -1<<31 - 1, 1 << 32, 1 << 33, 15032385535, 15032385536, 1 << 40, math.MaxInt64 / 4, math.MinInt64 / 4} {
				t.utimes(path, at(sec, 0), at(sec, 999999999))
				t.times(path)
			}
			t.utimes(path, at(5, 0), at(6, 0))
			for _, nsec := range []int64{-1, 1000000000, unix.UTIME_OMIT, 123456789} {
				t.utimes(path, at(7, nsec), at(8, 1))
				t.times(path)
				t.utimes(path, at(9, 2), at(10, nsec))
				t.times(path)
			}
		}
		fd := t.open("f", unix.O_RDONLY, 0)
		t.futimens(fd, at(11, 1), at(12, 2))
		t.times("f")
		t.pread(fd, 1, 0)
		t.close(fd)
		fd = t.open("f", unix.O_WRONLY, 0)
		t.write(fd, "more")
		t.futimens(fd, at(13, 1), at(14, 2))
		t.close(fd)
		t.times("f")
		t.chmod("f", 0o666)
		t.chown("d", 1000, 1000)
		t.as(alice, func() {
			now, omit := at(0, unix.UTIME_NOW), at(0, unix.UTIME_OMIT)
			for _, path := range []string{"f", "d"} {
				t.utimes(path, now, now)
				t.utimes(path, now, omit)
				t.utimes(path, omit, now)
				t.utimes(path, omit, omit)
				t.utimes(path, at(1, 0), now)
				t.utimes(path, at(1, 0), at(2, 0))
			}
		})
	},
	"late": func(t *tape) {
		// A time that is set stays, whatever was written before.
		fd := t.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		t.write(fd, fill(100000, 1))
		t.futimens(fd, at(100, 1), at(200, 2))
		t.times("f")
		t.did(unix.Fsync(fd), "fsync")
		t.times("f")
		t.close(fd)
		t.times("f")
		fd = t.open("f", unix.O_RDWR|unix.O_APPEND, 0)
		t.moved("append", func() { t.write(fd, "x") }, "f")
		t.moved("append again", func() { t.write(fd, "x") }, "f")
		t.moved("close", func() { t.close(fd) }, "f")
	},
}
