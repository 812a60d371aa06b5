package exact

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Listings.
var dirCases = map[string]func(*tape){
	"seeking": func(t *tape) {
		t.mkdir("d", 0o755)
		for i := range 500 {
			t.did(unix.Mknod(fmt.Sprintf("d/%03d", i), unix.S_IFREG|0o644, 0), "mknod")
		}
		fd := t.open("d", unix.O_RDONLY, 0)
		all := t.entries(fd)
		t.note("%d entries, %d different names", len(all), different(all))
		// From behind any entry the rest follows, as often as one likes.
		for _, i := range []int{0, 1, 99, 250, 498, 500, 501} {
			_, err := unix.Seek(fd, all[i].off, unix.SEEK_SET)
			t.did(err, "seek behind %d", i)
			rest := t.entries(fd)
			t.note("the rest is the same: %t", slices.Equal(names(rest), names(all[i+1:])))
		}
		// Halfway, others come and go: what stays is listed once.
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		t.did(err, "rewind")
		var seen []entry
		for len(seen) < 250 {
			some, err := getdents(fd, 1000)
			if t.failed(err, "getdents") || len(some) == 0 {
				break
			}
			seen = append(seen, some...)
		}
		for i := range 500 {
			if i%3 == 0 {
				t.did(unix.Unlink(fmt.Sprintf("d/%03d", i)), "unlink")
				t.did(unix.Mknod(fmt.Sprintf("d/new%03d", i), unix.S_IFREG|0o644, 0), "mknod")
			}
		}
		seen = append(seen, t.entries(fd)...)
		stayed := map[string]int{}
		for _, e := range seen {
			stayed[e.name]++
		}
		missed, twice := 0, 0
		for i := range 500 {
			n := stayed[fmt.Sprintf("%03d", i)]
			if i%3 != 0 && n == 0 {
				missed++
			}
			if n > 1 {
				twice++
			}
		}
		t.note("missed %d, twice %d", missed, twice)
		_, err = unix.Seek(fd, 0, unix.SEEK_SET)
		t.did(err, "rewind")
		t.note("from the start %d", len(t.entries(fd)))
		t.close(fd)
		t.list("d")
	},
	"deleting": func(t *tape) {
		// As rm -r does: list a little, remove that, go on.
		t.mkdir("d", 0o755)
		for i := range 300 {
			t.did(unix.Mknod(fmt.Sprintf("d/%s%d", strings.Repeat("n", i%60), i), unix.S_IFREG|0o644, 0), "mknod")
		}
		fd := t.open("d", unix.O_RDONLY, 0)
		for {
			some, err := getdents(fd, 700)
			if t.failed(err, "getdents") || len(some) == 0 {
				break
			}
			for _, e := range some {
				if e.name != "." && e.name != ".." {
					if err := unix.Unlinkat(fd, e.name, 0); err != nil {
						t.did(err, "unlinkat %s", e.name)
					}
				}
			}
		}
		t.close(fd)
		t.rmdir("d")
	},
	"buffers": func(t *tape) {
		t.mkdir("d", 0o755)
		t.mkdir("d/"+strings.Repeat("x", 255), 0o755)
		t.symlink("y", "d/l")
		t.mknod("d/p", unix.S_IFIFO|0o600, 0)
		t.mknod("d/s", unix.S_IFSOCK|0o600, 0)
		t.mknod("d/c", unix.S_IFCHR|0o600, 0x103)
		fd := t.open("d", unix.O_RDONLY, 0)
		for _, size := range []int{0, 1, 10, 23} {
			_, err := getdents(fd, size)
			t.did(err, "getdents into %d", size)
		}
		n := len(t.entries(fd))
		t.note("%d entries", n)
		_, err := getdents(fd, 1000)
		t.did(err, "getdents at the end")
		t.mknod("d/late", unix.S_IFREG|0o600, 0)
		other := t.open("d", unix.O_RDONLY, 0)
		t.note("%d in a new descriptor", len(t.entries(other)))
		dup, err := unix.Dup(other)
		t.did(err, "dup")
		t.note("%d in a copy", len(t.entries(dup)))
		tick()
		t.close(dup)
		t.close(other)
		t.close(fd)
		t.list("d")
		t.chmod("d", 0o700)
		t.as(alice, func() { t.list("d") })
	},
	"dots": func(t *tape) {
		t.dirs("a", "a/b")
		fd := t.open("a/b", unix.O_RDONLY, 0)
		for _, e := range t.entries(fd) {
			var st unix.Stat_t
			t.did(unix.Fstatat(fd, e.name, &st, 0), "stat %s", e.name)
			t.note("%s is itself: %t", e.name, st.Ino == e.ino)
		}
		t.rename("a/b", "b", 0)
		_, err := unix.Seek(fd, 0, unix.SEEK_SET)
		t.did(err, "rewind")
		for _, e := range t.entries(fd) {
			var st unix.Stat_t
			t.did(unix.Fstatat(fd, e.name, &st, 0), "stat %s", e.name)
			t.note("%s is itself: %t", e.name, st.Ino == e.ino)
		}
		t.close(fd)
	},
	"large": func(t *tape) {
		t.mkdir("d", 0o755)
		fd := t.open("d", unix.O_RDONLY, 0)
		for i := range 3000 {
			if err := unix.Mknodat(fd, fmt.Sprintf("%s%d", strings.Repeat("long", i%20), i), unix.S_IFREG|0o600, 0); err != nil {
				t.did(err, "mknod %d", i)
				return
			}
		}
		all := t.entries(fd)
		t.note("%d entries, %d different", len(all), different(all))
		wrong := 0
		for _, e := range all {
			var st unix.Stat_t
			if unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || e.ino != st.Ino && e.name != ".." {
				wrong++
			}
		}
		t.note("%d wrong", wrong)
		t.close(fd)
	},
}

func names(all []entry) (names []string) {
	for _, e := range all {
		names = append(names, e.name)
	}
	return names
}

func different(all []entry) int {
	return len(slices.Compact(slices.Sorted(slices.Values(names(all)))))
}
