package region_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/tests/chaos"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
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

// side is a node, as far as its replica and its records go.
type side struct {
	t      *testing.T
	name   string
	id     op.NodeID
	broken mutant
	ops    *chaos.Changes
	tree   *tree.Tree
	db     *bolt.DB
	*region.Store
	at      op.LSN // of the newest op that it has made
	commit  op.LSN // the commit position, as it knows it
	allowed bool   // to forget
	outside []op.NodeID
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

func newSide(t *testing.T, dir string, id op.NodeID, r *rand.Rand, still bool, m mutant) *side {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "replica"), 0o755); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(filepath.Join(dir, "replica"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "db"), 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{t: t, name: filepath.Base(dir), id: id, broken: m, ops: &chaos.Changes{Ops: &chaos.Ops{Rand: r, Still: still}, Tree: tr}, tree: tr, db: db, allowed: true}
	s.open()
	// The roots are equal.
	if err := tr.Apply(&op.Op{Kind: op.SetAttr, Path: op.Root, Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *side) close() {
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
	s.tree.Close()
}

func (s *side) open() {
	var err error
	if s.Store, err = region.Open(s.db); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) level(other op.NodeID) {
	err := s.Level([]op.NodeID{other}, func(also func(*bolt.Tx) error) error { return s.db.Update(also) })
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) suspect(other op.NodeID) []region.Mark {
	if s.broken.suspect != nil {
		return s.broken.suspect(s.Store, other)
	}
	return s.Suspect(other)
}

func (s *side) look(path string) (region.Stat, error) {
	st, err := mirror.Look(s.tree, nil)(path)
	if err == nil && s.broken.look != nil {
		st = s.broken.look(st)
	}
	return st, err
}

// tell says what happens, where LOG is set.
func (s *side) tell(format string, args ...any) {
	if os.Getenv("LOG") != "" {
		s.t.Logf("%s, %d: %s", s.name, s.at, fmt.Sprintf(format, args...))
	}
}

// do makes a change with its position, as the primary and its mirror do. While it
// is under way between is called.
func (s *side) do(o *op.Op, between func()) error {
	ticket, err := s.Begin(o, s.look)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.broken.early {
		ticket.Leave(0)
	}
	if between != nil {
		between()
	}
	at := op.LSN(0)
	if err = s.ops.Do(o); err == nil {
		s.at++
		at = s.at
	}
	s.tell("%v: %v", o, err)
	if !s.broken.early {
		ticket.Leave(at)
	}
	return err
}

// checkpoint makes one; meanwhile is called in it, before and after each answer.
func (s *side) checkpoint(meanwhile func()) {
	err := s.Checkpoint(region.Checkpoint{
		Sync: func() error { meanwhile(); return nil },
		Committed: func(at op.LSN) bool {
			meanwhile()
			yes := s.commit >= at || s.broken.commit
			meanwhile()
			return yes
		},
		Outside: func() []op.NodeID {
			if s.broken.fold {
				return nil
			}
			return s.outside
		},
		Allowed: func() bool { return s.allowed },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.tell("after the checkpoint %v", s.Suspect(3-s.id))
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

// replica is what stands in a tree.
type replica struct {
	objects map[string]*op.Op
	ids     map[string]tree.Inode
	names   map[tree.Inode][]string // sorted
	paths   []string                // in the order of a walk
	tree    *tree.Tree
}

func snapshot(t *testing.T, tr *tree.Tree) *replica {
	t.Helper()
	r := &replica{objects: map[string]*op.Op{}, ids: map[string]tree.Inode{}, names: map[tree.Inode][]string{}, tree: tr}
	err := tr.Walk(func(path string, put *op.Op, id tree.Inode) error {
		r.objects[path], r.ids[path] = put, id.Key()
		r.names[id.Key()] = append(r.names[id.Key()], path)
		r.paths = append(r.paths, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// group is all names of what is at path.
func (r *replica) group(path string) []string { return r.names[r.ids[path]] }

// cover tells what a comparison of marks finds.
type cover map[string][]region.Mark

func newCover(marks []region.Mark) cover {
	c := cover{}
	for _, m := range marks {
		c[m.Path] = append(c[m.Path], m)
	}
	return c
}

// at reports whether path has a mark that is like that.
func (c cover) at(path string, is func(region.Mark) bool) bool {
	for _, m := range c[path] {
		if is(m) {
			return true
		}
	}
	return false
}

// whole reports whether all of path is compared.
func (c cover) whole(path string) bool {
	for {
		if c.at(path, func(m region.Mark) bool { return m.Scope == region.Tree }) {
			return true
		}
		if path == op.Root {
			return false
		}
		path, _ = op.SplitPath(path)
	}
}

// looks reports whether what is at path is looked at at all: its attributes are.
func (c cover) looks(path string) bool {
	if len(c[path]) > 0 || c.whole(path) {
		return true
	}
	dir, _ := op.SplitPath(path)
	return path != op.Root && c.at(dir, func(m region.Mark) bool { return m.Scope != region.Object })
}

// data reports whether a region of a file's data is compared. Just one side has
// only a hole there: that is found with less.
func (c cover) data(path string, off int64, hole bool) bool {
	if c.whole(path) || c.at(path, func(m region.Mark) bool { return m.Scope == region.Object && m.From <= off && off < m.To }) {
		return true
	}
	dir, _ := op.SplitPath(path)
	return c.at(dir, func(m region.Mark) bool {
		return m.Scope == region.Children || m.Scope == region.Entries && (off == 0 || hole)
	})
}

// lacks returns what no mark covers of the differences, where p is the primary
// that makes m equal.
func (c cover) lacks(who string, p, m *replica) (lacks []string) {
	say := func(path, format string, args ...any) {
		lacks = append(lacks, fmt.Sprintf("%q, if %s is the primary: %s", path, who, fmt.Sprintf(format, args...)))
	}
	anew := map[string]bool{} // what is made anew, or removed, with all that is in it
	within := func(path string) bool {
		for ; path != op.Root; path, _ = op.SplitPath(path) {
			if anew[path] {
				return true
			}
		}
		return false
	}
	for _, path := range p.paths {
		if within(path) {
			continue
		}
		have, is := p.objects[path], m.objects[path]
		group := []string{path}
		if have.Attr.Mode&unix.S_IFMT != unix.S_IFDIR {
			group = p.group(path) // it is looked at by all names
		}
		looks := false
		for _, name := range group {
			looks = looks || c.looks(name)
		}
		if is == nil || (is.Attr.Mode^have.Attr.Mode)&unix.S_IFMT != 0 || string(is.Data) != string(have.Data) {
			if anew[path] = true; !looks {
				say(path, "%v stands there, on the other side %v", have, is)
			}
			continue
		}
		for _, differ := range tree.Differences(have, is, "the other has") {
			if !looks {
				say(path, "%s", differ)
			}
		}
		if have.Attr.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		tied := strings.Join(group, "|") == strings.Join(m.group(path), "|")
		if !tied && !looks {
			say(path, "is tied to %q, on the other side to %q", group, m.group(path))
		}
		// What is not the same file by all its names is compared whole.
		if have.Attr.Mode&unix.S_IFMT == unix.S_IFREG && !(looks && strings.Join(group, "|") != strings.Join(m.group(group[0]), "|")) {
			c.lacksData(path, group, p, m, say)
		}
	}
	for _, path := range m.paths {
		if p.objects[path] != nil || within(path) {
			continue
		}
		if anew[path] = true; !c.looks(path) {
			say(path, "is on the other side only")
		}
	}
	return lacks
}

// lacksData is lacks for the data of a file that both have.
func (c cover) lacksData(path string, group []string, p, m *replica, say func(path, format string, args ...any)) {
	size := max(p.objects[path].Attr.Size, m.objects[path].Attr.Size)
	x, errX := p.tree.Digests(path, 0, size)
	y, errY := m.tree.Digests(path, 0, size)
	if errX != nil || errY != nil {
		say(path, "%v, %v", errX, errY)
		return
	}
	for at := 0; at < max(len(x), len(y)); at += tree.DigestSize {
		off := int64(at / tree.DigestSize * op.RegionSize)
		here, there := at < len(x), at < len(y)
		if here && there && string(x[at:at+tree.DigestSize]) == string(y[at:at+tree.DigestSize]) {
			continue
		}
		hole, holeThere := isHole(p.tree, path, off), isHole(m.tree, path, off)
		if hole && holeThere || sameBytes(p.tree, m.tree, path, off) {
			continue // one ends here, or before
		}
		found := false
		for _, name := range group {
			found = found || c.data(name, off, hole != holeThere)
		}
		if !found {
			say(path, "content differs at %d", off)
		}
	}
}

// isHole reports whether a region is nothing but a hole, or behind the end.
func isHole(t *tree.Tree, path string, off int64) bool {
	st, err := t.Stat(path)
	next, err2 := t.NextData(path, off)
	return err == nil && err2 == nil && (next > off || off >= st.Size)
}

// sameBytes compares a region in which just one of two files ends.
func sameBytes(a, b *tree.Tree, path string, off int64) bool {
	var bytes [2][op.RegionSize]byte
	ends := false
	for i, t := range []*tree.Tree{a, b} {
		f, err := os.Open(filepath.Join(t.Dir(), path))
		if err != nil {
			return false
		}
		n, _ := f.ReadAt(bytes[i][:], off)
		f.Close()
		ends = ends || n < len(bytes[i])
	}
	return ends && bytes[0] == bytes[1]
}
