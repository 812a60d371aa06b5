package mirror

import (
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// TestHeirs makes ops about one name of a file while another is pending: what
// gets, or keeps, content that is not level becomes pending.
func TestHeirs(t *testing.T) {
	for _, c := range []struct {
		name string
		op   *op.Op
		heir string
		is   bool
	}{
		{"the pending name goes", &op.Op{Kind: op.Unlink, Path: "a"}, "b", true},
		{"another comes over it", &op.Op{Kind: op.Rename, Path: "lone", Path2: "a"}, "b", true},
		{"a copy from its other name", &op.Op{Kind: op.CopyRange, Path: "b", Path2: "lone", Len: 4}, "lone", true},
		{"a copy from a level file", &op.Op{Kind: op.CopyRange, Path: "lone", Path2: "copy", Len: 4}, "copy", false},
		{"a level name goes", &op.Op{Kind: op.Unlink, Path: "b"}, "lone", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			for _, path := range []string{"a", "lone", "copy"} {
				r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
				r.both(&op.Op{Kind: op.Write, Path: path, Data: []byte(path + "data")})
			}
			r.both(&op.Op{Kind: op.Link, Path: "a", Path2: "b"})
			r.p.pending = newPending()
			r.p.pending.add(region.Mark{Path: "a"})
			if err := r.live(c.op); err != nil {
				t.Fatal(err)
			}
			if i := r.p.pending.items[c.heir]; (i != nil && i.todo.whole) != c.is {
				t.Errorf("%q is pending as a whole: %v, want %v", c.heir, !c.is, c.is)
			}
		})
	}
}
