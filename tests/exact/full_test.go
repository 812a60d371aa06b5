package exact

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// fullSize is small enough to be filled quickly and large enough for ext4, which
// then has blocks of 1 KiB.
const fullSize = 24 << 20

// TestFull compares disks that are full, each of which is an ext4 of its own.
// The mirrors' disks are not: they have to follow all the same.
func TestFull(t *testing.T) {
	first := mirrored(t, harness.Options{Disks: map[string]harness.DiskOptions{"primary": {Size: fullSize, ReplicaOnly: true}}})
	small := public(t)
	harness.NewDisk(t, small, fullSize)
	if err := os.Mkdir(small+"/null", 0o755); err != nil {
		t.Fatal(err)
	}
	_, null, _ := harness.Passthrough(t, small+"/null")
	places := map[string]place{"mirrored": first, "null": place(null)}
	plain := public(t)
	harness.NewDisk(t, plain, fullSize)
	for _, name := range slices.Sorted(maps.Keys(fullCases)) {
		t.Run(name, func(t *testing.T) { compare(t, plain, places, "full/"+name, 0) })
	}
}

// fullCases fill the disk. They leave room again, but keep a few files, in which
// the replicas are compared.
var fullCases = map[string]func(*tape){
	"blocks": func(t *tape) {
		long := func(c string) string { return strings.Repeat(c, 255) }
		// A directory whose only block has no room for another long name.
		t.dirs("d", "room", "listed")
		for _, c := range []string{"a", "b", "c"} {
			t.mknod("d/"+long(c), unix.S_IFREG|0o644, 0)
		}
		t.setxattr("listed", defaults, manyUsers(), 0)
		t.file("some", fill(1024, 1), 0o644)
		t.file("none", "", 0o644)
		t.file("sparse", "", 0o644)
		t.truncate("sparse", 100_000)
		t.symlink("text", "l")
		t.fill("ballast")

		t.note("data")
		for _, flags := range []int{0, unix.O_APPEND, unix.O_DSYNC, unix.O_SYNC | unix.O_APPEND} {
			some, none := t.open("some", unix.O_RDWR|flags, 0), t.open("none", unix.O_RDWR|flags, 0)
			t.fmoved("pwrite", func() { t.pwrite(none, "x", 0) }, none)
			t.pwrite(none, fill(5000, 2), 100_000)
			if flags&unix.O_APPEND == 0 {
				t.pwrite(some, fill(1024, 2), 0)
				t.fmoved("pwrite", func() { t.pwrite(some, fill(3000, 3), 500) }, some) // the first block is there
			}
			t.pwrite(some, "x", 1024)
			t.fstat(some)
			t.fstat(none)
			t.did(unix.Fsync(some), "fsync")
			t.did(unix.Fdatasync(none), "fdatasync")
			t.close(some)
			t.close(none)
			t.cat("some")
			t.cat("none")
		}
		sparse, some := t.open("sparse", unix.O_RDWR, 0), t.open("some", unix.O_RDWR, 0)
		t.pwrite(sparse, "x", 50_000)
		t.pwrite(sparse, fill(3000, 2), 99_000)
		t.copyRange(some, sparse, 0, 0, 1024)
		t.copyRange(some, some, 0, 1024, 1024)
		t.copyRange(some, some, 0, 600, 424)
		for _, mode := range []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE} {
			t.fmoved("fallocate", func() { t.fallocate(sparse, mode, 0, 50_000) }, sparse)
			t.fmoved("fallocate", func() { t.fallocate(some, mode, 0, 1<<20) }, some)
			t.fstat(some)
		}
		t.ftruncate(sparse, 1<<30)
		t.ftruncate(sparse, 100)
		t.ftruncate(some, 700)
		t.pwrite(some, "the end", 700)
		t.fstat(some)
		t.fstat(sparse)
		t.all(some)
		t.close(sparse)
		t.close(some)

		t.note("names")
		full := "d/" + long("d")
		t.moved("create", func() { t.open(full, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644) }, "d")
		t.moved("mkdir", func() { t.mkdir(full, 0o755) }, "d")
		t.mknod(full, unix.S_IFREG|0o644, 0)
		t.mknod(full, unix.S_IFIFO|0o644, 0)
		t.symlink("text", full)
		t.moved("link", func() { t.link("some", full) }, "d", "some")
		t.moved("rename", func() { t.rename("some", full, 0) }, "d", ".", "some")
		t.rename("some", full, unix.RENAME_WHITEOUT)
		t.rename("some", full, unix.RENAME_NOREPLACE)
		t.rename("room", full, 0)
		fd := t.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
		t.write(fd, "x")
		t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, full, unix.AT_SYMLINK_FOLLOW), "linkat")
		t.fstat(fd)
		t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, "room/linked", unix.AT_SYMLINK_FOLLOW), "linkat")
		t.fstat(fd)
		t.close(fd)
		t.stat(full, "some", "room", "d", "room/linked")
		t.list("d")
		t.mkdir("room/d", 0o755)
		t.symlink(strings.Repeat("t", 100), "room/l")
		t.open("listed/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
		t.mknod("listed/p", unix.S_IFIFO|0o644, 0)
		t.mkdir("listed/d", 0o755)
		t.list("listed")
		t.list("room")
		t.stat("room", "listed")
		// These need no block.
		t.close(t.open("room/f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644))
		t.symlink("short", "room/l")
		t.mknod("room/c", unix.S_IFCHR|0o600, 0x103)
		t.link("some", "room/some")
		t.rename("some", "d/"+long("c"), 0)
		t.rename("d/"+long("c"), "d/"+long("b"), unix.RENAME_EXCHANGE)
		t.rename("room/f", "room/g", unix.RENAME_WHITEOUT)
		t.list("room")
		t.list("d")

		t.note("attributes")
		for _, name := range []string{"d", "none", "l"} {
			t.setxattr(name, "trusted.small", "value", 0)
			t.moved("setxattr", func() { t.setxattr(name, "trusted.large", fill(700, 1), 0) }, name)
			t.setxattr(name, "trusted.small", fill(500, 1), unix.XATTR_REPLACE)
			t.getxattr(name, "trusted.small", 1000)
			t.listxattr(name)
		}
		t.setxattr("none", access, manyUsers(), 0)
		t.chmod("none", 0o640)
		t.chown("none", 1000, 1000)
		t.utimes("none", at(1000, 1), at(2000, 2))
		t.stat("none")
		t.listxattr("none")

		t.note("room again")
		t.unlink("ballast")
		t.freed(func() error { return os.WriteFile("probe", make([]byte, 1<<20), 0o600) })
		t.file("full-after", fill(100_000, 5), 0o644)
		t.mkdir("room/d", 0o755)
		t.setxattr("none", "user.large", fill(700, 2), 0)
		t.rename("none", full, 0)
		t.list("d")
		t.cat("full-after")
	},
	"inodes": func(t *tape) {
		t.dirs("d")
		t.file("f", "contents", 0o644)
		t.link("f", "g")
		for i := 0; ; i++ {
			if err := unix.Mknod("d/"+number(i), unix.S_IFREG|0o644, 0); err != nil {
				t.did(err, "mknod")
				break
			}
		}
		t.open("new", unix.O_CREAT|unix.O_RDWR, 0o644)
		t.open(".", unix.O_TMPFILE|unix.O_RDWR, 0o644)
		t.moved("mkdir", func() { t.mkdir("new", 0o755) }, ".")
		t.symlink("x", "new")
		t.mknod("new", unix.S_IFSOCK|0o644, 0)
		t.rename("f", "new", unix.RENAME_WHITEOUT)
		t.stat("f", "new", ".")
		t.link("f", "new")
		t.rename("new", "other", 0)
		t.unlink("d/" + number(7))
		t.freed(func() error { return unix.Mkdir("probe", 0o755) })
		t.rmdir("probe")
		t.freed(func() error { return unix.Mkdir("probe", 0o755) })
		t.rename("probe", "new", 0)
		t.mkdir("new", 0o755)
		t.list(".")
		t.did(os.RemoveAll("d"), "remove all")
		t.dirs("d")
		t.list("d")
	},
}

func number(i int) string {
	return string([]byte{byte('a' + i/676%26), byte('a' + i/26%26), byte('a' + i%26)}) + strings.Repeat("n", i/17576)
}

// fill writes a file until the disk is full, to its last block. How much that is
// depends on what else is there.
func (t *tape) fill(path string) {
	fd := t.open(path, unix.O_CREAT|unix.O_WRONLY, 0o644)
	defer unix.Close(fd)
	block := []byte(fill(64<<10, 7))
	var size int64
	for fresh := true; ; fresh = false {
		was := size
		for step := len(block); step >= 512; {
			n, err := retry(func() (int, error) { return unix.Pwrite(fd, block[:step], size) })
			size += int64(max(n, 0))
			switch {
			case errors.Is(err, unix.ENOSPC):
				step /= 2
			case t.failed(err, "pwrite"):
				return
			}
		}
		// What is set aside for data that has no place yet comes free by a sync.
		if err := unix.Fsync(fd); t.failed(err, "fsync") {
			return
		}
		if size == was && !fresh {
			break
		}
	}
	var st unix.Stat_t
	t.did(unix.Fstat(fd, &st), "fstat")
	t.note("full; the file is as long as was written: %t", st.Size == size)
}

// freed tries until there is room. A mount frees what was removed once the kernel
// has forgotten it, a moment later.
func (t *tape) freed(try func() error) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	err := try()
	for left := 20_000; errors.Is(err, unix.ENOSPC) && left > 0; left-- {
		<-again.C
		err = try()
	}
	t.did(err, "there is room")
}

// manyUsers is a list that fits into no inode.
func manyUsers() string {
	entries := [][3]uint32{{tagOwner, 7, noID}}
	for id := range uint32(60) {
		entries = append(entries, [3]uint32{tagUser, 6, 5000 + id})
	}
	return accessList(append(entries, [3]uint32{tagGroupOf, 5, noID}, [3]uint32{tagMask, 7, noID}, [3]uint32{tagOther, 0, noID})...)
}
