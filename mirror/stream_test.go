package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sys/unix"
)

// stream is a pair of which one thing happens after the other: a change, the
// primary's part of a resync, the mirror's.
type stream struct {
	*pair
	run    *resync
	before func() // each hold
	// during is done while the file is held of which something is put.
	during func()
	// Broken rules of RULES.md 16.
	noMarks, noAgain, noOrder bool
}

func newStream(t *testing.T, marks ...region.Mark) *stream {
	s := &stream{pair: newPair(t)}
	s.source = s
	s.p.startOver(&wire.Answer{}, nil)
	s.p.pending = newPending()
	for _, m := range marks {
		s.p.pending.add(m)
	}
	s.p.resync = &Progress{}
	s.run = &resync{p: s.p, log: s.Log, began: time.Now(), links: newLinks()}
	return s
}

// Hold implements Source. What is done during it waits for its end, unless
// PutInOrder is broken: then that takes its place in the stream at once, though
// what is read under the hold does not have it yet.
func (s *stream) Hold(path string, fn func() error) error {
	if s.before != nil {
		s.before()
	}
	during := s.during
	s.during = nil
	if during != nil && s.noOrder {
		during()
	}
	err := s.pair.Hold(path, fn)
	if during != nil && !s.noOrder {
		during()
	}
	return err
}

// change orders a change, which goes to the mirror.
func (s *stream) change(o *op.Op) {
	s.t.Helper()
	pending := s.p.pending
	if s.noMarks {
		s.p.pending = nil
	}
	err := s.live(o)
	s.p.pending = pending
	for _, done := range s.run.done {
		if i := pending.items[done.path]; i != nil && s.noAgain {
			i.marks = done.marks
		}
	}
	if err != nil {
		s.t.Errorf("%v: %v", o, err)
	}
}

// check orders a comparison of a pending path.
func (s *stream) check(path string) {
	s.t.Helper()
	i := s.p.pending.items[path]
	if i == nil {
		s.t.Fatalf("%q is not pending", path)
	}
	look := task{path, i.todo, i.marks}
	i.queued, i.todo = false, want{}
	if err := s.run.look(s.t.Context(), look); err != nil {
		s.t.Errorf("look at %q: %v", path, err)
	}
}

// apply has the mirror apply all that is ordered.
func (s *stream) apply() {
	for s.take(64 << 10) {
	}
}

// hear has the primary handle the mirror's answers.
func (s *stream) hear() {
	s.t.Helper()
	if err := s.run.answers(s.t.Context()); err != nil {
		s.t.Errorf("answers: %v", err)
	}
}

// TestStreamTraces plays what mirror/model prints for the rules inside of a
// resync (RULES.md 16): with each rule broken the replicas must differ, and
// otherwise be equal.
func TestStreamTraces(t *testing.T) {
	attr := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
	write := &op.Op{Kind: op.Write, Path: "r0", Data: []byte("1"), Attr: attr}
	exchange := &op.Op{Kind: op.Rename, Path: "r0", Path2: "r1", Arg: unix.RENAME_EXCHANGE, Dir: attr.Mtime, Dir2: attr.Mtime}
	copied := &op.Op{Kind: op.CopyRange, Path: "r0", Path2: "r1", Len: 2, Attr: attr}
	for _, c := range []struct {
		rule    string
		pending string
		broken  func(*stream)
		play    func(*stream)
	}{
		{"PutInOrder", "r0", func(s *stream) { s.noOrder = true }, func(s *stream) {
			s.check("r0")
			s.apply()
			s.during = func() {
				if _, err := s.Commit(s.t.Context(), write, func() error { return nil }); err != nil {
					s.t.Error(err)
				}
			}
			s.hear()
			if err := s.a.Apply(write); err != nil {
				s.t.Error(err)
			}
		}},
		{"CopyMarks", "r0", func(s *stream) { s.noMarks = true }, func(s *stream) {
			s.check("r0")
			s.apply()
			s.change(copied)
			s.apply()
			s.hear()
		}},
		{"MarkedAgain", "r0 r1", func(s *stream) { s.noAgain = true }, func(s *stream) {
			s.check("r1")
			s.apply()
			s.change(exchange)
			s.apply()
			s.check("r0")
			s.apply()
			s.hear()
		}},
		{"MoveMarks", "r0", func(s *stream) { s.noMarks = true }, func(s *stream) {
			s.change(exchange)
			s.apply()
			s.check("r0")
			s.apply()
			s.hear()
		}},
	} {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s broken %v", c.rule, broken), func(t *testing.T) {
				var marks []region.Mark
				for path := range strings.SplitSeq(c.pending, " ") {
					marks = append(marks, region.Mark{Path: path, Scope: region.Tree})
				}
				s := newStream(t, marks...)
				for _, path := range []string{"r0", "r1"} {
					s.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFREG | 0o644, Mtime: attr.Mtime}, Dir: attr.Mtime})
					s.both(&op.Op{Kind: op.Write, Path: path, Data: []byte("00"), Attr: attr})
				}
				if err := s.b.Apply(&op.Op{Kind: op.Write, Path: "r0", Data: []byte("10"), Attr: attr}); err != nil {
					t.Fatal(err)
				}
				if broken {
					c.broken(s)
				}
				c.play(s)
				s.finish(s.run, nil)
				switch differ := s.differences(); {
				case broken && len(differ) == 0:
					t.Error("nothing was noticed")
				case !broken && len(differ) > 0:
					t.Errorf("the replicas differ: %q", differ)
				}
			})
		}
	}
}

// TestResyncStepByStep does what TestResyncOfMarks does with one thing after the
// other, in an order that follows from the seed, but for that of files with
// several names: SEED=n repeats a round.
func TestResyncStepByStep(t *testing.T) {
	first, rounds := rand.Uint64(), uint64(20)
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		rounds = 1
	}
	for i := range rounds {
		seed := first + i
		t.Run(fmt.Sprintf("SEED=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { stepByStep(t, seed) })
		})
	}
}

func stepByStep(t *testing.T, seed uint64) {
	s := newStream(t)
	c := &changes{Rand: rand.New(rand.NewPCG(seed, 0))}
	c.seed(s.pair)
	for range 1 + c.IntN(60) {
		o, marks := c.next(s.pair)
		if err := s.do(o); err != nil {
			t.Fatalf("%v: %v", o, err)
		}
		for _, m := range marks {
			s.p.pending.add(m)
		}
	}
	left := c.IntN(200)
	often := 2 + c.IntN(8)
	change := func() {
		if left > 0 && c.IntN(often) == 0 {
			left--
			o, _ := c.next(s.pair)
			s.change(o)
		}
	}
	s.before = func() {
		for c.IntN(2) == 0 {
			change()
			s.take(1)
		}
	}
	for first := true; (first || !s.p.pending.empty()) && !t.Failed(); first = false {
		done := make(chan error)
		go func() { done <- s.run.run(t.Context()) }()
		for running := true; running; {
			synctest.Wait() // it waits for the mirror
			select {
			case err := <-done:
				if running = false; err != nil {
					t.Error(err)
				}
			default:
				if change(); !s.take(1) { // whose last act is to wake it
					signal(s.p.news)
				}
			}
		}
		s.apply()
	}
	s.equal()
}
