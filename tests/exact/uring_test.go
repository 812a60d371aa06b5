package exact

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// needRing skips a test where the kernel has no io_uring for us.
func needRing(t *testing.T) {
	t.Helper()
	r, err := newRing()
	if err != nil {
		t.Skipf("the kernel refuses io_uring (/proc/sys/kernel/io_uring_disabled?): %v", err)
	}
	r.close()
}

// Calls that come by way of io_uring: from whoever made the ring, and from a
// thread of the kernel.
var uringCases = map[string]func(*tape){
	"names": func(t *tape) {
		t.onRing(func(t *tape, r *ring, flags byte, dir string) {
			t.umask(0o027)
			in := func(name string) uint64 { return r.put(dir + "/" + name) }
			mkdir := func(name string, mode uint32) {
				t.called(r, "mkdirat "+name, call{opcode: ringMkdirat, flags: flags, fd: unix.AT_FDCWD, addr: in(name), len: mode})
			}
			link := func(from, to string) {
				t.called(r, "linkat "+from+" "+to, call{opcode: ringLinkat, flags: flags, fd: unix.AT_FDCWD, addr: in(from), len: at32, off: in(to)})
			}
			rename := func(from, to string, how uint32) {
				t.called(r, fmt.Sprintf("renameat %s %s %d", from, to, how), call{opcode: ringRenameat, flags: flags, fd: unix.AT_FDCWD, addr: in(from), len: at32, off: in(to), opFlags: how})
			}
			unlink := func(name string, how uint32) {
				t.called(r, fmt.Sprintf("unlinkat %s %d", name, how), call{opcode: ringUnlinkat, flags: flags, fd: unix.AT_FDCWD, addr: in(name), opFlags: how})
			}
			mkdir("d", 0o2777)
			mkdir("d", 0o777)
			mkdir("none/d", 0o777)
			fd := t.ringOpen(r, flags, dir+"/d/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o6666)
			t.ringOpen(r, flags, dir+"/d/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
			t.ringOpen(r, flags, dir+"/none", unix.O_RDONLY, 0)
			t.called(r, "symlinkat", call{opcode: ringSymlinkat, flags: flags, fd: unix.AT_FDCWD, addr: r.put("d/f"), off: in("l")})
			t.ringOpen(r, flags, dir+"/l", unix.O_RDONLY|unix.O_NOFOLLOW, 0)
			link("d/f", "g")
			link("d/f", "l")
			link("d", "h")
			rename("g", "d/g", 0)
			rename("g", "d/g", 0)
			rename("d/g", "l", unix.RENAME_NOREPLACE)
			rename("d/g", "l", unix.RENAME_EXCHANGE)
			rename("l", "d/w", unix.RENAME_WHITEOUT)
			rename("d", "d/d", 0)
			t.list(dir)
			t.list(dir + "/d")
			t.stat(dir+"/d", dir+"/d/f", dir+"/d/w", dir+"/l")
			unlink("d", 0)
			unlink("d", unix.AT_REMOVEDIR)
			unlink("d/f", unix.AT_REMOVEDIR)
			unlink("d/f", 0)
			unlink("d/w", 0)
			t.fstat(fd)
			unlink("d/g", 0)
			unlink("d/g", 0)
			unlink("d", unix.AT_REMOVEDIR)
			t.list(dir)
			t.called(r, "close", call{opcode: ringClose, flags: flags, fd: fd})
			t.called(r, "close", call{opcode: ringClose, flags: flags, fd: fd})
			t.umask(0)
		})
	},
	"data": func(t *tape) {
		t.onRing(func(t *tape, r *ring, flags byte, dir string) {
			for _, how := range []int{0, unix.O_APPEND, unix.O_DSYNC, unix.O_DIRECT, unix.O_DIRECT | unix.O_SYNC} {
				path := fmt.Sprintf("%s/f%d", dir, how)
				fd := t.ringOpen(r, flags, path, unix.O_CREAT|unix.O_RDWR|how, 0o644)
				move := func(what string, opcode byte, buf []byte, off int64) {
					n := t.called(r, fmt.Sprintf("%s %d at %d", what, len(buf), off),
						call{opcode: opcode, flags: flags, fd: fd, addr: addressOf(buf), len: uint32(len(buf)), off: uint64(off)})
					if n > 0 {
						t.note("  %s", digest(buf[:n]))
					}
				}
				fixed := r.fixed()
				copy(fixed, fill(64<<10, byte(how)))
				move("write fixed", ringWriteFixed, fixed[:64<<10], 0)
				move("write fixed", ringWriteFixed, fixed[4096:12288], 96<<10)
				move("write", ringWrite, fixed[:4096], 32<<10)
				move("write here", ringWrite, fixed[512:1024], -1)
				move("write", ringWrite, fixed[:512], -5)
				clear(fixed)
				move("read fixed", ringReadFixed, fixed[:64<<10], 4096)
				move("read fixed", ringReadFixed, fixed[:8192], 100<<10)
				move("read fixed", ringReadFixed, fixed[:8192], 1<<30)
				move("read", ringRead, fixed[:128<<10], 0)
				t.called(r, "fsync", call{opcode: ringFsync, flags: flags, fd: fd})
				t.called(r, "fdatasync", call{opcode: ringFsync, flags: flags, fd: fd, opFlags: 1})
				t.called(r, "fsync with a wrong flag", call{opcode: ringFsync, flags: flags, fd: fd, opFlags: 8})
				for _, mode := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_PUNCH_HOLE} {
					t.called(r, fmt.Sprintf("fallocate %d", mode), call{opcode: ringFallocate, flags: flags, fd: fd, off: 120 << 10, addr: 64 << 10, len: mode})
					t.fstat(fd)
				}
				t.called(r, "ftruncate", call{opcode: ringFtruncate, flags: flags, fd: fd, off: 100_000})
				t.called(r, "ftruncate", call{opcode: ringFtruncate, flags: flags, fd: fd, off: 1 << 63})
				t.called(r, "fsetxattr", call{opcode: ringFsetxattr, flags: flags, fd: fd, addr: r.put("user.a"), off: r.put("value"), len: 5})
				t.fstat(fd)
				t.getxattr(path, "user.a", 100)
				// Each waits for the one before; what follows a failure is not done.
				r.add(call{opcode: ringWrite, flags: flags | ringLinked, fd: fd, addr: addressOf(fixed), len: 4096})
				r.add(call{opcode: ringFsync, flags: flags | ringLinked, fd: fd})
				r.add(call{opcode: ringRead, flags: flags | ringLinked, fd: -1, addr: addressOf(fixed), len: 4096})
				r.add(call{opcode: ringWrite, flags: flags, fd: fd, addr: addressOf(fixed), len: 4096, off: 8192})
				results, err := r.run()
				t.did(err, "a chain")
				t.note("returned %v", results)
				if how&unix.O_APPEND == 0 { // where their order does not show
					for i := range ringSize {
						r.add(call{opcode: ringWriteFixed, flags: flags, fd: fd, addr: addressOf(fixed[i*4096:]), len: 4096, off: uint64(i * 8192)})
					}
					results, err = r.run()
					t.did(err, "many at once")
					t.note("returned %v", results)
				}
				t.called(r, "close", call{opcode: ringClose, flags: flags, fd: fd})
				t.stat(path)
				t.cat(path)
			}
		})
	},
}

// at32 is AT_FDCWD where the kernel has it in an unsigned field.
const at32 = 1<<32 + unix.AT_FDCWD

// onRing runs fn as several users and in two ways, each in a directory.
func (t *tape) onRing(fn func(t *tape, r *ring, flags byte, dir string)) {
	t.chmod(".", 0o777)
	for _, u := range []user{root, alice} {
		for i, flags := range []byte{0, ringAsync} {
			t.as(u, func() {
				r, err := newRing()
				if t.did(err, "io_uring_setup") != nil {
					return
				}
				defer r.close()
				dir := fmt.Sprintf("%s%d", u.name, i)
				t.mkdir(dir, 0o777)
				fn(t, r, flags, dir)
			})
		}
	}
}

// called makes one call and returns its result.
func (t *tape) called(r *ring, what string, c call) int {
	r.add(c)
	results, err := r.run()
	if t.failed(err, "io_uring_enter for %s", what) {
		return -1
	}
	n := int(results[0])
	if n < 0 {
		err, n = unix.Errno(-n), -1
	}
	return int(t.got(int64(n), err, "%s", what))
}

// ringOpen does not write down which descriptor it gets.
func (t *tape) ringOpen(r *ring, flags byte, path string, how int, mode uint32) int {
	r.add(call{opcode: ringOpenat, flags: flags, fd: unix.AT_FDCWD, addr: r.put(path), len: mode, opFlags: uint32(how)})
	results, err := r.run()
	if t.failed(err, "io_uring_enter") {
		return -1
	}
	if results[0] < 0 {
		err = unix.Errno(-results[0])
	}
	t.did(err, "openat %s %s %o", short(path), openFlags(how), mode)
	return int(results[0])
}
