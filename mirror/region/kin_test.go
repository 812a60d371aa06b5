package region

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// names is a directory of files, as far as names go.
type names map[string]uint64

func (n names) look(path string) (Stat, error) {
	ino, ok := n[path]
	if !ok {
		return Stat{}, errors.New("not there")
	}
	st := Stat{Mode: unix.S_IFREG, Size: 10 * op.RegionSize, Ino: ino}
	for _, other := range n {
		if other == ino {
			st.Links++
		}
	}
	return st, nil
}

// random returns an op that can be done.
func (n names) random(r *rand.Rand) *op.Op {
	a, b := fmt.Sprintf("%d/%d", r.IntN(3), r.IntN(4)), fmt.Sprintf("%d/%d", r.IntN(3), r.IntN(4))
	_, there := n[a]
	_, taken := n[b]
	switch {
	case !there:
		return &op.Op{Kind: op.Create, Path: a}
	case r.IntN(3) > 0 && !taken:
		return &op.Op{Kind: op.Link, Path: a, Path2: b}
	case r.IntN(2) > 0 && n[a] != n[b]:
		return &op.Op{Kind: op.Rename, Path: a, Path2: b}
	}
	return &op.Op{Kind: op.Unlink, Path: a}
}

// do does it, and returns the names that a file keeps which has lost one.
func (n names) do(o *op.Op, next uint64) (kept []string) {
	gone := o.Path
	if o.Kind == op.Rename {
		gone = o.Path2
	}
	lost := n[gone]
	switch o.Kind {
	case op.Create:
		n[o.Path] = next
	case op.Link:
		n[o.Path2] = n[o.Path]
	case op.Unlink:
		delete(n, o.Path)
	case op.Rename:
		n[o.Path2] = n[o.Path]
		delete(n, o.Path)
	}
	for name, ino := range n {
		if ino == lost && (o.Kind == op.Unlink || o.Kind == op.Rename) {
			kept = append(kept, name)
		}
	}
	return kept
}

// When one of several names goes, what is marked covers the file by a name that
// it keeps, whatever was linked, renamed and removed before.
func TestSurvivorsAreMarked(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	f, n := newFixture(t), names{}
	found, wide := 0, 0
	for i := range uint64(3000) {
		o := n.random(r)
		touched := touch(o, n.look)
		var mark Mark
		if touched.left != "" {
			mark = f.survivor(&touched, n.look)
		}
		ticket, err := f.Begin(o, n.look)
		if err != nil {
			t.Fatal(err)
		}
		kept := n.do(o, i+1)
		f.at++
		ticket.Leave(f.at)
		switch {
		case len(kept) == 0:
		case mark == Everything:
			wide++
		case !slices.Contains(kept, mark.Path) || mark.To != End:
			t.Fatalf("%v: %v are left, and %v is marked", o, kept, mark)
		default:
			found++
		}
	}
	if found < 100 || wide > 0 {
		t.Errorf("of %d names that went another one was known, of %d none", found, wide)
	}
}

// Nothing is known of links that were there before: then it may be any file.
func TestUnknownSurvivor(t *testing.T) {
	f, n := newFixture(t), names{"a": 1, "b": 1}
	ticket, err := f.Begin(&op.Op{Kind: op.Unlink, Path: "a"}, n.look)
	if err != nil {
		t.Fatal(err)
	}
	ticket.Leave(1)
	f.hot(Everything)
}

func TestKinIsBounded(t *testing.T) {
	k := make(kin)
	for i := range 3 * maxKin {
		k.link(fmt.Sprint(i), fmt.Sprint(i+1))
	}
	if len(k) > maxKin+1 {
		t.Errorf("%d names are known", len(k))
	}
}
