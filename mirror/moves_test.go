package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// known makes the pair one that was equal once, with records of it.
func (r *pair) known() {
	r.t.Helper()
	regions, err := region.Open(nil)
	must(r.t, err)
	must(r.t, regions.Level([]op.NodeID{2}, func(func(*bolt.Tx) error) error { return nil }))
	r.cfg.Regions, r.p.node = regions, 2
}

// begin makes changes on primary and mirror.
func (r *pair) begin(ops ...*op.Op) {
	r.t.Helper()
	for _, o := range ops {
		o.Dir, o.Dir2 = op.Time{Sec: 1e9}, op.Time{Sec: 1e9}
		r.both(o)
	}
}

// missed makes changes on the primary that the mirror is not there to hear of.
func (r *pair) missed(ops ...*op.Op) {
	r.t.Helper()
	for _, o := range ops {
		must(r.t, r.live(o))
	}
}

// hinted are the renames that were sent.
func (r *pair) hinted() (hints []string) {
	for _, o := range r.sent {
		if o.Kind == op.Hint {
			hints = append(hints, o.Path+" "+o.Path2)
		}
	}
	return hints
}

func movedDir(path string) *op.Op {
	return &op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFDIR | 0o755, Mtime: op.Time{Sec: 1e9}}}
}

func renaming(path, path2 string, arg uint32) *op.Op {
	return &op.Op{Kind: op.Rename, Path: path, Path2: path2, Arg: arg}
}

// What was renamed while a mirror was away does not travel anew, and what else
// was done is right.
func TestRenamedWhileAway(t *testing.T) {
	small := func(path string) *op.Op {
		return &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o600}}
	}
	write := func(path string, off int64) *op.Op {
		return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte("changed")}
	}
	for _, c := range []struct {
		name   string
		given  []*op.Op
		missed []*op.Op
		most   int // bytes on the wire, beside digests and what tells of names
	}{
		{"a file", movedFile("f"), []*op.Op{renaming("f", "g", 0)}, 0},
		{"a directory", slices.Concat([]*op.Op{movedDir("d"), movedDir("d/e")}, movedFile("d/e/f"), movedFile("d/g")), []*op.Op{renaming("d", "x", 0)}, 0},
		{"a directory, and something changed in it", slices.Concat([]*op.Op{movedDir("d"), movedDir("d/e")}, movedFile("d/e/f"), movedFile("d/g")),
			[]*op.Op{write("d/g", 300_000), renaming("d", "x", 0), write("x/e/f", 5), small("x/h")}, 2 * op.RegionSize},
		{"into a new directory", slices.Concat([]*op.Op{movedDir("d")}, movedFile("d/f")),
			[]*op.Op{movedDir("n"), movedDir("n/m"), small("n/s"), renaming("d", "n/m/d", 0)}, 0},
		{"a file that is rotated", slices.Concat(movedFile("log"), movedFile("log.1"), movedFile("log.2")),
			slices.Concat([]*op.Op{renaming("log.1", "log.2", 0), renaming("log", "log.1", 0), small("log"), write("log", 0)}), op.RegionSize},
		{"a file that is rotated twice", slices.Concat(movedFile("log"), movedFile("log.1"), movedFile("log.2")),
			slices.Concat([]*op.Op{renaming("log.1", "log.2", 0), renaming("log", "log.1", 0), small("log"), write("log", 100_000),
				renaming("log.1", "log.2", 0), renaming("log", "log.1", 0), small("log"), write("log", 0)}), 3 * op.RegionSize},
		{"a pack", movedFile("Data.fs"), slices.Concat([]*op.Op{small("Data.fs.pack"), write("Data.fs.pack", 0), renaming("Data.fs", "Data.fs.old", 0), renaming("Data.fs.pack", "Data.fs", 0)}), op.RegionSize},
		{"two that change places by way of a third name", slices.Concat(movedFile("a"), movedFile("b")),
			[]*op.Op{renaming("a", "t", 0), renaming("b", "a", 0), renaming("t", "b", 0)}, 0},
		{"an exchange", slices.Concat([]*op.Op{movedDir("d")}, movedFile("d/f"), movedFile("b")),
			[]*op.Op{renaming("d", "b", unix.RENAME_EXCHANGE)}, 0},
		{"there and back", slices.Concat([]*op.Op{movedDir("d")}, movedFile("d/f")), []*op.Op{renaming("d", "x", 0), renaming("x", "d", 0)}, 0},
		{"a chain of directories", slices.Concat([]*op.Op{movedDir("a"), movedDir("b")}, movedFile("a/f"), movedFile("b/f")),
			[]*op.Op{renaming("b", "c", 0), renaming("a", "b", 0), movedDir("a"), renaming("c/f", "a/f", 0)}, 0},
		{"what is in a directory that moves", slices.Concat([]*op.Op{movedDir("a"), movedDir("b")}, movedFile("a/f")),
			[]*op.Op{renaming("a/f", "b/f", 0), renaming("b", "a/b", 0), renaming("a", "z", 0)}, 0},
		{"a whiteout", movedFile("f"), []*op.Op{renaming("f", "g", unix.RENAME_WHITEOUT)}, 0},
		{"names that are in it", slices.Concat([]*op.Op{movedDir("d")}, movedFile("d/f"), []*op.Op{{Kind: op.Link, Path: "d/f", Path2: "d/g"}}),
			[]*op.Op{renaming("d", "x", 0)}, 0},
		{"what it replaces", slices.Concat(movedFile("a"), movedFile("b")), []*op.Op{renaming("a", "b", 0)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			r.known()
			r.begin(c.given...)
			r.missed(c.missed...)
			got := r.resync(r.cfg.Regions.Suspect(2), nil)
			r.equal()
			if most := uint64(c.most + 10_000); got.Sent > most {
				t.Errorf("%d bytes were sent, want at most %d; hints %q of %v", got.Sent, most, r.hinted(), r.cfg.Regions.Moves(2))
			}
			if left := r.cfg.Regions.Moves(2); len(left) > 0 {
				t.Errorf("%v are to be replayed once more", left)
			}
		})
	}
}

// Hints go to whoever needs them, about what is pending, and no further.
func TestNoHint(t *testing.T) {
	given := slices.Concat([]*op.Op{movedDir("d")}, movedFile("d/f"), movedFile("f"))
	rename := []*op.Op{renaming("d", "x", 0), renaming("f", "g", 0)}
	for _, c := range []struct {
		name  string
		given []*op.Op
		do    func(r *pair)
		marks func(r *pair) []region.Mark
		hints string
	}{
		{"both", given, func(r *pair) { r.missed(rename...) }, nil, "d x|f g"},
		{"a mirror that hears of them", given, func(r *pair) { r.p.streams = true; r.missed(rename...) }, nil, ""},
		{"a mirror that was gone already", given, func(r *pair) { r.p.streams = true; r.missed(rename...); r.p.parts() }, nil, "d x|f g"},
		{"a mirror that has them", given, func(r *pair) {
			r.p.streams = true
			r.missed(rename[0])
			r.Log.mu.Lock()
			r.p.applied = op.LSN(r.newest.Load())
			r.p.proven()
			r.Log.mu.Unlock()
			r.missed(rename[1])
			r.p.parts()
		}, nil, "f g"},
		{"a mirror that hears of them afterwards", given, func(r *pair) {
			r.missed(rename[0])
			r.p.applied = op.LSN(r.newest.Load())
			r.missed(rename[1])
			r.Log.mu.Lock()
			r.p.meets()
			r.Log.mu.Unlock()
		}, nil, "d x"},
		{"what is not pending", given, func(r *pair) { r.missed(rename...) }, func(*pair) []region.Mark {
			return []region.Mark{{Path: "d", Scope: region.Tree}, {Path: "x", Scope: region.Tree}, {Path: "g", To: region.End}}
		}, "d x"},
		{"what is small", []*op.Op{{Kind: op.Create, Path: "f", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o600}}},
			func(r *pair) { r.missed(renaming("f", "g", 0)) }, nil, ""},
		{"what has another name", append(movedFile("f"), &op.Op{Kind: op.Link, Path: "f", Path2: "g"}),
			func(r *pair) { r.missed(renaming("f", "h", 0)) }, nil, ""},
		{"another reign", given, func(r *pair) { r.missed(rename...); r.cfg.Line.Epoch.Number++ }, nil, ""},
		{"a mirror that joined since", given, func(r *pair) {
			r.missed(rename...)
			must(r.t, r.cfg.Regions.Level([]op.NodeID{2}, func(func(*bolt.Tx) error) error { return nil }))
		}, func(*pair) []region.Mark { return []region.Mark{region.Everything} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPair(t)
			r.known()
			r.begin(c.given...)
			c.do(r)
			marks := r.cfg.Regions.Suspect(2)
			if c.marks != nil {
				marks = c.marks(r)
			}
			r.resync(marks, nil)
			if got := strings.Join(r.hinted(), "|"); got != c.hints {
				t.Errorf("hints %q, want %q", got, c.hints)
			}
		})
	}
}

// Who does not know the primary, has nothing, or speaks an older protocol gets no
// hints.
func TestWhoGetsHints(t *testing.T) {
	for _, c := range []struct {
		answer wire.Answer
		want   bool
	}{
		{wire.Answer{Node: 2, Knows: true, Protocol: wire.ProtocolHints}, true},
		{wire.Answer{Node: 2, Knows: true, Protocol: wire.ProtocolHints - 1}, false},
		{wire.Answer{Node: 2, Protocol: wire.Protocol}, false},
		{wire.Answer{Node: 2, Knows: true, Fresh: true, Protocol: wire.Protocol}, false},
	} {
		r := newPair(t)
		r.known()
		r.p.startOver(&c.answer, nil)
		if r.p.hints != c.want {
			t.Errorf("%+v: hints %v, want %v", c.answer, r.p.hints, c.want)
		}
	}
}

// Hints that are wrong do no harm, while little is pending, as long as somebody
// looks at what they are about.
func TestMistakenHints(t *testing.T) {
	const rounds = 100
	if _, err := os.Stat(memory); err == nil {
		t.Setenv("TMPDIR", memory)
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if differ := mistaken(t, seed, false); len(differ) > 0 {
				t.Errorf("the replicas differ:\n%s", strings.Join(differ, "\n"))
			}
		})
	}
	found := false
	for seed := uint64(0); seed < rounds && !found && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("%d unchecked", seed), func(t *testing.T) { found = len(mistaken(t, seed, true)) > 0 })
	}
	if found || t.Failed() {
		return
	}
	t.Errorf("hints about what is not pending are not found in %d rounds", rounds)
}

// mistaken plays one round and returns what is different in the end. Unchecked, the
// mirror takes hints that the primary did not send.
func mistaken(t *testing.T, seed uint64, unchecked bool) []string {
	r := rand.New(rand.NewPCG(seed, 0))
	p := newPair(t)
	mine, theirs := newReplica(t, p.a, r), newReplica(t, p.b, r)
	theirs.changes.Ops = mine.changes.Ops
	p.cfg.Regions, p.theirs, p.p.node = mine.regions, theirs.regions, 2
	p.together(mine, theirs, 60)
	mine.level(2)
	mine.changes.Only = []op.Kind{op.Write, op.Create, op.Mkdir, op.SetAttr, op.Rename}
	mine.alone(r.IntN(4), 2)
	mine.mistaken(4, 2)
	if unchecked {
		for _, m := range mine.regions.Moves(2) {
			must(t, p.b.ApplyLenient(&op.Op{Kind: op.Hint, Path: m.Path, Path2: m.Path2}))
		}
		mine.level(2)
	}
	p.resync(mine.regions.Suspect(2), func() {
		for range 5 {
			o := mine.changes.Next()
			mine.tell(o, p.make(o, func() error { return mine.changes.Do(o) }))
		}
	})
	return p.unlike()
}
