package mirror

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// A file grows, with a hole in it, while its directory is looked at. The mirror
// has an older and longer one under its name, with the same beginning: what that
// holds must not stand where the new one has a hole.
func TestGrowsInASurvey(t *testing.T) {
	const size = 5 * op.RegionSize
	at := func(sec int64) op.Attr { return op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: sec}} }
	data := func(off int64, c string, n int) *op.Op {
		return &op.Op{Kind: op.Write, Path: "f", Off: off, Data: bytes.Repeat([]byte(c), n), Attr: at(1)}
	}
	create := &op.Op{Kind: op.Create, Path: "f", Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFREG | 0o600, Mtime: op.Time{Sec: 1}}}
	longer := &op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Valid: op.AttrSize | op.AttrMtime, Size: size, Mtime: op.Time{Sec: 2}}}
	for _, scope := range []region.Scope{region.Entries, region.Children, region.Tree} {
		for when, hook := range map[string]func(*pair, func()){
			"when it is listed":    func(r *pair, grow func()) { r.listed = grow },
			"when it was surveyed": func(r *pair, grow func()) { r.surveyed = grow },
		} {
			for how, grow := range map[string]*op.Op{"truncated": longer, "written": data(size-3*op.RegionSize/2, "x", 9)} {
				t.Run(fmt.Sprint(scope, " ", when, " ", how), func(t *testing.T) {
					r := newPair(t)
					for _, o := range []*op.Op{create, data(0, "x", op.RegionSize)} {
						must(t, r.do(o))
						must(t, r.b.Apply(o))
					}
					must(t, r.b.Apply(data(op.RegionSize, "o", size-op.RegionSize)))
					done := false
					hook(r, func() {
						if !done {
							done = true
							must(t, r.live(grow))
						}
					})
					r.resync([]region.Mark{{Path: op.Root, Scope: scope}}, nil)
					if !done {
						t.Error("it did not grow")
					}
					r.equal()
				})
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
