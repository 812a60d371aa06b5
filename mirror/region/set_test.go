package region

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// all records what was added, as a store does.
func (s *Set) record() { s.recorded(len(s.log), 1) }

func setOf(marks ...Mark) *Set {
	s := NewSet()
	for _, m := range marks {
		s.Add(m)
	}
	s.record()
	return s
}

func TestCovers(t *testing.T) {
	file := func(from, to int64) Mark { return Mark{Path: "d/f", From: from, To: to} }
	for _, c := range []struct {
		have Mark
		want Mark
		is   bool
	}{
		{file(0, 0), file(0, 0), true},
		{file(0, 0), file(0, 1), false},
		{file(0, 1), file(5, Extent), true},
		{file(0, 1), file(5, Extent+1), false},
		{file(0, 1), file(0, 0), true},
		{file(Extent, End), file(3*Extent, 4*Extent), true},
		{file(Extent, End), file(3*Extent, End), true},
		{file(Extent, End), file(0, 1), false},
		{file(2*Extent, End), file(Extent, End), false},
		{Mark{Path: "d", Scope: Entries}, file(0, 0), true},
		{Mark{Path: "d", Scope: Entries}, file(0, op.RegionSize), true},
		{Mark{Path: "d", Scope: Entries}, file(0, op.RegionSize+1), false},
		{Mark{Path: "d", Scope: Entries}, file(0, End), false},
		{Mark{Path: "d", Scope: Entries}, Mark{Path: "d/f", To: End, cut: true}, true},
		{Mark{Path: "d", Scope: Entries}, Mark{Path: "d/f", From: op.RegionSize + 1, To: End, cut: true}, false},
		{Mark{Path: "d", Scope: Entries}, Mark{Path: "d"}, true},
		{Mark{Path: "d", Scope: Entries}, Mark{Path: "d/e", Scope: Entries}, false},
		{Mark{Path: "d", Scope: Entries}, Mark{Path: "d", Scope: Children}, false},
		{Mark{Path: "d", Scope: Children}, file(0, End), true},
		{Mark{Path: "d", Scope: Children}, Mark{Path: "d", Scope: Entries}, true},
		{Mark{Path: "d", Scope: Children}, Mark{Path: "d/e/f", From: 1, To: 2}, false},
		{Mark{Path: "d", Scope: Tree}, Mark{Path: "d/e/f", To: End}, true},
		{Mark{Path: "d", Scope: Tree}, Mark{Path: "da", To: End}, false},
		{Everything, Mark{Path: "any/thing", Scope: Tree}, true},
		{Mark{Path: op.Root, Scope: Entries}, Mark{Path: "f"}, true},
		{Mark{Path: op.Root}, Mark{Path: op.Root}, true},
		{Mark{Path: op.Root}, Mark{Path: "f"}, false},
	} {
		if got := setOf(c.have).Touch(c.want, 1); got != c.is {
			t.Errorf("%v covers %v: %v", c.have, c.want, got)
		}
	}
}

// What is not recorded yet covers nothing.
func TestUnrecordedCoversNothing(t *testing.T) {
	s := NewSet()
	m := Mark{Path: "d", Scope: Entries}
	s.Add(m)
	if s.Touch(m, 1) {
		t.Error("it does")
	}
	s.record()
	if !s.Touch(m, 1) {
		t.Error("recorded, it does not")
	}
}

// Whatever is added stays covered, however much comes on top, and the set stays
// bounded. Its log turns one state on disk into the next.
func TestBounded(t *testing.T) {
	for name, mark := range map[string]func(r *rand.Rand) Mark{
		"extents of a few files": func(r *rand.Rand) Mark {
			at := r.Int64N(1 << 46)
			return Mark{Path: fmt.Sprintf("db/%d", r.IntN(3)), From: at, To: at + 1}
		},
		"many files with data": func(r *rand.Rand) Mark {
			return Mark{Path: fmt.Sprintf("d%d/%d", r.IntN(3), r.IntN(20000)), From: 1 << 20, To: 2 << 20}
		},
		"attributes of many":  func(r *rand.Rand) Mark { return Mark{Path: fmt.Sprintf("d%d/%d", r.IntN(3), r.IntN(20000))} },
		"many directories":    func(r *rand.Rand) Mark { return Mark{Path: deep(r, 4), Scope: Entries} },
		"all kinds":           anyMark,
		"names beyond bounds": func(r *rand.Rand) Mark { return Mark{Path: strings.Repeat("x/", 9000) + deep(r, 2), To: End} },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			s, disk := NewSet(), make(map[unit]bool)
			var added []Mark
			for i := range 2 * maxUnits {
				m := mark(r)
				s.Add(m)
				for _, c := range s.log {
					if c.gone {
						delete(disk, c.unit)
					} else {
						disk[c.unit] = true
					}
				}
				s.record()
				if i%50 == 0 {
					added = append(added, m)
				}
			}
			if s.Len() > maxUnits || len(disk) != s.Len() {
				t.Errorf("%d units, on disk %d", s.Len(), len(disk))
			}
			for u := range s.all {
				if !disk[u] {
					t.Fatalf("%v is not on disk", u.mark())
				}
			}
			for _, m := range added {
				if !s.Touch(m, 1) {
					t.Fatalf("%v is not covered any more", m)
				}
			}
			again := setOf(s.Marks()...)
			for _, m := range added {
				if !again.Touch(m, 1) {
					t.Fatalf("%v is not covered by what Marks returns", m)
				}
			}
			checkPlaces(t, s)
		})
	}
}

// checkPlaces counts anew what the places of a set have counted.
func checkPlaces(t *testing.T, s *Set) {
	t.Helper()
	again, trees := make(places), 0
	for u := range s.all {
		again.make(u.path).count(u.kind, 1)
		if u.kind == tree {
			trees++
		}
	}
	if len(again) != len(s.places) || trees != s.trees || len(s.list()) != s.Len() {
		t.Errorf("%d places, %d trees, %d units, counted anew %d, %d, %d", len(s.places), s.trees, s.Len(), len(again), trees, len(s.list()))
	}
	for path, p := range s.places {
		q := again[path]
		if q == nil || p.path != path || p.units != q.units || p.data != q.data || p.small != q.small || p.files != q.files || len(p.inside) != len(q.inside) {
			t.Fatalf("place %+v, counted anew %+v", p, q)
		}
		for i, c := range p.inside {
			if c.index != i || c.dir != p || s.places[c.path] != c {
				t.Fatalf("%q in %q: %+v", c.path, path, c)
			}
		}
	}
}

// 1 % of a million small files stay apart, wherever they lie: a repair of these
// looks at no others.
func TestPartOfMillion(t *testing.T) {
	for _, dirs := range []int{100, 1000, 10_000} {
		s := NewSet()
		for i := range 10_000 {
			// A file that is made shorter, and written anew.
			s.Add(Mark{Path: fmt.Sprintf("d%d/f%d", i%dirs, i), To: End, cut: true})
			s.Add(Mark{Path: fmt.Sprintf("d%d/f%d", i%dirs, i), To: 4096})
			s.record()
		}
		marks := s.Marks()
		for _, m := range marks {
			if want := Object; m.Scope != want && (dirs > 100 || m.Scope != Entries) {
				t.Fatalf("of %d directories %v is marked", dirs, m)
			}
		}
		if dirs > 100 && len(marks) != 10_000 {
			t.Errorf("of %d directories there are %d marks, want 10000", dirs, len(marks))
		}
	}
}

// What does not fit is made whole where that costs least: a busy file before the
// directory of many, a directory before the volume.
func TestCrowdedPlaces(t *testing.T) {
	s := NewSet()
	at := func(path string, n int) Mark {
		return Mark{Path: path, From: int64(2*n) * Extent, To: int64(2*n)*Extent + 1}
	}
	for i := range maxUnits {
		s.Add(at(fmt.Sprintf("db/%d", i%100), i/100))
		s.record()
	}
	for i := range 2000 {
		s.Add(Mark{Path: fmt.Sprintf("home/%d", i), Scope: Entries})
		s.record()
	}
	whole := 0
	for _, m := range s.Marks() {
		switch {
		case m.Scope != Tree:
		case len(m.Path) < len("db/1"):
			t.Fatalf("%v is marked", m)
		default:
			whole++
		}
	}
	if whole == 0 || whole > 20 {
		t.Errorf("%d files are whole", whole)
	}
}

// What a mark that is not recorded yet stands for is not added once more.
func TestUnrecordedStandsForMore(t *testing.T) {
	s := NewSet()
	s.Add(Mark{Path: "d", Scope: Tree})
	s.Add(Mark{Path: "d/e", Scope: Entries})
	s.Add(Mark{Path: "d/f", To: End})
	s.Add(Mark{Path: "e", Scope: Children})
	s.Add(Mark{Path: "e/f", From: Extent, To: End})
	if s.Len() != 2 {
		t.Errorf("%v", s.Marks())
	}
}

func deep(r *rand.Rand, n int) string {
	path := fmt.Sprint(r.IntN(12))
	for range r.IntN(n) {
		path += fmt.Sprintf("/%d", r.IntN(12))
	}
	return path
}

func anyMark(r *rand.Rand) Mark {
	m := Mark{Path: deep(r, 4)}
	switch r.IntN(12) {
	case 0:
		m.Scope = Entries
	case 1:
		m.Scope = Children
	case 2:
		if r.IntN(50) == 0 {
			m.Scope = Tree
		}
	case 3, 4, 5:
		m.From = r.Int64N(1 << 36)
		m.To = m.From + 1 + r.Int64N(1<<26)
	case 6:
		m.From, m.To = r.Int64N(1<<30), End
	}
	return m
}

func TestMarksAreJoined(t *testing.T) {
	f := func(from, to int64) Mark { return Mark{Path: "f", From: from * Extent, To: to} }
	for name, c := range map[string]struct{ have, want []Mark }{
		"side by side":                  {[]Mark{f(0, 1), f(1, Extent+1), f(9, End), {Path: "g"}}, []Mark{f(0, 2*Extent), f(9, End), {Path: "g"}}},
		"a tail that begins before":     {[]Mark{f(17, 20*Extent), f(0, End)}, []Mark{f(0, End)}},
		"a tail that begins in between": {[]Mark{f(2, 3*Extent), f(17, 20*Extent), f(9, End)}, []Mark{f(2, 3*Extent), f(9, End)}},
		"attributes alone":              {[]Mark{{Path: "f"}, f(3, 4*Extent)}, []Mark{f(3, 4*Extent)}},
	} {
		if got := setOf(c.have...).Marks(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What two sets have is looked at once, and what lies in a tree with that.
func TestTwoSets(t *testing.T) {
	file := func(path string, from, to int64) Mark { return Mark{Path: path, From: from * Extent, To: to * Extent} }
	one := setOf(Mark{Path: "d", Scope: Tree}, Mark{Path: "e", Scope: Entries}, file("f", 0, 2), Mark{Path: "g"}, Mark{Path: "x/y", Scope: Tree})
	two := setOf(Mark{Path: "d", Scope: Tree}, Mark{Path: "e", Scope: Entries}, file("f", 1, 3), Mark{Path: "g"}, Mark{Path: "x/y"},
		Mark{Path: "d/e", Scope: Tree}, file("d/e/f", 0, 1), Mark{Path: "d-e"}, Mark{Path: "x", Scope: Children})
	want := []Mark{{Path: "d", Scope: Tree}, {Path: "d-e"}, {Path: "e", Scope: Entries}, file("f", 0, 3), {Path: "g"}, {Path: "x", Scope: Children}, {Path: "x/y", Scope: Tree}}
	if got := marksOf(topmost(append(one.list(), two.list()...))); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	everything := setOf(Everything)
	if got := marksOf(topmost(append(two.list(), everything.list()...))); !slices.Equal(got, []Mark{Everything}) {
		t.Errorf("%v", got)
	}
}

// Marks covers every unit, in whatever order they came.
func TestMarksCoverAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		s := NewSet()
		for range 1 + r.IntN(12) {
			m := Mark{Path: fmt.Sprint(r.IntN(3)), From: r.Int64N(30 * Extent)}
			switch m.To = m.From + 1 + r.Int64N(9*Extent); r.IntN(6) {
			case 0:
				m.To = End
			case 1:
				m.From, m.To = 0, 0
			}
			s.Add(m)
			s.record()
			for u := range s.all { // as a checkpoint does
				if r.IntN(8) == 0 {
					s.remove(u)
				}
			}
			s.record()
			checkPlaces(t, s)
		}
		marks := s.Marks()
		again := setOf(marks...)
		for u := range s.all {
			if !again.Touch(u.mark(), 1) {
				t.Fatalf("%v is not covered by %v", u.mark(), marks)
			}
		}
	}
}
