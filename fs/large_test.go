package fs_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/standbyfs/standbyfs/fs"
	"golang.org/x/sys/unix"
)

// TestLargeDirectory lists a directory of many entries while others come and
// go, seeks in it, and removes it. $FILES says how many.
func TestLargeDirectory(t *testing.T) {
	files := 100_000
	if n, err := strconv.Atoi(os.Getenv("FILES")); err == nil {
		files = n
	}
	m := mount(t, fs.Null{}, fs.Options{})
	// The mount has not seen it yet: most are made below, which is quicker.
	must(t, os.Mkdir(m.Backing+"/d", 0o755))
	below, err := unix.Open(m.Backing+"/d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for i := range files {
		must(t, unix.Mknodat(below, fmt.Sprintf("f%d", i), unix.S_IFREG|0o644, 0))
	}
	must(t, unix.Close(below))
	heap := liveHeap()

	dir, err := unix.Open(m.Dir+"/d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(dir)
	// Some come and go all the time.
	var stop atomic.Bool
	var others sync.WaitGroup
	var failed atomic.Pointer[error]
	for k := range 2 {
		others.Go(func() {
			for i := 0; !stop.Load(); i++ {
				path := fmt.Sprintf("%s/d/other%d-%d", m.Dir, k, i%1000)
				if err := unix.Mknod(path, unix.S_IFREG|0o644, 0); err != nil {
					failed.Store(&err)
					return
				}
				if err := unix.Unlink(path); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	type place struct {
		index int
		off   int64
	}
	var places []place // from here to there in the listing
	var order []int32  // the files that stay, as they are listed
	seen := make([]bool, files)
	for size := 0; ; size++ {
		batch := readSome(t, dir, 2000+size%7*9000)
		if len(batch) == 0 {
			break
		}
		for _, e := range batch {
			i, ok := number(e.name)
			if !ok {
				continue
			}
			if seen[i] {
				t.Fatalf("f%d is listed twice", i)
			}
			seen[i] = true
			order = append(order, int32(i))
			places = append(places, place{len(order), e.off})
		}
	}
	if len(order) != files {
		t.Errorf("%d files listed, want %d", len(order), files)
	}
	for range 50 {
		p := places[rand.IntN(len(places))]
		_, err := unix.Seek(dir, p.off, unix.SEEK_SET)
		must(t, err)
		next := order[p.index:]
		for _, e := range readSome(t, dir, 8000) {
			i, ok := number(e.name)
			if !ok {
				continue
			}
			if len(next) == 0 || int32(i) != next[0] {
				t.Fatalf("behind entry %d of the listing comes f%d", p.index, i)
			}
			next = next[1:]
		}
	}
	stop.Store(true)
	others.Wait()
	if err := failed.Load(); err != nil {
		t.Error(*err)
	}

	// Look at each, so that all are known at a time.
	for _, i := range order {
		var st unix.Stat_t
		must(t, unix.Fstatat(dir, fmt.Sprintf("f%d", i), &st, unix.AT_SYMLINK_NOFOLLOW))
	}
	// By a process of its own, as users do it.
	if out, err := exec.CommandContext(t.Context(), "rm", "-rf", m.Dir+"/d").CombinedOutput(); err != nil {
		t.Errorf("rm -rf: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(m.Backing); err != nil || len(left) > 0 {
		t.Errorf("%v left (%v)", left, err)
	}
	unix.Close(dir)
	eventually(t, "nothing is known any more", func() bool {
		inodes, open, late := m.fs.Known()
		return inodes <= 2 && open == 0 && late == 0
	})
	now := liveHeap()
	t.Logf("%d files: %d KiB before, %d KiB after", files, heap>>10, now>>10)
	if now > heap+40<<20 { // workers keep buffers of the largest requests and replies
		t.Errorf("%d bytes are alive after %d files have gone, %d before", now, files, heap)
	}
}

func liveHeap() uint64 {
	// Twice, since pools keep what they have over one collection.
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}

type listed struct {
	name string
	off  int64 // behind it
}

// readSome reads as much of a directory as fits into so many bytes.
func readSome(t *testing.T, dir, size int) (some []listed) {
	t.Helper()
	buf := make([]byte, size)
	n, err := unix.Getdents(dir, buf)
	must(t, err)
	for rest := buf[:n]; len(rest) > 0; {
		// struct linux_dirent64: ino u64, off i64, length u16, type u8, name.
		length := binary.NativeEndian.Uint16(rest[16:])
		name, _, _ := strings.Cut(string(rest[19:length]), "\x00")
		some = append(some, listed{name, int64(binary.NativeEndian.Uint64(rest[8:]))})
		rest = rest[length:]
	}
	return some
}

func number(name string) (int, bool) {
	if name[0] != 'f' {
		return 0, false
	}
	i, err := strconv.Atoi(name[1:])
	return i, err == nil
}
