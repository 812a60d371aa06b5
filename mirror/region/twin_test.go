package region

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// shared is a tree with files that share inodes. It counts how often it is
// looked at.
type shared struct {
	names
	looks int
	local string // not mirrored, with all below
	size  int64
}

func (s *shared) look(path string) (Stat, error) {
	s.looks++
	if st, err := s.names.look(path); err == nil {
		st.Size, st.Local = s.size, s.local != "" && op.Within(path, s.local)
		return st, nil
	}
	return Stat{Mode: unix.S_IFDIR, Names: func(most int) []string {
		seen := make(map[string]bool)
		for name := range s.names {
			if path != op.Root {
				if !op.Within(name, path) {
					continue
				}
				name = strings.TrimPrefix(name, path+"/")
			}
			name, _, _ = strings.Cut(name, "/")
			if len(seen) < most {
				seen[name] = true
			}
		}
		return slices.Collect(func(yield func(string) bool) {
			for name := range seen {
				if !yield(name) {
					return
				}
			}
		})
	}}, nil
}

// unlink removes names, and returns what is hot then.
func (s *shared) unlink(t *testing.T, paths ...string) []Mark {
	t.Helper()
	f := newFixture(t)
	for i, path := range paths {
		ticket, err := f.Begin(&op.Op{Kind: op.Unlink, Path: path}, s.look)
		if err != nil {
			t.Fatal(err)
		}
		delete(s.names, path)
		ticket.Leave(op.LSN(i + 1))
	}
	return f.Hot()
}

// The oldest of many snapshots is removed, after a restart: each file is marked
// where the next snapshot has it, and one look finds it.
func TestSnapshotIsRemoved(t *testing.T) {
	const days, files = 7, 500
	for size, want := range map[int64]func(Mark) bool{
		10 * op.RegionSize: func(m Mark) bool { return m.Scope == Object && m.To == End || m.Scope == Children },
		10:                 func(m Mark) bool { return m.Scope == Entries },
	} {
		s := &shared{names: names{"etc/passwd": 1}, size: size}
		var oldest []string
		for i := range files {
			for day := range days {
				name := fmt.Sprintf("backup/day.%d/home/u%d/f%d", day, i%20, i)
				s.names[name] = uint64(2 + i)
				if day == days-1 {
					oldest = append(oldest, name)
				}
			}
		}
		marked := s.unlink(t, oldest...)
		for i := range 20 {
			if !slices.ContainsFunc(marked, func(m Mark) bool {
				return want(m) && strings.Contains(m.Path, fmt.Sprintf("/home/u%d", i)) && !op.Within(m.Path, fmt.Sprintf("backup/day.%d", days-1))
			}) {
				t.Errorf("size %d: of u%d no file is marked that is left", size, i)
			}
		}
		for _, m := range marked {
			if m.Scope == Tree {
				t.Errorf("size %d: %v is marked", size, m)
			}
		}
		if most := 4*files + maxTries; s.looks > most {
			t.Errorf("size %d: %d looks, want %d at most", size, s.looks, most)
		}
	}
}

// Whatever is found by its place, it is a name that the file keeps, though nothing
// is known of how it came by it.
func TestTwinsAreNames(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	found, wide := 0, 0
	for _, size := range []int64{10, 10 * op.RegionSize} {
		s, f := &shared{names: names{}, size: size}, newFixture(t)
		for i := range uint64(1000) {
			o := s.random(r)
			touched := touch(o, s.look)
			mark, left := Mark{}, touched.left
			if left != "" {
				mark = f.survivor(&touched, s.look)
			}
			kept := s.do(o, i+1)
			switch {
			case left == "" || len(kept) == 0:
			case mark == Everything:
				wide++
			case !slices.ContainsFunc(kept, func(name string) bool {
				return setOf(mark).Touch(allOf(name, Stat{Size: size}), 1)
			}):
				t.Fatalf("%v: %v are left, and %v is marked", o, kept, mark)
			default:
				found++
			}
		}
	}
	if found < 100 || wide < 10 {
		t.Errorf("%d names were found, %d were not", found, wide)
	}
}

// What cannot be taken for the file's other name.
func TestNoTwin(t *testing.T) {
	for name, s := range map[string]*shared{
		"elsewhere":         {names: names{"a/x/f": 1, "b/other": 1, "b/x/f": 2}},
		"not mirrored":      {names: names{"a/f": 1, "cache/f": 1}, local: "cache"},
		"another file":      {names: names{"a/f": 1, "b/f": 2, "c/g/h/f": 1}},
		"beyond many names": manyBeside(),
	} {
		gone := "a/f"
		if name == "elsewhere" {
			gone = "a/x/f"
		}
		if got := s.unlink(t, gone); !slices.Contains(got, Everything) {
			t.Errorf("%s: %v", name, got)
		}
		if s.looks > 2*maxTries {
			t.Errorf("%s: %d looks", name, s.looks)
		}
	}
}

// manyBeside has the twin deeper than is searched.
func manyBeside() *shared {
	s := &shared{names: names{"a/f": 1, "z/z/f": 1}}
	for i := range 1000 {
		s.names[fmt.Sprintf("a/%d", i)] = uint64(10 + i)
	}
	return s
}

// As long as everything is hot nothing is searched for.
func TestNoSearchInVain(t *testing.T) {
	s := manyBeside()
	for i := range 100 {
		s.names[fmt.Sprintf("a/l%d", i)], s.names[fmt.Sprintf("y/y/l%d", i)] = uint64(5000+i), uint64(5000+i)
	}
	var gone []string
	for i := range 100 {
		gone = append(gone, fmt.Sprintf("a/l%d", i))
	}
	s.unlink(t, gone...)
	if s.looks > 4*len(gone)+maxTries {
		t.Errorf("%d looks", s.looks)
	}
}
