package exact

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Names, links and directories that come and go.
var nameCases = map[string]func(*tape){
	"lengths": func(t *tape) {
		for _, size := range []int{254, 255, 256, 257, 1000, 1024, 1025, 4000, 4095, 4096} {
			name := strings.Repeat("n", size)
			t.stat(name)
			t.close(t.open(name, unix.O_CREAT|unix.O_RDWR, 0o644))
			t.stat(name)
			t.mkdir(name+"", 0o755)
			t.unlink(name)
			t.mkdir(name, 0o755)
			t.rmdir(name)
			t.mknod(name, unix.S_IFIFO|0o644, 0)
			t.link(name, "other")
			t.rename(name, "there", 0)
			t.rename("there", name, 0)
			t.unlink("other")
			t.unlink(name)
			t.symlink("x", name)
			t.readlink(name)
			t.unlink(name)
			t.setxattr(name, "user.a", "b", 0)
			t.truncate(name, 1)
			t.access(name, unix.F_OK)
			// As the text of a link.
			t.symlink(name, "link")
			t.readlink("link")
			t.stat("link")
			t.unlink("link")
		}
		t.list(".")
	},
	"bytes": func(t *tape) {
		for i := 1; i < 256; i++ {
			if i == '/' {
				continue
			}
			name := string([]byte{'a', byte(i)})
			t.file(name, name, 0o644)
			t.rename(name, string([]byte{byte(i), 'b'}), 0)
		}
		t.list(".")
		for _, name := range []string{"\xff\xfe", " ", "\n", "...", "-", "a\\b", "ä", "\xc3", "*"} {
			t.mkdir(name, 0o755)
			t.symlink(name, name+"/l")
			t.readlink(name + "/l")
			t.setxattr(name, "user."+name, name, 0)
			t.getxattr(name, "user."+name, 100)
			t.list(name)
		}
		for _, name := range []string{".", "..", "", "a/.", "a/..", "./"} {
			t.mkdir(name, 0o755)
			t.rmdir(name)
			t.unlink(name)
			t.link("ä", name)
			t.symlink("x", name)
			t.rename("ä", name, 0)
		}
	},
	"long paths": func(t *tape) {
		// Deeper than any path, down and up again.
		dir := strings.Repeat("d", 200)
		depth := 0
		for ; depth < 30; depth++ {
			if err := unix.Mkdir(dir, 0o755); err != nil {
				t.did(err, "mkdir at depth %d", depth)
				return
			}
			if err := unix.Chdir(dir); err != nil {
				t.did(err, "chdir at depth %d", depth)
				return
			}
		}
		t.file("f", "deep", 0o644)
		t.cat("f")
		t.link("f", "l")
		t.rename("l", "m", 0)
		t.setxattr("f", "user.a", "b", 0)
		t.list(".")
		fd := t.open("f", unix.O_RDWR, 0)
		t.unlink("f")
		t.write(fd, "er")
		t.stat("m")
		t.close(fd)
		t.truncate("m", 1)
		t.chmod("m", 0o600)
		t.utimes("m", at(7, 0), at(8, 0))
		t.stat("m")
		t.unlink("m")
		for ; depth > 0; depth-- {
			if err := unix.Chdir(".."); err != nil {
				t.did(err, "chdir up from depth %d", depth)
				return
			}
			if depth == 15 {
				t.rename(dir, "moved", 0)
				t.rename("moved", dir, 0)
			}
			if err := unix.Rmdir(dir); err != nil {
				t.did(err, "rmdir at depth %d", depth)
				return
			}
		}
		// A path of 4095 bytes, and one more.
		path := ""
		for len(path)+201 < 4090 {
			t.mkdir(path+dir, 0o755)
			path += dir + "/"
		}
		name := strings.Repeat("x", unix.PathMax-1-len(path))
		t.file(path+name, "at the end", 0o644)
		t.cat(path + name)
		t.stat(path + name + "y")
		t.unlink(path + name)
	},
	"errors": func(t *tape) {
		t.file("f", "x", 0o644)
		t.mkdir("d", 0o755)
		t.file("d/in", "x", 0o644)
		t.mkdir("e", 0o755)
		t.symlink("f", "l")
		t.symlink("d", "ld")
		t.symlink("none", "dangling")
		t.symlink("loop", "loop")
		for _, a := range []string{"f", "d", "e", "l", "ld", "dangling", "loop", "none", "f/x", "none/x", "loop/x", "d/in", "ld/in", "f/", "d/", "ld/", "none/"} {
			t.stat(a)
			t.unlink(a + "")
			t.rmdir(a)
			t.mkdir(a, 0o755)
			t.mknod(a, unix.S_IFREG|0o644, 0)
			t.symlink("x", a)
			t.readlink(a)
			for _, b := range []string{"f", "d", "e", "none", "ld", "new", "d/new", "f/new"} {
				t.link(a, b)
				t.rename(a, b, 0)
				t.rename(a, b, unix.RENAME_NOREPLACE)
				t.rename(a, b, unix.RENAME_EXCHANGE)
			}
			t.list(".")
		}
	},
	"links": func(t *tape) {
		t.file("a", "x", 0o644)
		t.mkdir("d", 0o755)
		t.moved("link", func() { t.link("a", "d/b") }, "a", "d", ".")
		t.stat("a", "d/b")
		fd := t.open("d/b", unix.O_RDWR, 0)
		t.pwrite(fd, "through b", 0)
		t.stat("a")
		t.cat("a")
		t.chmod("a", 0o600)
		t.fstat(fd)
		t.same("a", "d/b")
		t.moved("unlink", func() { t.unlink("a") }, "d/b", ".")
		t.fstat(fd)
		t.link("d/b", "a")
		t.same("a", "d/b")
		t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "c", unix.AT_SYMLINK_FOLLOW), "linkat through /proc")
		t.did(unix.Linkat(fd, "", unix.AT_FDCWD, "e", unix.AT_EMPTY_PATH), "linkat with AT_EMPTY_PATH")
		t.unlink("a")
		t.unlink("c")
		t.unlink("e")
		t.unlink("d/b")
		t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "f", unix.AT_SYMLINK_FOLLOW), "linkat of what is gone")
		t.close(fd)
		t.symlink("none", "l")
		t.link("l", "l2")
		t.did(unix.Linkat(unix.AT_FDCWD, "l", unix.AT_FDCWD, "l3", unix.AT_SYMLINK_FOLLOW), "linkat through a link")
		t.readlink("l2")
		t.stat("l2")
		t.mknod("p", unix.S_IFIFO|0o644, 0)
		t.link("p", "p2")
		t.unlink("p")
		t.stat("p2")
		t.link("d", "d2")
		t.list(".")
		t.as(alice, func() { t.link("p2", "d/x"); t.link("l", "x") })
	},
	"many links": func(t *tape) {
		t.file("f", "x", 0o644)
		for i := range 200 {
			if err := unix.Link("f", fmt.Sprintf("l%d", i)); err != nil {
				t.did(err, "link %d", i)
			}
		}
		t.stat("f", "l100")
		t.unlink("f")
		// The newest, the oldest and some between them, some under other names.
		t.mkdir("d", 0o755)
		t.file("other", "other", 0o644)
		for i := range 100 {
			name := fmt.Sprintf("l%d", []int{199 - i/2, i / 2}[i%2])
			if i%10 > 6 {
				t.rename(name, "d/"+name, 0)
				t.rename("d/"+name, "other", unix.RENAME_EXCHANGE)
				t.rename("d/"+name, name, 0)
				t.rename("other", name, unix.RENAME_EXCHANGE)
			}
			if err := unix.Unlink(name); err != nil {
				t.did(err, "unlink %s", name)
			}
		}
		t.chmod("l100", 0o600)
		for i := range 99 {
			if err := unix.Unlink(fmt.Sprintf("l%d", 50+i)); err != nil {
				t.did(err, "unlink %d", i)
			}
		}
		t.stat("l149")
		t.truncate("l149", 5)
		t.cat("l149")
		t.list(".")
	},
	"counts": func(t *tape) {
		t.mkdir("d", 0o755)
		for i := range 5 {
			t.moved("mkdir", func() { t.mkdir(fmt.Sprintf("d/%d", i), 0o755) }, "d", ".")
			t.stat("d")
		}
		t.mkdir("e", 0o755)
		t.moved("rename", func() { t.rename("d/0", "e/0", 0) }, "d", "e", "e/0")
		t.stat("d", "e", "e/0")
		t.moved("rmdir", func() { t.rmdir("d/1") }, "d")
		t.stat("d", ".")
		t.file("d/f", "", 0o644)
		t.stat("d")
	},
	"symlinks": func(t *tape) {
		for _, text := range []string{"x", "", ".", "..", "/", "/nowhere/at/all", "a/b/../c", strings.Repeat("a/", 2000), strings.Repeat("y", 59), strings.Repeat("y", 60), "\xff\n"} {
			t.symlink(text, "l")
			t.readlink("l")
			t.stat("l")
			t.blocks("l")
			t.unlink("l")
		}
		t.symlink("f", "l")
		t.file("f", "x", 0o644)
		t.cat("l")
		t.readlink("f")
		t.chown("l", 1000, 1000)
		t.utimes("l", at(10, 1), at(20, 2))
		t.times("l")
		t.stat("l", "f")
		t.did(unix.Symlink("x", "l"), "symlink over a name")
		buf := make([]byte, 3)
		t.symlink("longer text", "m")
		n, err := unix.Readlink("m", buf)
		t.got(int64(n), err, "readlink into three bytes: %q", buf)
		for i := range 45 {
			t.symlink(fmt.Sprintf("c%d", i+1), fmt.Sprintf("c%d", i))
		}
		t.file("c45", "end", 0o644)
		t.cat("c5")
		t.cat("c4")
		t.cat("c6")
	},
}

// same writes down whether two names are of one inode.
func (t *tape) same(a, b string) {
	var sa, sb unix.Stat_t
	if !t.failed(unix.Lstat(a, &sa), "lstat") && !t.failed(unix.Lstat(b, &sb), "lstat") {
		t.note("%s and %s are one: %t", short(a), short(b), sa.Ino == sb.Ino && sa.Dev == sb.Dev)
	}
}
