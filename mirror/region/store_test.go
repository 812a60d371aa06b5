package region

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

type fixture struct {
	t  *testing.T
	db *bolt.DB
	*Store
	at op.LSN
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{t: t, db: db}
	f.crash()
	return f
}

// crash forgets all that is in memory.
func (f *fixture) crash() {
	f.t.Helper()
	s, err := Open(f.db)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Store = s
}

// pages returns how many were written to disk.
func (f *fixture) pages() int64 {
	s := f.db.Stats()
	return s.TxStats.GetWrite()
}

func nothing(string) (Stat, error) { return Stat{}, fs.ErrNotExist }

func (f *fixture) do(o *op.Op) {
	f.t.Helper()
	ticket, err := f.Begin(o, nothing)
	if err != nil {
		f.t.Fatal(err)
	}
	f.at++
	ticket.Leave(f.at)
}

func write4K(path string, off int64) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: make([]byte, 4096)}
}

// checkpoint makes one at which everything was committed.
func (f *fixture) checkpoint(outside ...op.NodeID) {
	f.t.Helper()
	f.checkpointAt(f.at, outside...)
}

func (f *fixture) checkpointAt(commit op.LSN, outside ...op.NodeID) {
	f.t.Helper()
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { return nil },
		Committed: func(at op.LSN) bool { return commit >= at },
		Outside:   func() []op.NodeID { return outside },
		Allowed:   func() bool { return true },
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) hot(want ...Mark) {
	f.t.Helper()
	if got := f.Hot(); !slices.Equal(got, want) {
		f.t.Errorf("hot are %v, want %v", got, want)
	}
}

// know makes nodes known, with nothing stale.
func (f *fixture) know(nodes ...op.NodeID) {
	f.t.Helper()
	if err := f.Level(nodes, func(also func(*bolt.Tx) error) error { return f.db.Update(also) }); err != nil {
		f.t.Fatal(err)
	}
}

// A region is recorded before its first change, and not again.
func TestHotBeforeChange(t *testing.T) {
	f := newFixture(t)
	before := f.pages()
	f.do(write4K("f", 0))
	if f.pages() == before {
		t.Error("nothing was recorded")
	}
	before = f.pages()
	for range 100 {
		f.do(write4K("f", 8192))
	}
	if n := f.pages() - before; n > 0 {
		t.Errorf("what is hot was recorded again, %d pages", n)
	}
	f.crash()
	f.hot(Mark{Path: "f", To: Extent})
}

// What is idle for a generation, stored and committed is forgotten, and only
// then.
func TestForget(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("idle", 0))
	f.do(write4K("busy", 0))
	f.checkpoint()
	f.hot(Mark{Path: "busy", To: Extent}, Mark{Path: "idle", To: Extent})
	f.do(write4K("busy", 0))
	f.checkpointAt(1) // "busy" was changed at 2 in the generation that is looked at
	f.hot(Mark{Path: "busy", To: Extent}, Mark{Path: "idle", To: Extent})
	f.do(write4K("busy", 0))
	f.checkpoint()
	f.hot(Mark{Path: "busy", To: Extent})
	f.crash()
	f.hot(Mark{Path: "busy", To: Extent})
}

// An op under way keeps what it touches, however many checkpoints pass.
func TestUnderWay(t *testing.T) {
	f := newFixture(t)
	ticket, err := f.Begin(write4K("f", 0), nothing)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		f.checkpoint()
	}
	f.hot(Mark{Path: "f", To: Extent})
	ticket.Leave(7)
	f.checkpointAt(6)
	f.checkpointAt(6)
	f.checkpointAt(6)
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpointAt(7)
	f.hot()
}

// RULES.md 2, Fold: what is forgotten is in the maps of all that are outside.
func TestFold(t *testing.T) {
	f := newFixture(t)
	f.know(1, 2)
	f.do(write4K("f", 0))
	f.checkpoint(1)
	f.checkpoint(1)
	f.hot()
	f.crash()
	want := []Mark{{Path: "f", To: Extent}}
	if got := f.Suspect(1); !slices.Equal(got, want) {
		t.Errorf("of a node outside: %v", got)
	}
	if got := f.Suspect(2); len(got) > 0 {
		t.Errorf("of a member: %v", got)
	}
	if got := f.Suspect(3); !slices.Equal(got, []Mark{Everything}) {
		t.Errorf("of a stranger: %v", got)
	}
	f.know(1)
	f.crash()
	if got := f.Suspect(1); len(got) > 0 || !f.Known(1) {
		t.Errorf("once it is level: %v", got)
	}
}

// RULES.md 3, KeepPastJoin, and 11: positions of another line say nothing.
func TestRestart(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	f.Restart(100)
	for range 3 {
		f.checkpointAt(99)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpointAt(100)
	f.hot()
}

// A sync that failed is not made up for by one that did not, but by finding out
// what the disk has since the last one that failed.
func TestLostSync(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	var told error
	err := f.Checkpoint(Checkpoint{Allowed: func() bool { return true }, Sync: func() error { return unix.EIO }, Failed: func(err error) {
		told = err
		if f.losses != 1 {
			t.Error("it is told before it counts")
		}
	}})
	if !errors.Is(err, unix.EIO) || !errors.Is(told, unix.EIO) {
		t.Fatalf("error %v, told %v", err, told)
	}
	kept := func(what string) {
		t.Helper()
		for range 3 {
			f.checkpoint()
		}
		if got := f.Hot(); len(got) != 1 {
			t.Errorf("%s: hot are %v", what, got)
		}
	}
	kept("after a loss")
	n := f.Lost()
	f.Lost()
	f.Found(n)
	kept("found out before the newest loss")
	f.know(9)
	f.Found(f.Lost())
	f.checkpoint(9)
	f.checkpoint(9)
	f.hot()
	if got := f.Stale(9); len(got) != 1 {
		t.Errorf("a node outside lacks %v", got)
	}
}

// A sync that goes well because one beside it has taken the news of a loss.
func TestLossElsewhere(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { f.Found(f.Lost()); return nil },
		Committed: func(op.LSN) bool { return true },
		Outside:   func() []op.NodeID { return nil },
		Allowed:   func() bool { return true },
	}); err != nil {
		t.Fatal(err)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpoint()
	f.hot()
}

// Where what was put off could not be ordered nothing is forgotten.
func TestNotSettled(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	away := errors.New("no mirror")
	if err := f.Checkpoint(Checkpoint{Allowed: func() bool { return true }, Settle: func() error { return away }}); !errors.Is(err, away) {
		t.Fatalf("error %v", err)
	}
	f.hot(Mark{Path: "f", To: Extent})
	f.checkpoint()
	f.hot()
}

// A checkpoint that is not allowed any more when it comes to forgetting does
// not.
func TestNotAllowed(t *testing.T) {
	f := newFixture(t)
	f.do(write4K("f", 0))
	f.checkpoint()
	allowed := true
	if err := f.Checkpoint(Checkpoint{
		Sync:      func() error { allowed = false; return nil },
		Committed: func(op.LSN) bool { return true },
		Outside:   func() []op.NodeID { return nil },
		Allowed:   func() bool { return allowed },
	}); err != nil {
		t.Fatal(err)
	}
	if allowed {
		t.Error("it did not get so far")
	}
	f.hot(Mark{Path: "f", To: Extent})
}

// What could not be recorded is not done, and is recorded with the next.
func TestDiskOfTheState(t *testing.T) {
	f := newFixture(t)
	f.know(1)
	full := errors.New("full")
	if err := f.Level([]op.NodeID{1}, func(func(*bolt.Tx) error) error { return full }); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	path := f.db.Path()
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(write4K("f", 0), nothing); err == nil {
		t.Fatal("an op began that was not recorded")
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f.db, f.Store.db = db, db
	f.do(write4K("g", 0))
	f.crash()
	f.hot(Mark{Path: "f", To: Extent}, Mark{Path: "g", To: Extent})
}

// Ops side by side share transactions, and checkpoints take nothing from them.
func TestSideBySide(t *testing.T) {
	f := newFixture(t)
	const workers, each = 8, 60
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			for i := range each {
				ticket, err := f.Begin(write4K(fmt.Sprintf("%d", w), int64(i)*Extent), nothing)
				if err != nil {
					t.Error(err)
					return
				}
				if !f.hasOnDisk(write4K(fmt.Sprintf("%d", w), int64(i)*Extent)) {
					t.Errorf("%d/%d began without being on disk", w, i)
				}
				ticket.Leave(op.LSN(1 + i))
			}
		})
	}
	stop := make(chan struct{})
	var c sync.WaitGroup
	c.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.checkpointAt(End)
			}
		}
	})
	g.Wait()
	close(stop)
	c.Wait()
}

func (f *fixture) hasOnDisk(o *op.Op) bool {
	t := touch(o, nothing)
	s, err := Open(f.db)
	return err == nil && s.hot.Touch(t.marks[0], 1)
}

// A growing file is recorded less and less often, many small files by their
// directory, and what is made in a new directory by that.
func TestFewRecords(t *testing.T) {
	records := func(f *fixture, ops func()) int64 {
		t.Helper()
		before := f.pages()
		ops()
		return f.pages() - before
	}
	f := newFixture(t)
	one := records(f, func() { f.do(write4K("one", 0)) })
	grow := records(f, func() {
		for off := int64(0); off < 4<<30; off += 1 << 20 {
			f.do(write4K("grows", off))
		}
	})
	if most := 150 * one; grow > most {
		t.Errorf("4 GiB of appends took %d page writes, one record takes %d", grow, one)
	}
	many := records(f, func() {
		for i := range 10_000 {
			name := fmt.Sprintf("mail/%d", i)
			f.do(&op.Op{Kind: op.Create, Path: name})
			f.do(write4K(name, 0))
			f.do(&op.Op{Kind: op.SetAttr, Path: name})
			f.do(&op.Op{Kind: op.Unlink, Path: name})
		}
	})
	if most := 3 * one; many > most {
		t.Errorf("10,000 files took %d page writes, one record takes %d", many, one)
	}
	untar := records(f, func() {
		f.do(&op.Op{Kind: op.Mkdir, Path: "src"})
		for i := range 1000 {
			dir := fmt.Sprintf("src/%d", i)
			f.do(&op.Op{Kind: op.Mkdir, Path: dir})
			f.do(&op.Op{Kind: op.Create, Path: dir + "/f"})
			f.do(write4K(dir+"/f", 10<<20))
		}
	})
	if most := 6 * one; untar > most {
		t.Errorf("1,000 new directories took %d page writes, one record takes %d", untar, one)
	}
	// One that takes so long that its mark does not cover any more.
	for range 5 {
		f.checkpoint()
	}
	untar = records(f, func() {
		for i := range 5000 {
			dir := fmt.Sprintf("src/more%d", i)
			f.do(&op.Op{Kind: op.Mkdir, Path: dir})
			f.do(&op.Op{Kind: op.Create, Path: dir + "/f"})
		}
	})
	if most := int64(3 * maxWide); untar > 3*most {
		t.Errorf("5,000 more took %d page writes, one record takes %d", untar, one)
	}
}

// A tree that was unpacked is hot as a whole for a while. What goes on in it for
// longer is hot where it is.
func TestTreesAreRefined(t *testing.T) {
	f := newFixture(t)
	f.do(&op.Op{Kind: op.Mkdir, Path: "db"})
	f.do(&op.Op{Kind: op.Create, Path: "db/file"})
	f.checkpoint()
	f.do(write4K("db/file", 100*Extent))
	f.hot(Mark{Path: ".", Scope: Entries}, Mark{Path: "db", Scope: Tree})
	for range 10 {
		f.do(write4K("db/file", 100*Extent))
		f.checkpoint()
	}
	f.hot(Mark{Path: "db/file", From: 100 * Extent, To: 101 * Extent})
	f.crash()
	f.hot(Mark{Path: "db/file", From: 100 * Extent, To: 101 * Extent})
}

func TestForgetAll(t *testing.T) {
	f := newFixture(t)
	f.know(1)
	f.do(write4K("f", 0))
	if err := f.Forget(func(also func(*bolt.Tx) error) error { return f.db.Update(also) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.hot()
		if f.Known(1) {
			t.Error("a map is left")
		}
		f.crash()
	}
}

// A record that is not what was written is never taken for right.
func FuzzDecode(f *testing.F) {
	for _, m := range []Mark{{Path: "a"}, {Path: "a/b", To: End}, {Path: "c", From: 9 * Extent, To: 10 * Extent}, Everything} {
		m.each(func(u unit) bool { f.Add(u.key(), sum(u.key())); return true })
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		u, err := decode(key, value)
		if err != nil {
			return
		}
		if !slices.Equal(u.key(), key) {
			t.Errorf("%q is %v", key, u.mark())
		}
		m := u.mark()
		if m.From < 0 || m.To < m.From || op.CheckPath(m.Path) != nil {
			t.Errorf("%v", m)
		}
	})
}
