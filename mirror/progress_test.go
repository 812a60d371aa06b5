package mirror

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/tree"
)

// TestVerifyCounts adds up what a verify will read: each file once, under however
// many names, and none that does not travel.
func TestVerifyCounts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"f": 10_000, "a/g": 2_000_000, "a/tmp/local": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a/g"), filepath.Join(dir, "h")); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	rules, err := newRules(SyncOp, []Rule{{Match: "tmp", Sync: SyncLocal}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		v := &verify{log: &Log{cfg: Config{Tree: tr}, rules: rules}, began: time.Now(), report: &VerifyReport{Files: 1}}
		if got := v.progress(); got.Total != 0 || got.Left != 0 {
			t.Errorf("before it is counted: %+v", got)
		}
		v.count(t.Context())
		v.report.Bytes = 10_000
		time.Sleep(2 * time.Second)
		got := *v.progress()
		if want := (Gauge{Done: 10_000, Total: 2_010_000, Rate: 5_000, Left: 400 * time.Second}); got.Gauge != want || got.Files != 1 {
			t.Errorf("%+v, want %+v", got, want)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		v.gauge = Gauge{}
		if v.count(ended); v.gauge.Total != 0 {
			t.Errorf("a part is taken for all: %d", v.gauge.Total)
		}
	})
}
