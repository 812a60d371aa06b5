package exact

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FIFOs, sockets, devices, handles, watches, and what else has a call of its own.
var specialCases = map[string]func(*tape){
	"fifo": func(t *tape) {
		t.mknod("p", unix.S_IFIFO|0o644, 0)
		t.open("p", unix.O_WRONLY|unix.O_NONBLOCK, 0)
		fd := t.open("p", unix.O_RDWR, 0)
		again := t.open("p", unix.O_RDONLY|unix.O_NONBLOCK, 0)
		t.write(fd, "through")
		buf := make([]byte, 100)
		n, err := unix.Read(again, buf)
		t.got(int64(n), err, "read %q", buf[:max(n, 0)])
		t.seek(fd, 0, unix.SEEK_SET)
		t.pread(fd, 1, 0)
		t.ftruncate(fd, 0)
		t.did(unix.Fsync(fd), "fsync")
		t.fchmod(fd, 0o600)
		t.stat("p")
		t.rename("p", "q", 0)
		t.unlink("q")
		t.write(fd, "still")
		n, err = unix.Read(again, buf)
		t.got(int64(n), err, "read %q", buf[:max(n, 0)])
		t.fstat(fd)
		t.close(fd)
		t.close(again)
	},
	"socket": func(t *tape) {
		server, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		t.did(err, "socket")
		t.umask(0o027)
		t.did(unix.Bind(server, &unix.SockaddrUnix{Name: "s"}), "bind")
		t.did(unix.Listen(server, 1), "listen")
		t.stat("s")
		t.open("s", unix.O_RDWR, 0)
		t.rename("s", "moved", 0)
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		t.did(err, "socket")
		t.did(unix.Connect(client, &unix.SockaddrUnix{Name: "s"}), "connect")
		t.did(unix.Connect(client, &unix.SockaddrUnix{Name: "moved"}), "connect")
		t.did(unix.Bind(client, &unix.SockaddrUnix{Name: "moved"}), "bind over a name")
		t.close(client)
		t.close(server)
		t.as(alice, func() {
			client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			t.did(err, "socket")
			t.did(unix.Connect(client, &unix.SockaddrUnix{Name: "moved"}), "connect")
			t.close(client)
		})
		t.unlink("moved")
	},
	"devices": func(t *tape) {
		t.umask(0)
		for _, d := range []struct {
			name         string
			major, minor uint32
		}{{"null", 1, 3}, {"zero", 1, 5}, {"big", 4000, 1 << 19}, {"none", 0, 0}} {
			for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
				name := fmt.Sprintf("%s%o", d.name, kind)
				t.mknod(name, kind|0o666, int(unix.Mkdev(d.major, d.minor)))
				t.stat(name)
				t.link(name, name+"link")
				t.stat(name + "link")
			}
		}
		fd := t.open(fmt.Sprintf("null%o", unix.S_IFCHR), unix.O_RDWR, 0)
		t.write(fd, "gone")
		t.pread(fd, 10, 0)
		t.close(fd)
		fd = t.open(fmt.Sprintf("zero%o", unix.S_IFCHR), unix.O_RDWR, 0)
		t.pread(fd, 10, 0)
		t.fstat(fd)
		t.close(fd)
		t.as(alice, func() {
			t.mknod("mine", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
			t.mknod("mine", unix.S_IFCHR|0o666, 0)
			t.mknod("mine2", unix.S_IFBLK|0o666, 0)
			t.stat("mine")
		})
		for _, mode := range []uint32{unix.S_IFDIR | 0o755, unix.S_IFLNK | 0o777, 0o644, 0o170000} {
			t.mknod("wrong", mode, 0)
			t.stat("wrong")
			t.unlink("wrong")
		}
	},
	"handles": func(t *tape) {
		t.file("f", "by handle", 0o644)
		t.mkdir("d", 0o755)
		dir := t.open(".", unix.O_RDONLY, 0)
		for _, name := range []string{"f", "d"} {
			fd := t.open(name, unix.O_RDONLY, 0)
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, name, 0)
			if t.failed(err, "name_to_handle_at") {
				continue
			}
			again, err := unix.OpenByHandleAt(dir, h, unix.O_RDONLY|unix.O_CLOEXEC)
			if !t.failed(err, "open_by_handle_at") {
				t.fstat(again)
				t.close(again)
			}
			t.close(fd)
		}
		t.close(dir)
	},
	"watches": func(t *tape) {
		t.mkdir("d", 0o755)
		watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		t.did(err, "inotify_init")
		_, err = unix.InotifyAddWatch(watch, "d", unix.IN_ALL_EVENTS)
		t.did(err, "inotify_add_watch")
		t.file("d/f", "x", 0o644)
		t.rename("d/f", "d/g", 0)
		t.link("d/g", "d/h")
		t.truncate("d/g", 0)
		t.setxattr("d/g", "user.a", "b", 0)
		t.mkdir("d/sub", 0o755)
		t.list("d")
		t.unlink("d/g")
		t.unlink("d/h")
		t.rmdir("d/sub")
		t.rmdir("d")
		buf := make([]byte, 64<<10)
		n, err := unix.Read(watch, buf)
		t.did(err, "read")
		for rest := buf[:max(n, 0)]; len(rest) > 0; {
			length := binary.NativeEndian.Uint32(rest[12:])
			name, _, _ := strings.Cut(string(rest[16:16+length]), "\x00")
			t.note("event %#x %q", binary.NativeEndian.Uint32(rest[4:]), name)
			rest = rest[16+length:]
		}
		t.close(watch)
	},
	"file system": func(t *tape) {
		var st unix.Statfs_t
		t.did(unix.Statfs(".", &st), "statfs")
		t.note("bsize %d frsize %d namelen %d blocks %d files %d", st.Bsize, st.Frsize, st.Namelen, st.Blocks, st.Files)
		t.note("atime %#x", st.Flags&(unix.ST_NOATIME|unix.ST_NODIRATIME|unix.ST_RELATIME))
		fd := t.open(".", unix.O_RDONLY, 0)
		t.did(unix.Fstatfs(fd, &st), "fstatfs")
		t.did(unix.Syncfs(fd), "syncfs")
		t.close(fd)
		t.file("f", "x", 0o644)
		fd = t.open("f", unix.O_RDWR, 0)
		for _, c := range []struct {
			name    string
			command uintptr
		}{{"FIONREAD", unix.TIOCINQ}, {"FIGETBSZ", 2}, {"TCGETS", unix.TCGETS}, {"nonsense", 0xdead}, {"FS_IOC_GETVERSION", 0x80087601}} {
			var value [64]byte
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), c.command, uintptr(unsafe.Pointer(&value)))
			t.did(errnoOf(errno), "ioctl %s", c.name)
			if c.command == unix.TIOCINQ {
				t.note("%d", binary.NativeEndian.Uint32(value[:]))
			}
		}
		t.close(fd)
	},
	"aio": func(t *tape) {
		var ring uintptr
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 8, uintptr(unsafe.Pointer(&ring)), 0)
		t.did(errnoOf(errno), "io_setup")
		for _, flags := range []int{0, unix.O_DIRECT, unix.O_APPEND, unix.O_DSYNC} {
			fd := t.open("f", unix.O_CREAT|unix.O_RDWR|flags, 0o644)
			block := aligned(8192)
			copy(block, fill(8192, byte(flags)))
			const (
				pread  = 0
				pwrite = 1
				fsync  = 2
			)
			for _, r := range []struct {
				command   uint16
				off, size uint64
			}{{pwrite, 0, 8192}, {pwrite, 16384, 4096}, {fsync, 0, 0}, {pread, 0, 8192}, {pread, 12288, 8192}, {pread, 1 << 20, 4096}} {
				request := struct {
					data          uint64
					key, flags    uint32
					command, prio uint16
					fd            uint32
					buf, size     uint64
					off           int64
					reserved      uint64
					more, resfd   uint32
				}{command: r.command, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(&block[0]))), size: r.size, off: int64(r.off)}
				requests := [1]unsafe.Pointer{unsafe.Pointer(&request)}
				if r.command == fsync {
					request.buf = 0
				}
				_, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, ring, 1, uintptr(unsafe.Pointer(&requests)))
				if t.failed(errnoOf(errno), "io_submit") {
					continue
				}
				var event struct {
					data, obj uint64
					res, res2 int64
				}
				_, err := retry(func() (int, error) {
					_, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, ring, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
					return 0, errnoOf(errno)
				})
				runtime.KeepAlive(&request)
				t.did(err, "command %d at %d: %d", r.command, r.off, event.res)
			}
			t.fstat(fd)
			t.close(fd)
			t.cat("f")
			t.unlink("f")
		}
		_, _, errno = unix.Syscall(unix.SYS_IO_DESTROY, ring, 0, 0)
		t.did(errnoOf(errno), "io_destroy")
	},
	"execution": func(t *tape) {
		t.umask(0)
		t.file("script", "#!/bin/sh\nexit 7\n", 0o755)
		run := func(name string) {
			p, err := os.StartProcess(name, []string{name}, &os.ProcAttr{})
			if t.did(err, "start %s", name) != nil {
				return
			}
			s, err := p.Wait()
			t.did(err, "wait: %d", s.ExitCode())
		}
		run("./script")
		t.chmod("script", 0o644)
		run("./script")
		t.mkdir("d", 0o755)
		run("./d")
		run("./none")
		text, err := os.ReadFile("/bin/true")
		t.did(err, "read of a program")
		t.did(os.WriteFile("true", text, 0o755), "write of a program")
		t.chmod("true", 0o755)
		run("./true")
		fd := t.open("true", unix.O_RDWR, 0)
		run("./true") // text file busy
		t.close(fd)
		run("./true")
	},
}
