package exact

import (
	"golang.org/x/sys/unix"
)

// Modes and owners: what a new object gets, and what takes set-ID bits away.
var modeCases = map[string]func(*tape){
	"umask": func(t *tape) {
		for _, mask := range []int{0, 0o022, 0o077, 0o777, 0o137} {
			t.umask(mask)
			for _, u := range []user{root, alice} {
				t.as(u, func() {
					name := u.name + string(rune('a'+mask%26))
					t.close(t.open(name+"f", unix.O_CREAT|unix.O_RDWR, 0o7777))
					t.mkdir(name+"d", 0o7777)
					t.mknod(name+"r", unix.S_IFREG|0o6775, 0)
					t.mknod(name+"p", unix.S_IFIFO|0o666, 0)
					t.mknod(name+"s", unix.S_IFSOCK|0o1777, 0)
					t.mknod(name+"c", unix.S_IFCHR|0o660, int(unix.Mkdev(1, 3)))
					t.symlink("x", name+"l")
					fd := t.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o6777)
					t.fstat(fd)
					t.close(fd)
					for _, kind := range "fdrpscl" {
						t.stat(name + string(kind))
					}
				})
			}
		}
	},
	"setgid directory": func(t *tape) {
		t.umask(0)
		for _, dir := range []struct {
			name     string
			uid, gid int
		}{{"own", 1000, 1000}, {"foreign", 1000, 3000}, {"second", 1001, 2000}, {"roots", 0, 0}} {
			t.mkdir(dir.name, 0o777)
			t.chown(dir.name, dir.uid, dir.gid)
			t.chmod(dir.name, 0o2777)
			for _, u := range []user{root, alice, bob, carol, tame} {
				t.as(u, func() {
					name := dir.name + "/" + u.name
					for _, mode := range []uint32{0o644, 0o2644, 0o2755, 0o6777, 0o4711, 0o1777} {
						m := name + string(rune('a'+mode>>9)) + string(rune('a'+mode&7))
						t.close(t.open(m+"f", unix.O_CREAT|unix.O_RDWR, mode))
						t.mkdir(m+"d", mode)
						t.mknod(m+"r", unix.S_IFREG|mode, 0)
						t.mknod(m+"p", unix.S_IFIFO|mode, 0)
						fd := t.open(dir.name, unix.O_TMPFILE|unix.O_RDWR, mode)
						t.fstat(fd)
						t.close(fd)
						t.stat(m+"f", m+"d", m+"r", m+"p")
					}
					t.symlink("x", name+"l")
					t.stat(name + "l")
				})
			}
		}
	},
	"chmod": func(t *tape) {
		t.umask(0)
		for _, gid := range []int{1000, 2000, 3000} {
			t.file("f", "x", 0o644)
			t.mkdir("d", 0o755)
			t.chown("f", 1000, gid)
			t.chown("d", 1000, gid)
			for _, u := range []user{alice, bob, fowner, tame, root} {
				t.as(u, func() {
					for _, mode := range []uint32{0o2755, 0o2644, 0o6777, 0o1777, 0o4000, 0o7777, 0} {
						t.chmod("f", mode)
						t.chmod("d", mode)
						t.stat("f", "d")
						fd := t.open("f", unix.O_RDONLY, 0)
						t.fchmod(fd, mode|0o444)
						t.close(fd)
						t.stat("f")
					}
				})
			}
			t.unlink("f")
			t.rmdir("d")
		}
		t.symlink("nowhere", "l")
		t.did(unix.Fchmodat(unix.AT_FDCWD, "l", 0o600, unix.AT_SYMLINK_NOFOLLOW), "fchmodat of a link")
		t.chmod("l", 0o600)
		t.chmod("none", 0o600)
	},
	"chown": func(t *tape) {
		t.umask(0)
		for _, mode := range []uint32{0o6755, 0o2644} {
			for _, u := range []user{root, tame, alice, bob} {
				for i, to := range [][2]int{{-1, -1}, {1000, -1}, {-1, 2001}, {-1, 2000}, {-1, 3000}, {1000, 2000}, {1001, -1}} {
					name := string(rune('a' + i))
					t.file(name, "x", 0o600)
					t.chown(name, 1000, 2000)
					// A stranger's chown that changes nothing has taken them away
					// before a FUSE file system is asked.
					if to != [2]int{-1, -1} || u.name != "bob" {
						t.setxattr(name, "security.capability", capability, 0)
					}
					t.chmod(name, mode)
					t.as(u, func() {
						t.moved("chown", func() { t.chown(name, to[0], to[1]) }, name)
					})
					t.stat(name)
					t.getxattr(name, "security.capability", 64)
					t.unlink(name)
				}
			}
		}
		for _, u := range []user{root, tame, alice, bob} {
			for _, to := range [][2]int{{-1, -1}, {1000, -1}, {-1, 2000}} {
				t.mknod("p", unix.S_IFIFO|0o600, 0)
				t.chown("p", 1000, 2001)
				t.chmod("p", 0o6644)
				t.as(u, func() { t.chown("p", to[0], to[1]) })
				t.stat("p")
				t.unlink("p")
			}
		}
		t.mkdir("d", 0o7777)
		t.symlink("x", "l")
		t.chown("d", 1000, 1000)
		t.chown("l", 1000, 2000)
		t.as(alice, func() { t.chown("d", -1, 2000); t.chown("l", -1, 2001); t.chown("d", -1, -1) })
		t.stat("d", "l")
		t.did(unix.Chown("l", 1, 1), "chown through a dangling link")
	},
	"clearing": func(t *tape) {
		t.umask(0)
		changes := []struct {
			name string
			call func(fd int)
		}{
			{"write", func(fd int) { t.pwrite(fd, "y", 0) }},
			{"write of nothing", func(fd int) { t.pwrite(fd, "", 0) }},
			{"append", func(fd int) { t.pwrite(fd, fill(5000, 1), 8000) }},
			{"ftruncate", func(fd int) { t.ftruncate(fd, 3) }},
			{"ftruncate to the same", func(fd int) { t.ftruncate(fd, 8) }},
			{"truncate", func(int) { t.truncate("f", 2) }},
			{"fallocate", func(fd int) { t.fallocate(fd, 0, 0, 10000) }},
			{"fallocate keep", func(fd int) { t.fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 100000) }},
			{"punch", func(fd int) { t.fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4) }},
			{"zero", func(fd int) { t.fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 0, 4) }},
			{"copy_file_range", func(fd int) {
				from := t.open("source", unix.O_RDONLY, 0)
				t.copyRange(from, fd, 0, 1, 4)
				t.close(from)
			}},
			{"O_TRUNC", func(int) { t.close(t.open("f", unix.O_WRONLY|unix.O_TRUNC, 0)) }},
			{"fchown", func(fd int) { t.fchown(fd, 1000, -1) }},
			{"fchmod", func(fd int) { t.fchmod(fd, 0o6755) }},
			{"futimens", func(fd int) { t.futimens(fd, at(1, 0), at(2, 0)) }},
			{"fsetxattr", func(fd int) { t.did(unix.Fsetxattr(fd, "user.a", []byte("b"), 0), "fsetxattr") }},
			{"pwritev2 O_DSYNC", func(fd int) {
				n, err := unix.Pwritev2(fd, [][]byte{[]byte("ab")}, 0, unix.RWF_DSYNC)
				t.got(int64(n), err, "pwritev2")
			}},
		}
		t.file("source", "source", 0o644)
		for _, c := range changes {
			for _, mode := range []uint32{0o6777, 0o2666} {
				for _, u := range []user{root, tame, alice, bob, carol} {
					t.note("%s of %o as %s", c.name, mode, u.name)
					fd, err := retry(func() (int, error) { return unix.Open("f", unix.O_CREAT|unix.O_RDWR, 0o600) })
					if t.failed(err, "open") {
						return
					}
					t.pwrite(fd, "contents", 0)
					t.fchown(fd, 1000, 2000)
					t.fchmod(fd, mode)
					t.did(unix.Fsetxattr(fd, "security.capability", []byte(capability), 0), "fsetxattr")
					t.as(u, func() { c.call(fd) })
					// Without a question to what is below: what execve(2) goes by.
					var st unix.Statx_t
					t.did(unix.Statx(unix.AT_FDCWD, "f", unix.AT_STATX_DONT_SYNC, unix.STATX_MODE, &st), "statx: mode %o", st.Mode)
					t.fstat(fd)
					t.getxattr("f", "security.capability", 64)
					t.close(fd)
					t.unlink("f")
				}
			}
		}
	},
	"sticky": func(t *tape) {
		t.umask(0)
		t.mkdir("s", 0o1777)
		t.mkdir("t", 0o777)
		t.as(alice, func() {
			for _, name := range []string{"a", "b", "c", "e"} {
				t.file("s/"+name, "x", 0o666)
			}
			t.mkdir("s/d", 0o777)
		})
		t.as(bob, func() {
			t.unlink("s/a")
			t.rmdir("s/d")
			t.rename("s/a", "s/z", 0)
			t.rename("s/a", "t/z", 0)
			t.rename("s/d", "t/d", 0)
			t.file("s/mine", "m", 0o666)
			t.rename("s/mine", "s/a", 0)
			t.rename("s/mine", "s/a", unix.RENAME_EXCHANGE)
			t.rename("s/mine", "s/new", unix.RENAME_NOREPLACE)
			t.link("s/a", "t/l")
			t.unlink("s/new")
			t.utimes("s/b", at(1, 0), at(2, 0))
			t.utimes("s/b", at(0, unix.UTIME_NOW), at(0, unix.UTIME_NOW))
			t.chmod("s/b", 0o600)
			t.truncate("s/b", 0)
			// Where fs.protected_regular is set, what is not ours is not created.
			t.close(t.open("s/b", unix.O_CREAT|unix.O_RDWR, 0o600))
		})
		t.as(fowner, func() { t.unlink("s/b"); t.rename("s/c", "s/cc", 0); t.chmod("s/e", 0o640) })
		t.as(alice, func() { t.unlink("s/cc"); t.rmdir("s/d") })
		t.list("s")
		t.list("t")
	},
	"permissions": func(t *tape) {
		t.umask(0)
		t.mkdir("closed", 0o700)
		t.file("closed/f", "x", 0o666)
		t.mkdir("search", 0o711)
		t.file("search/f", "x", 0o640)
		t.chown("search/f", 0, 2000)
		t.mkdir("read", 0o744)
		t.file("read/f", "x", 0o666)
		t.mkdir("write", 0o772)
		t.file("none", "x", 0)
		for _, u := range []user{alice, carol, fowner, root} {
			t.as(u, func() {
				for _, path := range []string{"closed/f", "search/f", "read/f", "write/f", "none", "closed", "search"} {
					for _, mode := range []uint32{unix.F_OK, unix.R_OK, unix.W_OK, unix.X_OK, unix.R_OK | unix.W_OK} {
						t.access(path, mode)
					}
					t.stat(path)
					for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_CREAT, unix.O_RDONLY | unix.O_TRUNC, unix.O_PATH, unix.O_RDONLY | unix.O_NOATIME} {
						if fd := t.open(path, flags, 0o600); fd >= 0 {
							t.close(fd)
						}
					}
					t.truncate(path, 1)
					t.chmod(path, 0o600)
					t.setxattr(path, "user.a", "b", 0)
					t.getxattr(path, "user.a", 10)
					t.link(path, "search/l")
					t.rename(path, "closed/x", 0)
				}
				t.list("search")
				t.list("read")
				t.mkdir("search/d", 0o700)
				t.unlink("search/f")
			})
			if u.uid == 0 {
				break // it has moved everything
			}
		}
	},
}
