// Package growth sees that nodes need no more after much than after little.
package growth

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// needs is what this process uses, with all nodes in it.
type needs struct {
	Goroutines  int
	Descriptors int
	Heap        int64 // bytes that are alive
}

// What may come and go: a mount keeps up to 18 workers, each with buffers for
// the largest request and reply. The ring is full before anything is measured.
var slack = needs{Goroutines: 20, Descriptors: 8, Heap: 40 << 20}

func measure(t *testing.T) needs {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	// Twice, since pools keep what they have over one collection.
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return needs{runtime.NumGoroutine(), len(fds), int64(mem.HeapAlloc)}
}

func (n needs) within(limit needs) bool {
	return n.Goroutines <= limit.Goroutines && n.Descriptors <= limit.Descriptors && n.Heap <= limit.Heap
}

// TestNothingGrows lets files come and go, with and without mirrors. $FILES
// says how many: 'make soak' lets a million of them go by, and 10 GB with them.
// It compares with what was needed after a tenth of them.
func TestNothingGrows(t *testing.T) {
	files := harness.Number("FILES", 2_000)
	for _, mirrors := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d mirrors", mirrors), func(t *testing.T) {
			c := harness.NewCluster(t, harness.Options{Mirrors: mirrors, Mirroring: daemon.Mirroring{RingBytes: 1 << 20}})
			comeAndGo(t, c.Primary.Mountpoint, max(500, files/10))
			before := measure(t)
			comeAndGo(t, c.Primary.Mountpoint, files)
			limit := needs{before.Goroutines + slack.Goroutines, before.Descriptors + slack.Descriptors, before.Heap + slack.Heap}
			var after needs
			harness.Eventually(t, "what was needed to be given back", func() bool {
				after = measure(t)
				return after.within(limit)
			}, func() string { return fmt.Sprintf("before %d files %+v, now %+v", files, before, after) })
			t.Logf("%+v before %d files, %+v after them", before, files, after)
		})
	}
}

// comeAndGo makes files of 10 KB and removes them: some after they were closed,
// some while they are open, some by a rename, and some with a second name.
func comeAndGo(t *testing.T, dir string, files int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, 10_000)
	for i := range files {
		path := fmt.Sprintf("%s/d%d", dir, i/100)
		if i%100 == 0 {
			must(unix.Mkdir(path, 0o755))
		}
		file, other := fmt.Sprintf("%s/f%d", path, i), path+"/other"
		fd, err := unix.Open(file, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		must(err)
		_, err = unix.Write(fd, data)
		must(err)
		switch i % 4 {
		case 0:
			must(unix.Close(fd))
			must(unix.Unlink(file))
		case 1:
			must(unix.Unlink(file))
			must(unix.Close(fd))
		case 2:
			must(unix.Rename(file, other))
			must(unix.Close(fd))
		case 3:
			must(unix.Link(file, file+"x"))
			must(unix.Close(fd))
			must(unix.Unlink(file))
			must(unix.Unlink(file + "x"))
		}
		if i%100 == 99 || i == files-1 {
			must(os.RemoveAll(path))
		}
	}
}
