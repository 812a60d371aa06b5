package exact

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// renameat2(2) with all its flags.
var renameCases = map[string]func(*tape){
	"kinds": func(t *tape) {
		make := map[byte]func(name string){
			'f': func(name string) { t.file(name, name, 0o644) },
			'd': func(name string) { t.mkdir(name, 0o755) },
			'D': func(name string) { t.mkdir(name, 0o755); t.file(name+"/in", "", 0o644) },
			'l': func(name string) { t.symlink("x", name) },
			'p': func(name string) { t.mknod(name, unix.S_IFIFO|0o644, 0) },
			'-': func(string) {},
		}
		for _, from := range []byte("fdDlp-") {
			for _, to := range []byte("fdDlp-") {
				flags := []uint{0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT}
				if from == to {
					flags = append(flags, unix.RENAME_WHITEOUT|unix.RENAME_NOREPLACE, unix.RENAME_WHITEOUT|unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE, 1<<10)
				}
				for _, flags := range flags {
					dir := fmt.Sprintf("%c%c%d", from, to, flags)
					t.dirs(dir, dir+"/a", dir+"/b")
					make[from](dir + "/a/x")
					make[to](dir + "/b/y")
					moves := []string{dir + "/a", dir + "/b", dir + "/a/x", dir + "/b/y"}
					t.moved("rename", func() { t.rename(dir+"/a/x", dir+"/b/y", flags) }, moves...)
					t.stat(dir+"/a", dir+"/b", dir+"/a/x", dir+"/b/y")
					t.list(dir + "/a")
					t.list(dir + "/b")
				}
			}
		}
	},
	"trees": func(t *tape) {
		t.dirs("a", "a/b", "a/b/c", "z")
		t.file("a/b/c/f", "x", 0o644)
		for _, flags := range []uint{0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT} {
			t.rename("a", "a/b/c", flags)
			t.rename("a", "a/new", flags)
			t.rename("a", "a", flags)
			t.rename("a/b/c", "a", flags)
			t.rename("a/b", "a/b", flags)
			t.rename(".", "z/x", flags)
			t.rename("a/.", "z/x", flags)
			t.rename("a", "z/..", flags)
			t.rename("a/b/c", "a/b/c/../c", flags)
		}
		t.list("a/b")
		fd := t.open("a/b/c/f", unix.O_RDWR, 0)
		dir := t.open("a/b", unix.O_RDONLY, 0)
		t.rename("a", "z/a", 0)
		t.pwrite(fd, "still here", 0)
		t.cat("z/a/b/c/f")
		t.close(t.openat(dir, "new", unix.O_CREAT|unix.O_RDWR, 0o600))
		t.list("z/a/b")
		t.rename("z/a/b", "b", 0)
		t.rename("z/a", "b/a", 0)
		t.close(t.openat(dir, "newer", unix.O_CREAT|unix.O_RDWR, 0o600))
		t.list("b")
		t.pwrite(fd, "!", 0)
		t.cat("b/c/f")
		var up, top unix.Stat_t
		t.did(unix.Fstatat(dir, "..", &up, 0), "stat of ..")
		t.did(unix.Stat(".", &top), "stat of .")
		t.note("it is this directory: %t", up.Ino == top.Ino)
		t.close(fd)
		t.close(dir)
	},
	"same file": func(t *tape) {
		t.file("a", "x", 0o644)
		t.link("a", "b")
		for _, flags := range []uint{0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT} {
			t.moved("rename of two names of one file", func() { t.rename("a", "b", flags) }, "a", "b", ".")
			t.rename("a", "a", flags)
			t.list(".")
		}
		t.unlink("a")
		t.rename("b", "c", 0)
		t.stat("c")
		t.cat("c")
	},
	"exchange": func(t *tape) {
		t.dirs("d", "d/sub", "e")
		t.file("d/sub/f", "deep", 0o644)
		t.file("e/g", "flat", 0o644)
		sub, g := t.open("d/sub", unix.O_RDONLY, 0), t.open("e/g", unix.O_RDWR, 0)
		t.moved("exchange", func() { t.rename("d/sub", "e/g", unix.RENAME_EXCHANGE) }, "d", "e")
		t.stat("d", "e", "d/sub", "e/g")
		t.cat("d/sub")
		t.cat("e/g/f")
		t.pwrite(g, "F", 0)
		t.cat("d/sub")
		t.close(t.openat(sub, "h", unix.O_CREAT|unix.O_RDWR, 0o600))
		t.list("e/g")
		t.rename("d", "e", unix.RENAME_EXCHANGE)
		t.list("d/g")
		t.rename("d", "e/sub", unix.RENAME_EXCHANGE)
		t.rename("d/g", "d", unix.RENAME_EXCHANGE)
		t.list("d")
		t.list("e")
		t.close(sub)
		t.close(g)
	},
	"whiteout": func(t *tape) {
		t.umask(0o022)
		for _, u := range []user{root, alice} {
			t.mkdir(u.name, 0o777)
			t.chmod(u.name, 0o2777)
			t.chown(u.name, 0, 3000)
			t.chmod(u.name, 0o2777)
			t.mkdir(u.name+"/plain", 0o777)
			t.chmod(u.name+"/plain", 0o777)
			t.as(u, func() {
				t.file(u.name+"/f", "x", 0o644)
				t.file(u.name+"/g", "y", 0o644)
				t.rename(u.name+"/f", u.name+"/h", unix.RENAME_WHITEOUT)
				t.stat(u.name+"/f", u.name+"/h")
				t.rename(u.name+"/g", u.name+"/h", unix.RENAME_WHITEOUT)
				t.stat(u.name+"/g", u.name+"/h")
				t.file(u.name+"/plain/f", "x", 0o644)
				t.rename(u.name+"/plain/f", u.name+"/plain/g", unix.RENAME_WHITEOUT)
				t.stat(u.name+"/plain/f", u.name+"/plain/g")
				t.close(t.open(u.name+"/f", unix.O_RDONLY, 0))
				t.rename(u.name+"/f", u.name+"/i", 0)
				t.unlink(u.name + "/i")
				t.list(u.name)
			})
		}
	},
	"over open": func(t *tape) {
		t.file("a", "old", 0o644)
		t.file("b", "new", 0o644)
		fd := t.open("a", unix.O_RDWR, 0)
		t.setxattr("a", "user.a", "b", 0)
		t.moved("rename over", func() { t.rename("b", "a", 0) }, "a", ".")
		t.fstat(fd)
		t.all(fd)
		t.pwrite(fd, "gone", 0)
		t.ftruncate(fd, 2)
		t.all(fd)
		t.cat("a")
		t.fchmod(fd, 0o600)
		t.stat("a")
		t.getxattr("a", "user.a", 10)
		buf := make([]byte, 10)
		n, err := unix.Fgetxattr(fd, "user.a", buf)
		t.got(int64(n), err, "fgetxattr")
		t.close(fd)
		t.dirs("d", "e")
		dir := t.open("e", unix.O_RDONLY, 0)
		t.rename("d", "e", 0)
		t.fstat(dir)
		t.openat(dir, "x", unix.O_CREAT|unix.O_RDWR, 0o600)
		t.close(dir)
	},
	"many": func(t *tape) {
		// What is found by name is always the newest, never torn.
		for i := range 100 {
			t.file("tmp", fmt.Sprint(i), 0o644)
			if i%3 == 0 {
				t.rename("tmp", "f", unix.RENAME_EXCHANGE)
			}
			t.rename("tmp", "f", 0)
			t.cat("f")
		}
	},
}
