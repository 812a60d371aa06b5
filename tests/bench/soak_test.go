package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/tests/harness"
)

func TestGrowth(t *testing.T) {
	flat, leak := make([][]held, 90), make([][]held, 90)
	for i := range flat {
		flat[i] = []held{{resident: 100 << 10, files: 20, threads: 10}, {resident: int64(min(i, 20)) << 10, files: 9, threads: 9}}
		leak[i] = []held{{resident: 100 << 10, files: 20, threads: 10}, {resident: 50 << 10, files: 2 * i, threads: 9}}
	}
	if err := growth(flat); err != nil {
		t.Errorf("what fills up and stays: %v", err)
	}
	if err := growth(leak); err == nil || !strings.Contains(err.Error(), "server 1 has grown from 118 to 178 open files") {
		t.Errorf("what grows: %v", err)
	}
}

// A small soak runs on real processes and finds nothing that grows.
func TestSoak(t *testing.T) {
	harness.NeedFUSE(t)
	dir := t.TempDir()
	var b strings.Builder
	args := []string{"-dir", filepath.Join(dir, "run"), "-out", filepath.Join(dir, "out"),
		"-soak", "-soak-mib", "32", "-soak-files", "500", "-configs", "null"}
	if err := benchMain(args, &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"null, 32 MiB written", "null, 500 files created and removed", "100%"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not said:\n%s", want, b.String())
		}
	}
}
