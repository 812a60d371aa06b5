package exact

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The inode flags of chattr(1).
const (
	flagSync      = 0x8
	flagImmutable = 0x10
	flagAppend    = 0x20
	flagNodump    = 0x40
	flagNoatime   = 0x80
	flagNocow     = 0x800000 // of other file systems
	flagDirsync   = 0x10000
)

func getFlags(fd int) (int, error) {
	var flags int32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&flags)))
	return int(flags), errnoOf(errno)
}

func setFlags(fd, flags int) error {
	value := int32(flags)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&value)))
	return errnoOf(errno)
}

// fsxattr is struct fsxattr of FS_IOC_FSSETXATTR.
type fsxattr struct {
	flags, extent, extents, project, cow uint32
	pad                                  [8]byte
}

func (t *tape) chattr(path string, flags int) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if t.failed(err, "open %s", short(path)) {
		return
	}
	defer unix.Close(fd)
	have, err := getFlags(fd)
	if t.failed(err, "FS_IOC_GETFLAGS") {
		return
	}
	const all = flagSync | flagImmutable | flagAppend | flagNodump | flagNoatime | flagDirsync
	t.did(setFlags(fd, have&^all|flags), "chattr %s %#x", short(path), flags)
	t.lsattr(path)
}

func (t *tape) lsattr(path string) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if t.failed(err, "open %s", short(path)) {
		return
	}
	defer unix.Close(fd)
	have, err := getFlags(fd)
	t.did(err, "flags of %s: %#x", short(path), have)
	var x fsxattr
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x801c581f, uintptr(unsafe.Pointer(&x)))
	t.did(errnoOf(errno), "FS_IOC_FSGETXATTR: %+v", x)
}

// Inode flags, as chattr(1) sets them.
var flagCases = map[string]func(*tape){
	"setting": func(t *tape) {
		t.umask(0)
		t.chmod(".", 0o777)
		t.file("f", "x", 0o666)
		t.mkdir("d", 0o777)
		t.as(alice, func() { t.file("mine", "x", 0o644); t.mkdir("own", 0o755) })
		t.mknod("p", unix.S_IFIFO|0o666, 0)
		for _, u := range []user{root, alice, fowner, {name: "immutable", uid: 1000, gid: 1000, keep: []uint{unix.CAP_LINUX_IMMUTABLE}}} {
			t.as(u, func() {
				for _, path := range []string{"f", "d", "mine", "own", "p", "none"} {
					for _, flags := range []int{flagSync, flagNodump, flagNoatime, flagNodump | flagNoatime, flagAppend, flagImmutable, flagDirsync, flagAppend | flagNodump, 0} {
						t.chattr(path, flags)
					}
				}
			})
			for _, path := range []string{"f", "d", "mine", "own"} {
				t.chattr(path, 0)
			}
		}
		fd := t.open("f", unix.O_RDONLY, 0)
		t.did(setFlags(fd, flagNocow), "chattr to what ext4 does not have")
		for _, x := range []fsxattr{{flags: 0x80}, {flags: 0xc0}, {flags: 0x10}, {flags: 0x8}, {flags: 0x80}, {}, {flags: 4}, {extent: 4096}} {
			t.fmoved("FS_IOC_FSSETXATTR", func() {
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x401c5820, uintptr(unsafe.Pointer(&x)))
				t.did(errnoOf(errno), "FS_IOC_FSSETXATTR %+v", x)
			}, fd)
			t.lsattr("f")
		}
		t.fmoved("chattr", func() { t.chattr("f", flagNodump) }, fd)
		t.close(fd)
		t.chattr("f", 0)
		// New files get some of their directory's.
		t.chattr("d", flagNodump|flagNoatime|flagSync|flagDirsync)
		t.file("d/f", "x", 0o644)
		t.mkdir("d/sub", 0o755)
		t.mknod("d/r", unix.S_IFREG|0o644, 0)
		t.symlink("x", "d/l")
		t.lsattr("d/f")
		t.lsattr("d/sub")
		t.lsattr("d/r")
		t.link("d/f", "hard")
		t.rename("d/f", "moved", 0)
		t.lsattr("moved")
	},
	"locked files": func(t *tape) {
		for _, flag := range []int{flagAppend, flagImmutable} {
			t.umask(0)
			t.file("f", "contents", 0o666)
			t.file("other", "other", 0o666)
			t.mkdir("d", 0o777)
			t.setxattr("f", "user.a", "b", 0)
			before := t.open("f", unix.O_RDWR, 0)
			appending := t.open("f", unix.O_WRONLY|unix.O_APPEND, 0)
			t.pwrite(before, "C", 0)
			t.chattr("f", flag)
			for _, u := range []user{root, alice} {
				t.as(u, func() {
					for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_APPEND, unix.O_WRONLY | unix.O_APPEND | unix.O_TRUNC, unix.O_WRONLY | unix.O_CREAT, unix.O_RDONLY | unix.O_TRUNC, unix.O_PATH} {
						fd := t.open("f", flags, 0o600)
						if fd >= 0 {
							t.write(fd, "appended")
							t.close(fd)
						}
					}
					t.truncate("f", 3)
					t.chmod("f", 0o644)
					t.chown("f", 0, 0)
					t.chown("f", -1, -1)
					t.utimes("f", at(1, 0), at(2, 0))
					t.utimes("f", at(0, unix.UTIME_NOW), at(0, unix.UTIME_NOW))
					t.setxattr("f", "user.b", "c", 0)
					t.removexattr("f", "user.a")
					t.getxattr("f", "user.a", 10)
					t.setxattr("f", access, listFor(7, 7, 7, 7, 7, 7), 0)
					t.link("f", "g")
					t.rename("f", "g", 0)
					t.rename("other", "f", 0)
					t.rename("f", "other", unix.RENAME_EXCHANGE)
					t.unlink("f")
					t.stat("f", "g", "other")
					t.cat("f")
				})
			}
			for _, fd := range []int{before, appending} {
				t.fstat(fd)
				t.pwrite(fd, "X", 1)
				t.write(fd, "behind")
				t.ftruncate(fd, 4)
				t.ftruncate(fd, 400)
				t.fallocate(fd, 0, 0, 100)
				t.fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 10000)
				t.fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4)
				t.fchmod(fd, 0o600)
				t.fchown(fd, 5, 5)
				t.futimens(fd, at(3, 0), at(4, 0))
				t.did(unix.Fsetxattr(fd, "user.c", []byte("d"), 0), "fsetxattr")
				t.did(unix.Fsync(fd), "fsync")
				t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "g", unix.AT_SYMLINK_FOLLOW), "linkat")
				reading := t.open("other", unix.O_RDONLY, 0)
				t.copyRange(reading, fd, 0, 0, 5)
				t.close(reading)
				t.cat("f")
			}
			t.did(unix.Syncfs(before), "syncfs")
			t.close(before)
			t.close(appending)
			t.lsattr("f")
			t.chattr("f", 0)
			t.rename("f", "g", 0)
			t.unlink("g")
			t.unlink("other")
			t.rmdir("d")
		}
	},
	"locked directories": func(t *tape) {
		for _, flag := range []int{flagAppend, flagImmutable} {
			t.umask(0)
			t.dirs("d", "d/sub", "e")
			t.file("d/f", "x", 0o666)
			dir := t.open("d", unix.O_RDONLY, 0)
			t.chattr("d", flag)
			for _, u := range []user{root, alice} {
				t.as(u, func() {
					name := "d/" + u.name
					t.moved("create", func() { t.close(t.open(name+"f", unix.O_CREAT|unix.O_RDWR, 0o644)) }, "d")
					t.mkdir(name+"d", 0o755)
					t.mknod(name+"p", unix.S_IFIFO|0o644, 0)
					t.symlink("x", name+"l")
					t.link("d/f", name+"h")
					t.close(t.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o600))
					t.unlink(name + "f")
					t.rmdir("d/sub")
					t.rename("d/f", name+"g", 0)
					t.rename("d/f", "e/f", 0)
					t.file("e/new", "x", 0o644)
					t.rename("e/new", name+"new", 0)
					t.unlink("e/new")
					t.rename("d", "moved", 0)
					t.rename("e", "d", unix.RENAME_EXCHANGE)
					t.rmdir("d")
					t.chmod("d", 0o755)
					t.chown("d", 1000, 1000)
					t.utimes("d", at(1, 0), at(2, 0))
					t.setxattr("d", "user.a", "b", 0)
					t.setxattr("d", defaults, listFor(7, 7, 7, 7, 7, 7), 0)
					fd := t.open("d/f", unix.O_RDWR, 0)
					t.write(fd, "what is in it is not locked")
					t.close(fd)
					t.chmod("d/f", 0o600)
					t.chmod("d/f", 0o666)
					t.mkdir("d/sub/below", 0o755)
					t.rmdir("d/sub/below")
					t.list("d")
					t.stat("d")
				})
			}
			t.fchmod(dir, 0o700)
			t.did(unix.Fsync(dir), "fsync")
			t.close(dir)
			t.chattr("d", 0)
			t.rename("d", "gone", 0)
			t.rename("gone", map[int]string{flagAppend: "was append only", flagImmutable: "was immutable"}[flag], 0)
			t.rmdir("e")
		}
	},
	"left locked": func(t *tape) {
		// What the mirrors have to have, too, in the end.
		t.mkdir("d", 0o755)
		t.file("d/log", "first line", 0o644)
		t.chattr("d/log", flagAppend|flagNodump)
		fd := t.open("d/log", unix.O_WRONLY|unix.O_APPEND, 0)
		t.write(fd, fill(100000, 1))
		t.did(unix.Fsync(fd), "fsync")
		t.write(fd, fill(100000, 2))
		t.close(fd)
		t.file("d/fixed", "for ever", 0o444)
		t.chattr("d/fixed", flagImmutable)
		t.chattr("d", flagAppend)
		t.file("d/late", "in a directory that grows only", 0o644)
		t.list("d")
		t.stat("d/log", "d/fixed", "d/late")
	},
}
