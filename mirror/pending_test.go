package mirror

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

func TestPendingFollowsOps(t *testing.T) {
	object := func(path string) region.Mark { return region.Mark{Path: path} }
	entries := func(path string) region.Mark { return region.Mark{Path: path, Scope: region.Entries} }
	tree := func(path string) region.Mark { return region.Mark{Path: path, Scope: region.Tree} }
	rename := func(from, to string, arg uint32) *op.Op {
		return &op.Op{Kind: op.Rename, Path: from, Path2: to, Arg: arg}
	}
	cases := []struct {
		name   string
		marked region.Mark
		op     *op.Op
		in     []string // pending afterwards
		whole  []string // and all of it
		out    []string // not pending
	}{
		{"rename of a pending name marks both", object("a"), rename("a", "b", 0), nil, []string{"a", "b"}, []string{"c"}},
		{"rename out of a pending tree", tree("d"), rename("d/x", "y", 0), []string{"d/z"}, []string{"y", "d/x"}, []string{"z"}},
		{"rename out of a directory whose entries are pending", entries("d"), rename("d/x", "y", 0), []string{"d/z", "d"}, []string{"y", "d/x"}, []string{"z", "d/z/z"}},
		{"rename into a directory whose entries are pending", entries("d"), rename("x", "d/y", 0), []string{"d/y"}, nil, []string{"x"}},
		{"rename of a directory with something pending below", object("d/e/f"), rename("d", "g", 0), []string{"g/e/f", "g/other"}, []string{"g", "d"}, []string{"h"}},
		{"rename of a directory whose entries are pending", entries("d"), rename("d", "g", 0), []string{"g/e/f"}, []string{"g", "d"}, []string{"h"}},
		{"rename of a level name", object("a"), rename("x", "y", 0), []string{"a"}, nil, []string{"x", "y"}},
		{"rename over a pending name", object("a"), rename("x", "a", 0), []string{"a"}, nil, []string{"x"}},
		{"exchange with a pending name", object("a"), rename("x", "a", unix.RENAME_EXCHANGE), nil, []string{"a", "x"}, nil},
		{"link to a pending file", object("a"), &op.Op{Kind: op.Link, Path: "a", Path2: "b"}, nil, []string{"a", "b"}, nil},
		{"link to a name in a pending directory", tree("d"), &op.Op{Kind: op.Link, Path: "a", Path2: "d/b"}, nil, []string{"a", "d/b"}, []string{"c"}},
		{"copy from a pending file", object("a"), &op.Op{Kind: op.CopyRange, Path: "a", Path2: "b"}, []string{"a"}, []string{"b"}, nil},
		{"copy from an entry that is pending", entries("d"), &op.Op{Kind: op.CopyRange, Path: "d/a", Path2: "b"}, nil, []string{"b"}, nil},
		{"copy onto a pending file", object("a"), &op.Op{Kind: op.CopyRange, Path: "b", Path2: "a"}, []string{"a"}, nil, []string{"b"}},
		{"write", object("a"), &op.Op{Kind: op.Write, Path: "b"}, []string{"a"}, nil, []string{"b"}},
		{"a sibling with the same beginning", tree("dir"), rename("dir2/x", "y", 0), []string{"dir/x"}, nil, []string{"dir2/x", "y"}},
		{"all is pending", tree("."), rename("x", "y", 0), []string{"z/z"}, []string{"x", "y"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPending()
			p.add(c.marked)
			p.follow(c.op)
			for _, path := range slices.Concat(c.in, c.whole) {
				if !p.covers(path) {
					t.Errorf("%q is not pending", path)
				}
			}
			for _, path := range c.whole {
				if i := p.items[path]; i == nil || !i.todo.whole {
					t.Errorf("%q is not pending as a whole", path)
				}
			}
			for _, path := range c.out {
				if p.covers(path) {
					t.Errorf("%q is pending", path)
				}
			}
		})
	}
}

// TestPendingHoles writes into a file of which the places of holes are pending,
// by its directory or by itself.
func TestPendingHoles(t *testing.T) {
	const size = op.RegionSize
	p := newPending()
	p.add(region.Mark{Path: "d", Scope: region.Entries})
	p.want("e/f", want{holes: true})
	p.add(region.Mark{Path: "other"})
	for _, path := range []string{"d/f", "e/f", "other", "f"} {
		p.follow(&op.Op{Kind: op.Write, Path: path, Off: 2*size + 1, Data: []byte("x")})
		p.follow(&op.Op{Kind: op.Fallocate, Path: path, Off: 5 * size, Len: size})
		p.follow(&op.Op{Kind: op.CopyRange, Path: "level", Path2: path, Off2: 9*size - 1, Len: 2})
		want := []span{{2 * size, 3 * size}, {5 * size, 6 * size}, {8 * size, 10 * size}}
		if path == "other" || path == "f" {
			want = nil
		}
		var got []span
		if i := p.items[path]; i != nil {
			got = i.todo.data
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %q %v is pending, want %v", path, got, want)
		}
	}
}

func TestPendingAddsUp(t *testing.T) {
	const size = op.RegionSize
	p := newPending()
	for _, r := range [][2]int64{{5 * size, 5*size + 1}, {1, 2}, {size, 2 * size}, {9 * size, region.End}, {7, 7}} {
		p.add(region.Mark{Path: "a", From: r[0], To: r[1]})
	}
	want := []span{{0, 2 * size}, {5 * size, 6 * size}, {9 * size, region.End}}
	next, _ := p.next()
	if next.whole || !slices.Equal(next.spans(), want) {
		t.Errorf("pending is %+v, want %v", next, want)
	}

	// What is marked while the rest is looked at is looked at by itself, and all
	// of it after a session broke.
	p.add(region.Mark{Path: "a", From: 3 * size, To: 4 * size})
	later, ok := p.next()
	if !ok || !slices.Equal(later.spans(), []span{{3 * size, 4 * size}}) {
		t.Errorf("then %+v is pending", later)
	}
	p.done(next)
	if !p.covers("a") {
		t.Error("the answer to the first look ends the second")
	}
	p.requeue()
	all, _ := p.next()
	if want := []span{{0, 2 * size}, {3 * size, 4 * size}, {5 * size, 6 * size}, {9 * size, region.End}}; !slices.Equal(all.spans(), want) {
		t.Errorf("after a broken session %+v is pending", all)
	}
	p.done(later)
	if p.empty() {
		t.Error("an answer from before the session broke counts")
	}
	p.done(all)
	if !p.empty() {
		t.Errorf("left: %+v", p)
	}

	p.add(region.Mark{Path: "d", Scope: region.Children})
	p.add(region.Mark{Path: "d", Scope: region.Entries})
	if next, _ := p.next(); next.scope != region.Children || next.whole || len(next.spans()) > 0 {
		t.Errorf("a directory's entries and data come out as %+v", next)
	}
	p.mark("d")
	if next, _ := p.next(); !next.whole || !slices.Equal(next.spans(), []span{{0, region.End}}) {
		t.Errorf("all of it comes out as %+v", next)
	}
}

// A directory comes before what is in it, however old it is. Else it is the
// newest that is next, and each path once.
func TestNextDirectoriesFirst(t *testing.T) {
	p := newPending()
	for _, path := range []string{"z", "d/e", "y", "d", "d/e/f/g", "d/e/f/h", "dd/x"} {
		p.mark(path)
	}
	p.mark("z/below")
	var got []string
	for task, ok := p.next(); ok; task, ok = p.next() {
		got = append(got, task.path)
		if again := got[:len(got)-1]; task.path == "d/e/f/h" && !slices.Contains(again, task.path) {
			p.mark("d/e") // a report says that it is not there
			p.mark("d/e/f/h")
		}
	}
	want := []string{"z", "z/below", "dd/x", "d", "d/e", "d/e/f/h", "d/e", "d/e/f/h", "d/e/f/g", "y"}
	if !slices.Equal(got, want) {
		t.Errorf("in the order %q, want %q", got, want)
	}
}

func TestMarkedAgainWhileLookedAt(t *testing.T) {
	p := newPending()
	p.mark("a")
	first, ok := p.next()
	if !ok || first.path != "a" {
		t.Fatalf("next: %+v, %v", first, ok)
	}
	p.mark("a")
	p.done(first)
	if p.empty() {
		t.Fatal("a path that was marked while it was looked at is not pending any more")
	}
	again, ok := p.next()
	if !ok || again.path != "a" {
		t.Fatalf("next again: %+v, %v", again, ok)
	}
	p.done(again)
	if !p.empty() || len(p.below) != 0 || p.wide != 0 {
		t.Fatalf("left behind: %+v", p)
	}
}

// Once the holes of a file have been sent who writes to it does not keep it
// pending. After a broken session what was written is looked at all the same.
func TestHolesSent(t *testing.T) {
	p := newPending()
	write := &op.Op{Kind: op.Write, Path: "f", Off: 5 * op.RegionSize, Data: []byte("x")}
	for _, broken := range []bool{false, true} {
		p.want("f", small)
		first, _ := p.next()
		p.follow(write)
		if p.done(first); p.empty() {
			t.Fatal("what was written before is not pending")
		}
		again, ok := p.next()
		if !ok || len(again.data) != 1 {
			t.Fatalf("then %+v is pending", again)
		}
		p.sentHoles("f")
		if p.fills() {
			t.Error("holes are still to be sent")
		}
		p.follow(write)
		if broken {
			p.requeue()
			if !p.fills() {
				t.Error("holes are not sent again")
			}
			again, _ = p.next()
			if want := []span{{0, op.RegionSize}, {5 * op.RegionSize, 6 * op.RegionSize}}; !again.holes || !slices.Equal(again.data, want) {
				t.Errorf("after the session %+v is pending", again)
			}
		}
		if p.done(again); !p.empty() || p.fills() {
			t.Fatalf("left behind: %+v", p)
		}
	}
}

func TestRequeue(t *testing.T) {
	p := newPending()
	p.mark("a")
	p.add(region.Mark{Path: "b/c"})
	for {
		if _, ok := p.next(); !ok {
			break
		}
	}
	p.requeue()
	seen := map[string]bool{}
	for {
		next, ok := p.next()
		if !ok {
			break
		}
		seen[next.path] = next.whole
		p.done(next)
	}
	if whole, ok := seen["b/c"]; !seen["a"] || !ok || whole || !p.empty() || p.wide != 0 {
		t.Fatalf("seen %v, left %+v", seen, p)
	}
}

// Marks that come together are pending as if they came one by one.
func TestPendingAddsTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		together, single := newPending(), newPending()
		var marks []region.Mark
		for range 1 + r.IntN(20) {
			m := region.Mark{Path: fmt.Sprint(r.IntN(2)), From: r.Int64N(40) * op.RegionSize / 2}
			switch m.To = m.From + r.Int64N(4)*op.RegionSize; r.IntN(8) {
			case 0:
				m.To = region.End
			case 1:
				m = region.Mark{Path: m.Path, Scope: region.Scope(1 + r.IntN(3))}
			}
			marks = append(marks, m)
			single.add(m)
		}
		together.add(marks...)
		for path, want := range single.items {
			if got := together.items[path]; got == nil || !reflect.DeepEqual(got.all, want.all) || !reflect.DeepEqual(got.todo, want.todo) {
				t.Fatalf("of %v %+v is pending of %q, one by one %+v", marks, got, path, want)
			}
		}
		if len(together.items) != len(single.items) || together.wide != single.wide {
			t.Fatalf("of %v %d items are pending, one by one %d", marks, len(together.items), len(single.items))
		}
	}
}

// What was queued of a path is looked at, whatever was begun of it meanwhile.
func TestBeginWhileQueued(t *testing.T) {
	for _, queued := range []bool{true, false} {
		p := newPending()
		p.want("f", small)
		if !queued {
			p.next()
		}
		begun := p.begin("f", want{whole: true})
		p.done(begun)
		if p.empty() == queued {
			t.Errorf("queued %v: pending is %v", queued, p.items)
		}
		if next, ok := p.next(); ok != queued || ok && !reflect.DeepEqual(next.want, small) {
			t.Errorf("queued %v: next is %+v, %v", queued, next, ok)
		}
	}
}
