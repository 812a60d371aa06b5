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

// What is pending by a name that goes out of what is mirrored is so by the others.
func TestHeirsOfWhatGoesOut(t *testing.T) {
	for _, c := range []struct {
		name         string
		from, to     string
		exchange     bool
		heir, nobody string
	}{
		{"a file", "d/a", "cache/new", false, "b", "lone"},
		{"a file, over another", "d/a", "cache/c", false, "b", "lone"},
		{"a file, for another", "d/a", "cache/c", true, "b", "lone"},
		{"a file, by what comes in", "cache/c", "d/a", true, "b", "lone"},
		{"a directory", "d", "cache/d", false, op.Root, ""},
		{"a file within", "d/a", "new", false, "new", "b"},
		{"a level file", "lone", "cache/new", false, "d/a", "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			rules, err := newRules(SyncOp, []Rule{{Match: "cache", Sync: SyncLocal}})
			if err != nil {
				t.Fatal(err)
			}
			r.rules = rules
			for _, path := range []string{"d", "cache"} {
				r.both(&op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
			}
			for _, path := range []string{"d/a", "lone", "cache/c"} {
				r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
			}
			r.both(&op.Op{Kind: op.Link, Path: "d/a", Path2: "b"})
			r.both(&op.Op{Kind: op.Link, Path: "d/a", Path2: "cache/a"})
			r.p.pending = newPending()
			r.p.pending.add(region.Mark{Path: "d/a"})
			o := &op.Op{Kind: op.Rename, Path: c.from, Path2: c.to}
			if c.exchange {
				o.Arg = unix.RENAME_EXCHANGE
			}
			must(t, r.live(o))
			if !r.p.pending.covers(c.heir) {
				t.Errorf("%q is not pending", c.heir)
			}
			if c.nobody != "" && r.p.pending.covers(c.nobody) {
				t.Errorf("%q is pending", c.nobody)
			}
		})
	}
}

func insert(path string, off int64) *op.Op {
	return &op.Op{Kind: op.Fallocate, Path: path, Off: off, Len: op.RegionSize / 2, Arg: unix.FALLOC_FL_INSERT_RANGE}
}
