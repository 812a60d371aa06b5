package mirror

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// TestHeirs makes ops about one name of a file while another is pending: what
// gets, or keeps, content that is not level becomes pending.
func TestHeirs(t *testing.T) {
	const r = op.RegionSize
	whole, none := want{whole: true}, want{}
	data := func(from, to int64) want { return want{data: []span{{from, to}}} }
	a, large := region.Mark{Path: "a"}, region.Mark{Path: "a", From: 3 * r, To: 4 * r}
	for _, c := range []struct {
		name string
		mark region.Mark
		op   *op.Op
		heir string
		want want
	}{
		{"the pending name goes", a, &op.Op{Kind: op.Unlink, Path: "a"}, "b", whole},
		{"another comes over it", a, &op.Op{Kind: op.Rename, Path: "lone", Path2: "a"}, "b", whole},
		{"a copy from its other name", a, &op.Op{Kind: op.CopyRange, Path: "b", Path2: "lone", Len: 4}, "lone", whole},
		{"a copy from a level file", a, &op.Op{Kind: op.CopyRange, Path: "lone", Path2: "copy", Len: 4}, "copy", none},
		{"a level name goes", a, &op.Op{Kind: op.Unlink, Path: "b"}, "lone", none},
		{"its data moves on", large, insert("a", r), "a", data(r, region.End)},
		{"its data moves on, by its other name", large, insert("b", r), "b", data(r, region.End)},
		{"data of a level file moves on", large, insert("lone", r), "lone", none},
		{"a write by another name", large, &op.Op{Kind: op.Write, Path: "b", Off: 2*r + 1, Data: []byte("x")}, "b", none},
		{"a write by another name, where holes are looked at", region.Mark{Path: op.Root, Scope: region.Entries},
			&op.Op{Kind: op.Write, Path: "d/c", Off: 2*r + 1, Data: []byte("x")}, "d/c", data(2*r, 3*r)},
		{"a copy to another name, where holes are looked at", region.Mark{Path: op.Root, Scope: region.Entries},
			&op.Op{Kind: op.CopyRange, Path: "d/lone", Path2: "d/c", Off2: 2*r + 1, Len: 1}, "d/c", data(2*r, 3*r)},
		{"a hole by another name, where holes are looked at", region.Mark{Path: op.Root, Scope: region.Entries},
			&op.Op{Kind: op.Fallocate, Path: "d/c", Off: 2*r + 1, Len: 1, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}, "d/c", data(2*r, 3*r)},
		{"a write to a lone file", region.Mark{Path: op.Root, Scope: region.Entries},
			&op.Op{Kind: op.Write, Path: "d/lone", Off: 2*r + 1, Data: []byte("x")}, "d/lone", none},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.both(&op.Op{Kind: op.Mkdir, Path: "d", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
			for _, path := range []string{"a", "lone", "copy", "d/lone"} {
				p.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
				p.both(&op.Op{Kind: op.Write, Path: path, Data: bytes.Repeat([]byte(path), 6*r/len(path))})
			}
			p.both(&op.Op{Kind: op.Link, Path: "a", Path2: "b"})
			p.both(&op.Op{Kind: op.Link, Path: "a", Path2: "d/c"})
			p.p.pending = newPending()
			p.p.pending.add(c.mark)
			p.p.pending.next() // it has been sent
			must(t, p.live(c.op))
			var got want
			if i := p.p.pending.items[c.heir]; i != nil {
				got = i.todo
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("of %q is pending %+v, want %+v", c.heir, got, c.want)
			}
		})
	}
}

func insert(path string, off int64) *op.Op {
	return &op.Op{Kind: op.Fallocate, Path: path, Off: off, Len: op.RegionSize / 2, Arg: unix.FALLOC_FL_INSERT_RANGE}
}
