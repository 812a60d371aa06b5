package tree

import (
	"fmt"
	"slices"
	"testing"
)

func TestAliases(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, mkdir("d"), mkdir("d/e"), create("a"), create("alone"), link("a", "d/b"), link("a", "d/e/c\xff"), symlink("s", "a"))
	for i := range 3000 { // more than one read of the directory
		apply(t, tr, create(fmt.Sprintf("d/e/other%d", i)))
	}
	apply(t, tr, link("a", "d/e/zz"))
	st, err := tr.Stat("a")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = tr.Aliases(func(ino uint64) bool { return ino == st.Ino }, func(path string, ino uint64) error {
		if ino != st.Ino {
			t.Errorf("%q is of inode %d, wanted %d", path, ino, st.Ino)
		}
		got = append(got, path)
		return nil
	})
	slices.Sort(got)
	if want := []string{"a", "d/b", "d/e/c\xff", "d/e/zz"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("names %q (%v), want %q", got, err, want)
	}
}
