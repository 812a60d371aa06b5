package region

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

func move(path, path2 string) Move {
	return Move{Path: path, Path2: path2, At: op.Position{Line: op.Line{Epoch: op.Epoch{Number: 3, Owner: 1}, Incarnation: 2}, LSN: 7}}
}

// keep records what there is, and reads it anew.
func (f *fixture) keep() {
	f.t.Helper()
	if err := f.KeepMoves(); err != nil {
		f.t.Fatal(err)
	}
	f.crash()
}

func (f *fixture) moved(n op.NodeID, want ...Move) {
	f.t.Helper()
	if got := f.Moves(n); !slices.Equal(got, want) {
		f.t.Errorf("node %s has missed %v, want %v", n, got, want)
	}
}

// Renames stay in their order, with the map of the node that missed them.
func TestMoves(t *testing.T) {
	f := newFixture(t)
	f.know(2, 3)
	there, back := move("a", "b\xff"), move("b\xff", "a")
	swap := Move{Path: "a", Path2: "c", Exchange: true, At: there.At}
	f.Moved([]op.NodeID{2, 3, 4}, there)
	f.Moved([]op.NodeID{2}, there) // finds nothing more to do
	f.Moved([]op.NodeID{2}, back)
	f.Moved([]op.NodeID{2}, there)
	f.Moved([]op.NodeID{2}, swap)
	f.Moved([]op.NodeID{2}, swap) // is not the same as once
	for range 2 {
		f.moved(2, there, back, there, swap, swap)
		f.moved(3, there)
		f.moved(4) // unknown: everything is compared
		f.keep()
	}
	f.Lacks(3, []Mark{{Path: "x"}})
	f.know(2)
	for range 2 {
		f.moved(2)
		f.moved(3, there)
		f.keep()
	}
	if err := f.Forget(func(also func(*bolt.Tx) error) error { return f.db.Update(also) }); err != nil {
		t.Fatal(err)
	}
	f.keep()
	f.moved(3)
}

// Those that were made are dropped, and that is recorded too.
func TestMoveMade(t *testing.T) {
	f := newFixture(t)
	f.know(2)
	first, second := move("a", "b"), move("c", "d")
	second.At.LSN = 9
	f.Moved([]op.NodeID{2}, first)
	f.Moved([]op.NodeID{2}, second)
	f.keep()
	f.Made(2, func(m Move) bool { return m.At.LSN > 7 })
	f.moved(2, first)
	f.keep()
	f.moved(2, first)
	f.Made(2, func(m Move) bool { return m == first })
	f.keep()
	f.moved(2)
	f.Made(5, func(Move) bool { return true })
}

// A rename is on disk with the next transaction, a checkpoint's if there is no
// other, and not recorded again.
func TestMoveIsRecorded(t *testing.T) {
	f := newFixture(t)
	f.know(2)
	f.Moved([]op.NodeID{2}, move("a", "b"))
	f.do(write4K("f", 0))
	f.crash()
	f.moved(2, move("a", "b"))
	f.Moved([]op.NodeID{2}, move("b", "c"))
	f.checkpointAt(0)
	before := f.pages()
	if err := f.KeepMoves(); err != nil {
		t.Fatal(err)
	}
	if n := f.pages() - before; n > 0 {
		t.Errorf("what is recorded was recorded again, %d pages", n)
	}
	f.crash()
	f.moved(2, move("a", "b"), move("b", "c"))
}

// There are so many at most, and those that came first are kept.
func TestMovesAreBounded(t *testing.T) {
	for length, most := range map[int]int{1: maxMoves, 250: maxMoveBytes / 500} {
		f := newFixture(t)
		f.know(2)
		for i := range 2 * maxMoves {
			path := fmt.Sprintf("%0*d", length, i)
			f.Moved([]op.NodeID{2}, move(path[len(path)-length:], strings.Repeat("x", length)))
		}
		f.keep()
		if got := f.Moves(2); len(got) != most || got[0].Path != strings.Repeat("0", length) {
			t.Errorf("of paths of %d bytes %d are kept, want %d", length, len(got), most)
		}
		f.Made(2, func(m Move) bool { return m.Path[length-1] == '1' })
		before := len(f.Moves(2))
		f.Moved([]op.NodeID{2}, move("a", "b"))
		if got := f.Moves(2); len(got) != before+1 || got[before] != move("a", "b") {
			t.Errorf("there is room for one more, and %d are kept", len(got))
		}
	}
}

// A damaged record is said to be one.
func TestDamagedMoves(t *testing.T) {
	f := newFixture(t)
	f.know(2)
	f.Moved([]op.NodeID{2}, move("a", "b"))
	f.keep()
	whole := func(b *bolt.Bucket) []byte { return slices.Clone(b.Get(movesKey)) }
	for name, damage := range map[string]func(b *bolt.Bucket) error{
		"a bit":     func(b *bolt.Bucket) error { v := whole(b); v[9] ^= 1; return b.Put(movesKey, v) },
		"cut short": func(b *bolt.Bucket) error { return b.Put(movesKey, whole(b)[:3]) },
		"a key":     func(b *bolt.Bucket) error { v := whole(b); return b.Put(append(movesKey, 'x'), v) },
		"a path outside": func(b *bolt.Bucket) error {
			return (&moves{list: []Move{move("../a", "b")}}).write(b)
		},
	} {
		err := f.db.Update(func(tx *bolt.Tx) error { return damage(tx.Bucket(staleBucket).Bucket(mapName(2))) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f.db); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v", name, err)
		}
		err = f.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(staleBucket).Bucket(mapName(2))
			return errors.Join(b.Delete(append(movesKey, 'x')), (&moves{list: []Move{move("a", "b")}}).write(b))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
