package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror/region"
)

func TestFigures(t *testing.T) {
	for _, test := range []struct {
		f    figure
		mark string
	}{
		{figure{Value: once(1.1), Bound: 1.1}, "ok"},
		{figure{Value: once(1.2), Bound: 1.1}, "NO"},
		{figure{Value: spread{1.2, 1, 1.3}, Bound: 1.1}, "~"},
		{figure{Value: once(-2), Bound: 3}, "ok"},
		{figure{Value: once(.5), Bound: .5, Least: true}, "ok"},
		{figure{Value: once(.4), Bound: .5, Least: true}, "NO"},
		{figure{Value: spread{.4, .3, .6}, Bound: .5, Least: true}, "~"},
		{figure{Value: once(9)}, ""},
	} {
		if got := test.f.mark(); got != test.mark {
			t.Errorf("%+v is marked %q, want %q", test.f, got, test.mark)
		}
	}
	var b strings.Builder
	printFigures(&b, []figure{{Title: "A figure", Value: spread{2, 1, 3}, Unit: " %", Bound: 3, About: "some data"}})
	for _, want := range []string{"A figure", "2.00 % (1.00 to 3.00)", "at most 3.00 %", "ok", "some data"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if got := overhead([]float64{100, 50, 100}, []float64{110, 50, 90}); got.Median != 0 || got.Max < 9.9 || got.Min > -9.9 {
		t.Errorf("overhead %+v", got)
	}
	if got := newRecovery(regexp.MustCompile("^recovery-(hot|data)$"), false); len(got.parts) != 2 || got.files >= newRecovery(regexp.MustCompile(""), true).files {
		t.Errorf("chosen: %+v", got)
	}
}

// What is changed is as much as is said.
func TestDataset(t *testing.T) {
	dir := t.TempDir()
	const size = 8 << 20
	if err := writeTree(dir, size); err != nil {
		t.Fatal(err)
	}
	read := func() (content [][]byte) {
		t.Helper()
		files, all, err := filesIn(dir)
		if err != nil || all != size {
			t.Fatalf("the tree has %d bytes: %v", all, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f.path)
			if err != nil {
				t.Fatal(err)
			}
			content = append(content, b)
		}
		return content
	}
	before := read()
	changed, err := changeRegions(dir, 10)
	if err != nil || changed != 10*regionSize {
		t.Fatalf("changed %d bytes: %v", changed, err)
	}
	regions := 0
	after := read()
	for i := range before {
		for off := 0; off < len(before[i]); off += regionSize {
			if !bytes.Equal(before[i][off:off+regionSize], after[i][off:off+regionSize]) {
				regions++
			}
		}
	}
	if regions != 10 {
		t.Errorf("%d regions have changed, want 10", regions)
	}
	many := filepath.Join(dir, "many")
	if err := writeMany(many, 1100); err != nil {
		t.Fatal(err)
	}
	files, all, err := filesIn(many)
	if err != nil || len(files) != 1100 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	if changed, err := changeFiles(many, 1100); err != nil || changed != all {
		t.Errorf("changed %d bytes of %d: %v", changed, all, err)
	}
	if err := turnOver(many); err != nil {
		t.Error(err)
	}
}

// A directory that files are made in, a tree that is unpacked and a file that
// grows need few records, and where everything is hot none.
func TestRecords(t *testing.T) {
	for _, load := range hotLoads() {
		var r records
		if err := r.add(filepath.Join(t.TempDir(), "state"), load.work, 1000); err != nil {
			t.Fatal(err)
		}
		if most := 20; len(r.took) == 0 || len(r.took) > most {
			t.Errorf("%s: %d records for a thousand steps, want at least one and at most %d", load.name, len(r.took), most)
		}
	}
	dir := t.TempDir()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := everythingHot(dir); err != nil {
		t.Fatal(err)
	}
	err = withRegions(dir, func(db *bolt.DB, s *region.Store) error {
		if !slices.Contains(s.Hot(), region.Everything) {
			t.Errorf("hot is %v", s.Hot())
		}
		var r records
		if err := r.announce(db, s, work{Kind: "create"}, 100); err != nil {
			return err
		}
		if len(r.took) > 0 {
			t.Errorf("%d records where everything is hot", len(r.took))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
