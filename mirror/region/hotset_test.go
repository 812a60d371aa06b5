package region

import (
	"fmt"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// A growing file is recorded less and less often, many small files by their
// directory, and what is made in a new directory by that.
func TestFewRecords(t *testing.T) {
	records := func(f *fixture, ops func()) int64 {
		t.Helper()
		before := f.pages()
		ops()
		return f.pages() - before
	}
	f := newFixture(t)
	one := records(f, func() { f.do(write4K("one", 0)) })
	grow := records(f, func() {
		for off := int64(0); off < 4<<30; off += 1 << 20 {
			f.do(write4K("grows", off))
		}
	})
	if most := 150 * one; grow > most {
		t.Errorf("4 GiB of appends took %d page writes, one record takes %d", grow, one)
	}
	many := records(f, func() {
		for i := range 10_000 {
			name := fmt.Sprintf("mail/%d", i)
			f.do(&op.Op{Kind: op.Create, Path: name})
			f.do(write4K(name, 0))
			f.do(&op.Op{Kind: op.SetAttr, Path: name})
			f.do(&op.Op{Kind: op.Unlink, Path: name})
		}
	})
	if most := 3 * one; many > most {
		t.Errorf("10,000 files took %d page writes, one record takes %d", many, one)
	}
	untar := records(f, func() {
		f.do(&op.Op{Kind: op.Mkdir, Path: "src"})
		for i := range 1000 {
			dir := fmt.Sprintf("src/%d", i)
			f.do(&op.Op{Kind: op.Mkdir, Path: dir})
			f.do(&op.Op{Kind: op.Create, Path: dir + "/f"})
			f.do(write4K(dir+"/f", 10<<20))
		}
	})
	if most := 6 * one; untar > most {
		t.Errorf("1,000 new directories took %d page writes, one record takes %d", untar, one)
	}
	// One that takes so long that its mark does not cover any more.
	for range 5 {
		f.checkpoint()
	}
	untar = records(f, func() {
		for i := range 5000 {
			dir := fmt.Sprintf("src/more%d", i)
			f.do(&op.Op{Kind: op.Mkdir, Path: dir})
			f.do(&op.Op{Kind: op.Create, Path: dir + "/f"})
		}
	})
	if most := int64(3 * maxWide); untar > 3*most {
		t.Errorf("5,000 more took %d page writes, one record takes %d", untar, one)
	}
}

// A tree that was unpacked is hot as a whole for a while. What goes on in it for
// longer is hot where it is.
func TestTreesAreRefined(t *testing.T) {
	f := newFixture(t)
	f.do(&op.Op{Kind: op.Mkdir, Path: "db"})
	f.do(&op.Op{Kind: op.Create, Path: "db/file"})
	f.checkpoint()
	f.do(write4K("db/file", 100*Extent))
	f.hot(Mark{Path: ".", Scope: Entries}, Mark{Path: "db", Scope: Tree})
	for range 10 {
		f.do(write4K("db/file", 100*Extent))
		f.checkpoint()
	}
	f.hot(Mark{Path: "db/file", From: 100 * Extent, To: 101 * Extent})
	f.crash()
	f.hot(Mark{Path: "db/file", From: 100 * Extent, To: 101 * Extent})
}
