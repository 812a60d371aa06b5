package region_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/tests/chaos"
)

// Two nodes that were equal grow apart: one is the primary, the other its mirror,
// then each is alone, or both reign. There are crashes of their processes, and
// checkpoints at any moment. Whatever differs in the end lies in what a repair
// would compare, whichever of the two is the primary of it.
//
// SEED=n repeats a round, ROUNDS=n makes as many.
func TestEveryDifferenceIsMarked(t *testing.T) {
	rounds := 40
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		rounds = n
	}
	if seed, err := strconv.ParseUint(os.Getenv("SEED"), 0, 64); err == nil {
		for _, lacks := range apart(t, seed, mutant{}) {
			t.Error(lacks)
		}
		return
	}
	for range rounds {
		seed := rand.Uint64()
		if lacks := apart(t, seed, mutant{}); len(lacks) > 0 {
			t.Fatalf("SEED=%#x: not marked:\n%s", seed, strings.Join(lacks[:min(20, len(lacks))], "\n"))
		}
	}
}

// mutant breaks a rule.
type mutant struct {
	only    []op.Kind // what finds it soon
	from    uint64    // the first round to look in
	look    func(region.Stat) region.Stat
	suspect func(*region.Store, op.NodeID) []region.Mark
	commit  bool // everything counts as committed
	fold    bool // nobody is outside of the set
	early   bool // an op has ended before it is made
}

// A test of the test: what breaks a rule is found, within so many rounds.
func TestUnmarkedIsFound(t *testing.T) {
	for name, m := range map[string]mutant{
		"joined by units":   {suspect: (*region.Store).JoinedByUnits},
		"no kin":            {only: []op.Kind{op.Link, op.Unlink, op.Write}, look: func(st region.Stat) region.Stat { st.Links = 1; return st }},
		"all is small":      {only: []op.Kind{op.Rename, op.Write}, from: 218, look: func(st region.Stat) region.Stat { st.Size = min(st.Size, 1); return st }},
		"commit unasked":    {commit: true},
		"nothing is folded": {fold: true},
		"left early":        {early: true},
		"a mark is lost": {suspect: func(s *region.Store, n op.NodeID) []region.Mark {
			marks := s.Suspect(n)
			return marks[:max(0, len(marks)-1)]
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 2000
			for n := range uint64(most) {
				if len(apart(t, m.from+n, m)) > 0 {
					t.Logf("in round %d", m.from+n)
					return
				}
			}
			t.Errorf("not found in %d rounds", most)
		})
	}
}

// nodes are the two.
type nodes struct {
	*rand.Rand
	t      *testing.T
	a, b   *side
	sent   []*op.Op // what a has made and b has not
	live   bool     // b gets what a does
	member bool     // b is in a's set
	reigns bool     // b reigns as well
}

// apart plays one round and returns what is not marked.
func apart(t *testing.T, seed uint64, m mutant) []string {
	t.Helper()
	under, memory := scratch(t, seed)
	dir, err := os.MkdirTemp(under, "cover")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r := rand.New(rand.NewPCG(seed, 0))
	n := &nodes{Rand: r, t: t, live: true, member: true}
	still := r.IntN(2) == 0
	n.a, n.b = newSide(t, filepath.Join(dir, "a"), 1, r, still, m), newSide(t, filepath.Join(dir, "b"), 2, r, still, m)
	n.a.ops.Memory, n.b.ops.Memory = memory, memory
	defer n.a.close()
	defer n.b.close()
	n.begin(r.IntN(100))
	n.a.level(2)
	n.b.level(1)
	n.only()
	for range r.IntN(60) {
		n.step()
	}
	for n.live || n.member {
		n.part()
	}
	n.only()
	for range r.IntN(60) {
		n.step()
	}
	marks := append(n.a.suspect(2), n.b.suspect(1)...)
	a, b := snapshot(t, n.a.tree), snapshot(t, n.b.tree)
	c := newCover(marks)
	return append(c.lacks("a", a, b), c.lacks("b", b, a)...)
}

// begin gives both what they have from the beginning, about which nothing is
// recorded.
func (n *nodes) begin(changes int) {
	for range changes {
		o := n.a.ops.Next()
		if o.Kind == op.Adopt || n.a.ops.Do(o) != nil {
			continue
		}
		if err := n.b.ops.Do(o); err != nil {
			n.t.Fatalf("%v: %v", o, err)
		}
	}
}

// only has some kinds of changes be made from here on.
func (n *nodes) only() {
	kinds := chaos.Some(n.Rand)
	if only := n.a.broken.only; only != nil {
		kinds = only
	}
	n.a.ops.Only, n.b.ops.Only = kinds, kinds
}

// scratch is where a round has its files: most in memory, which is fast, some on
// a disk, which has more kinds of fallocate.
func scratch(t *testing.T, seed uint64) (dir string, memory bool) {
	if _, err := os.Stat("/dev/shm"); err == nil && seed%16 > 0 {
		return "/dev/shm", true
	}
	return t.TempDir(), false
}

func (n *nodes) step() {
	switch k := n.IntN(100); {
	case k < 8:
		n.checkpoint(n.a)
	case k < 14:
		n.checkpoint(n.b)
	case k < 15:
		n.part()
	case k < 16:
		n.crash()
	case k < 18 && n.IntN(8) == 0:
		n.a.ops.Burst(n.IntN([...]int{50, 1200, 1 + 1500*n.IntN(2)}[n.IntN(3)]))
	case k < 30 && n.live:
		n.apply(n.IntN(len(n.sent) + 1))
	case k < 60 && n.reigns:
		n.change(n.b)
	default:
		n.change(n.a)
	}
}

// change has a node make one change.
func (n *nodes) change(s *side) {
	for {
		o := s.ops.Next()
		if o.Kind == op.Adopt && n.live {
			continue // does not travel as such
		}
		var between func()
		if n.IntN(12) == 0 {
			between = func() {
				for range 1 + n.IntN(4) {
					s.checkpoint(func() {})
				}
			}
		}
		if err := s.do(o, between); err == nil && n.live && s == n.a {
			kept := *o
			n.sent = append(n.sent, &kept)
		}
		if s.commit = n.committed(s); n.IntN(3) > 0 || !s.ops.Bursting() {
			return
		}
	}
}

// committed is the commit position that a node knows of.
func (n *nodes) committed(s *side) op.LSN {
	switch {
	case s == n.a && !n.member, s == n.b && n.reigns:
		return s.at
	case s == n.a && n.live:
		return s.at - op.LSN(len(n.sent))
	}
	return s.commit
}

// apply has b make what a has made.
func (n *nodes) apply(count int) {
	for range count {
		o := n.sent[0]
		n.sent = n.sent[1:]
		n.b.at = n.a.at - op.LSN(len(n.sent)) - 1
		if err := n.b.do(o, nil); err != nil {
			n.t.Fatalf("%v: %v", o, err)
		}
	}
	n.a.commit = n.committed(n.a)
	if n.IntN(2) == 0 {
		n.b.commit = n.a.commit
	}
}

// checkpoint makes one while things go on.
func (n *nodes) checkpoint(s *side) {
	s.checkpoint(func() {
		for range n.IntN(4) {
			switch k := n.IntN(12); {
			case k == 0:
				n.part()
			case k < 4 && n.live:
				n.apply(n.IntN(len(n.sent) + 1))
			case k < 6 && n.reigns:
				n.change(n.b)
			default:
				n.change(n.a)
			}
		}
	})
}

// part is a step of their parting: b is away, it is expelled, it is promoted.
func (n *nodes) part() {
	n.a.tell("live %v, member %v, reigns %v, commit %d", n.live, n.member, n.reigns, n.a.commit)
	switch {
	case n.live:
		n.live = false // what it has not got it will never get
		n.sent = nil
	case n.member:
		n.member = false
		n.a.outside = []op.NodeID{n.b.id}
		n.a.commit = n.committed(n.a)
	case !n.reigns && n.IntN(2) == 0:
		n.reigns = true
		n.b.Restart(n.b.at)
		n.b.outside, n.b.allowed = []op.NodeID{n.a.id}, true
		n.b.commit = n.committed(n.b)
	}
}

// crash forgets what a process has in memory. An op may have been half way.
func (n *nodes) crash() {
	s := []*side{n.a, n.b}[n.IntN(2)]
	if o := s.ops.Next(); n.IntN(2) == 0 && (s == n.a || n.reigns) {
		if _, err := s.Begin(o, s.look); err != nil {
			n.t.Fatal(err)
		}
		_ = s.ops.Do(o)
	}
	if n.live {
		n.part()
	}
	s.open()
	s.at++
	s.tell("crash")
	s.Restart(s.at)
	if s == n.b && !n.reigns {
		s.allowed = false // until it joins
	}
	s.commit = n.committed(s)
}
