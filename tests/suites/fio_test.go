package suites

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFio lets fio write, in each way that programs write, and read back with
// checksums, first while the page cache may still have it and then from a
// cold one. The files stay, for the replicas to be compared.
func TestFio(t *testing.T) {
	ways := []struct {
		name string
		args []string
	}{
		{"buffered", []string{"--ioengine=psync", "--bsrange=512-128k", "--fsync=64"}},
		{"direct", []string{"--ioengine=psync", "--direct=1", "--bsrange=4k-128k"}},
		{"sync", []string{"--ioengine=psync", "--sync=dsync", "--bs=64k"}},
		{"mmap", []string{"--ioengine=mmap", "--bs=4k"}},
		{"libaio", []string{"--ioengine=libaio", "--direct=1", "--iodepth=16", "--bsrange=4k-64k"}},
		{"libaio-buffered", []string{"--ioengine=libaio", "--iodepth=16", "--bsrange=4k-64k"}},
		{"io_uring", []string{"--ioengine=io_uring", "--direct=1", "--iodepth=16", "--bsrange=4k-64k"}},
		{"io_uring-buffered", []string{"--ioengine=io_uring", "--iodepth=16", "--bsrange=4k-64k"}},
	}
	on(t, []kind{null, mirrored, barrier}, func(t *testing.T, p place) {
		for _, way := range ways {
			for _, order := range []string{"write", "randwrite", "randrw"} {
				dir := filepath.Join(p.dir, way.name+"-"+order)
				mkdir(t, dir)
				args := append([]string{"--name=" + order, "--directory=" + dir, "--rw=" + order, fmt.Sprintf("--size=%dm", 8**times),
					"--numjobs=2", "--fallocate=none", "--randseed=7", "--verify=crc32c", "--verify_fatal=1", "--group_reporting"}, way.args...)
				fio(t, p, args)
				dropCaches(t)
				fio(t, p, append(args, "--verify_only"))
			}
		}
	})
}

func fio(t *testing.T, p place, args []string) {
	t.Helper()
	if out, code := p.program(t, 5*time.Minute, "fio", args...); code != 0 {
		t.Errorf("fio %q: exit code %d\n%s", args, code, out)
	}
}

// dropCaches makes the kernel forget what it can of pages, dentries and inodes.
func dropCaches(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
}
