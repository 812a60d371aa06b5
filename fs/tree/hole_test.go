package tree

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// TestCheckHole compares a hole of the other side with what is here.
func TestCheckHole(t *testing.T) {
	dir := t.TempDir()
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	const size = 1 << 40
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	whole := &op.Op{Kind: op.Check, Path: "f", Len: size}
	for _, step := range []struct {
		name    string
		data    string
		off     int64
		differ  []int64 // in content and holes
		content []string
		next    int64
	}{
		{"all hole", "", 0, nil, nil, size},
		{"zeros", "\x00", 5 * op.RegionSize, []int64{5 * op.RegionSize}, nil, 5 * op.RegionSize},
		{"content", "x", 7*op.RegionSize + 9, []int64{5 * op.RegionSize, 7 * op.RegionSize}, []string{"content differs in bytes 458752-524287"}, 5 * op.RegionSize},
	} {
		if _, err := f.WriteAt([]byte(step.data), step.off); err != nil {
			t.Fatal(err)
		}
		if differ, err := tr.Check(whole); err != nil || !slices.Equal(differ, step.differ) {
			t.Errorf("%s: differ %v, %v; want %v", step.name, differ, err, step.differ)
		}
		if said, err := words(tr.Compare(whole)); err != nil || !slices.Equal(said, step.content) {
			t.Errorf("%s: compare %q, %v; want %q", step.name, said, err, step.content)
		}
		if next, err := tr.NextData("f", 0); err != nil || next != step.next {
			t.Errorf("%s: next data at %d, %v; want %d", step.name, next, err, step.next)
		}
	}
}
