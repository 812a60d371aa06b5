package exact

import (
	"golang.org/x/sys/unix"
)

// Shared mappings, also mixed with other calls.
var mmapCases = map[string]func(*tape){
	"stores": func(t *tape) {
		t.file("f", fill(10000, 1), 0o644)
		fd := t.open("f", unix.O_RDWR, 0)
		again := t.open("f", unix.O_RDWR, 0)
		m := t.mmap(fd, 12288)
		copy(m, "mapped")
		copy(m[9990:], "0123456789 behind the end")
		t.all(again)
		t.pwrite(again, "written", 5000)
		t.note("%s", digest(m[:10000]))
		// From here on the pages are clean, and the next store moves the times.
		t.did(unix.Msync(m, unix.MS_SYNC), "msync")
		t.moved("stores and msync", func() {
			m[1], m[8000] = 'M', 'N'
			t.did(unix.Msync(m, unix.MS_SYNC), "msync")
		}, "f")
		t.fmoved("stores and munmap", func() {
			m[2] = 'O'
			t.did(unix.Munmap(m), "munmap")
		}, fd)
		m = t.mmap(fd, 12288)
		t.fmoved("stores and fsync", func() {
			m[3] = 'P'
			t.did(unix.Fsync(fd), "fsync")
		}, fd)
		m[4] = 'Q'
		t.ftruncate(again, 4096)
		t.note("%s", digest(m[:4096]))
		t.ftruncate(again, 9000)
		t.note("%s", digest(m[:9000]))
		m[8999] = 'R'
		t.all(again)
		t.fallocate(again, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		t.note("%s", digest(m[:9000]))
		t.all(again)
		t.file("g", "", 0o644)
		to := t.open("g", unix.O_RDWR, 0)
		m[5000] = 'S'
		t.copyRange(fd, to, 0, 0, 9000)
		t.all(to)
		m[1] = 'T'
		t.copyRange(to, fd, 100, 0, 50)
		t.note("%s", digest(m[:9000]))
		t.did(unix.Munmap(m), "munmap")
		for _, fd := range []int{fd, again, to} {
			t.close(fd)
		}
		t.cat("f")
	},
	"protections": func(t *tape) {
		t.file("f", fill(5000, 1), 0o644)
		for _, access := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_APPEND} {
			fd := t.open("f", access, 0)
			for _, prot := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_EXEC} {
				for _, flags := range []int{unix.MAP_SHARED, unix.MAP_PRIVATE, unix.MAP_SHARED_VALIDATE} {
					m, err := unix.Mmap(fd, 0, 5000, prot, flags)
					if t.did(err, "mmap %d %d", prot, flags) != nil {
						continue
					}
					if prot&unix.PROT_WRITE != 0 {
						m[10] = byte('0' + prot)
					}
					t.did(unix.Munmap(m), "munmap")
				}
			}
			t.close(fd)
			t.cat("f")
		}
		dir := t.open(".", unix.O_RDONLY, 0)
		_, err := unix.Mmap(dir, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		t.did(err, "mmap of a directory")
		t.close(dir)
	},
	"holes": func(t *tape) {
		// Whoever copies by holes finds what was stored and not yet written.
		const size = 1 << 20
		t.file("f", "", 0o644)
		t.truncate("f", size)
		fd, reading := t.open("f", unix.O_RDWR, 0), t.open("f", unix.O_RDONLY, 0)
		m := t.mmap(fd, size)
		look := func() {
			for _, off := range []int64{0, 4096, 300_000, 304_000, 500_000, 700_000, size - 4096, size - 1, size} {
				t.seek(reading, off, unix.SEEK_DATA)
				t.seek(reading, off, unix.SEEK_HOLE)
			}
		}
		look()
		m[300_000] = 'a'
		look()
		m[303_104], m[700_000] = 'b', 'c'
		t.seek(reading, 299_008, unix.SEEK_HOLE)
		look()
		t.close(fd) // the mapping is left
		m[0], m[size-1] = 'd', 'e'
		look()
		t.fallocate(reading, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		t.all(reading)
		t.did(unix.Munmap(m), "munmap")
		look()
		t.close(reading)
		t.blocks("f")
	},
	"direct": func(t *tape) {
		t.file("f", fill(8192, 1), 0o644)
		fd := t.open("f", unix.O_RDWR, 0)
		direct := t.open("f", unix.O_RDWR|unix.O_DIRECT, 0)
		m := t.mmap(fd, 8192)
		block := aligned(4096)
		copy(m[4096:], "stored")
		n, err := unix.Pread(direct, block, 4096)
		t.got(int64(n), err, "direct pread")
		t.note("%s", digest(block))
		copy(block, "direct")
		n, err = unix.Pwrite(direct, block, 0)
		t.got(int64(n), err, "direct pwrite")
		t.note("%s", digest(m))
		t.all(fd)
		t.did(unix.Munmap(m), "munmap")
		t.close(fd)
		t.close(direct)
	},
}

func (t *tape) mmap(fd, size int) []byte {
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if t.did(err, "mmap") != nil {
		panic("no mapping to go on with")
	}
	return m
}

// aligned returns memory as direct I/O needs it.
func aligned(size int) []byte {
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	return m // for as long as the case runs
}
