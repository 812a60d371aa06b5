package fs

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTableShrinks sees that a table which once was large gives its memory back
// and still knows what is left.
func TestTableShrinks(t *testing.T) {
	st := func(i int) *unix.Stat_t { return &unix.Stat_t{Ino: uint64(i), Mode: unix.S_IFREG, Nlink: 1} }
	table := newTable(&unix.Stat_t{Ino: 1, Mode: unix.S_IFDIR})
	alive := func() int64 {
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		return int64(mem.HeapAlloc)
	}
	before := alive()
	const many, some = 200_000, 1000
	for i := range many {
		table.enter(table.root, fmt.Sprint(i), st(i+2), 1, 0)
	}
	for i := range many {
		if n, _ := table.find(st(i + 2)); i%some != 0 {
			table.forget(n, 1)
		}
	}
	if after := alive(); after > before+1<<20 {
		t.Errorf("%d bytes more are alive after all but %d of %d inodes were forgotten", after-before, many/some, many)
	}
	if got := table.size(); got != many/some+1 {
		t.Errorf("%d inodes are known, want %d", got, many/some+1)
	}
	for i := 0; i < many; i += some {
		n, last := table.find(st(i + 2))
		if n == nil || !last || table.get(n.id) != n {
			t.Fatalf("inode %d is lost", i)
		}
		if path, ok := table.path(n, func(string) bool { return true }); path != fmt.Sprint(i) || !ok {
			t.Errorf("inode %d is at %q", i, path)
		}
	}
}
