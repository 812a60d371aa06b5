package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	bolt "go.etcd.io/bbolt"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill sets every field of the state, so that a test fails when one is not kept.
func fill(s *State) error {
	e := op.Epoch{Number: 3, Owner: 7}
	id := s.Node
	*s = State{
		Volume: "v", Node: id, Name: "b", Epoch: e, History: []EpochStart{{Epoch: e, First: 4, When: time.Unix(9, 8).UTC()}},
		Role: Mirror, InSync: true, Reason: "r", Set: []op.NodeID{7, 1 << 60}, ArchiveUntilJoined: true, Incarnation: 5,
		Policy:      wire.Policy{MinInSync: 1, OnShortage: "block", Set: []op.NodeID{7}, Members: []wire.Member{{Node: 7, Name: "b", Addr: "h:1", Mode: "sync"}}},
		PrimaryName: "a", PrimaryHeard: time.Unix(7, 6).UTC(), ReplicaIno: 2, ReplicaBorn: time.Unix(5, 4).UTC(),
		Stopped: &Stopped{Line: op.Line{Incarnation: 1}, LSN: 4, Offset: 5, Commit: 3, Strict: true, Member: true},
		Paused:  []string{"h:1"}, Doubted: true, Adopts: true, Met: map[op.NodeID]uint64{7: 8},
		LastVerify: &LastVerify{Ended: time.Unix(3, 2).UTC(), Files: 1, Bytes: 2, Peers: []VerifiedPeer{{Name: "b", Reason: "r", Differences: 4, First: "f"}}},
		Mixed:      true, AsOf: time.Unix(3, 2).UTC(), NotKept: "n",
		Kept:     &Kept{AsOf: time.Unix(3, 1).UTC(), Made: time.Unix(4, 1).UTC(), Objects: 5},
		Exchange: &Exchange{Aside: "mixed", Root: op.Attr{Valid: op.AttrMode, Mode: 0o40755, Mtime: op.Time{Sec: 1}}, In: true},
	}
	return nil
}

func TestStoreKeepsEveryField(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s := openStore(t, dir)
	if s.Get().Node == 0 {
		t.Error("a fresh state has no node ID")
	}
	if err := s.Update(fill); err != nil {
		t.Fatal(err)
	}
	want := s.Get()
	for i := range reflect.TypeFor[State]().NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("fill leaves out %s", reflect.TypeFor[State]().Field(i).Name)
		}
	}
	closeStore(t, s)

	s = openStore(t, dir)
	if got := s.Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("opened again:\n%+v\nwant\n%+v", got, want)
	}
	closeStore(t, s)
	got, _, err := Read(dir, 1)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read: %v\n%+v\nwant\n%+v", err, got, want)
	}
}

func TestReadStateOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, _, err := Read(dir, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made %s", dir)
	}
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	if err := s.Update(fill); err != nil {
		t.Fatal(err)
	}
	want, wrong := s.Get(), errors.New("wrong")
	err := s.Update(func(st *State) error {
		st.Volume, st.Set[0], st.Policy.Members[0].Name = "w", 9, "x"
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Errorf("got %v, want %v", err, wrong)
	}
	if got := s.Get(); !reflect.DeepEqual(got, want) {
		t.Errorf("state is now\n%+v\nwant\n%+v", got, want)
	}
}

func TestSee(t *testing.T) {
	now := time.Unix(1, 0)
	for _, c := range []struct {
		name        string
		have, see   op.Epoch
		new, archiv bool
	}{
		{"first contact", op.Epoch{}, op.Epoch{Number: 1, Owner: 2}, true, false},
		{"the same again", op.Epoch{Number: 1, Owner: 2}, op.Epoch{Number: 1, Owner: 2}, false, false},
		{"a lower one", op.Epoch{Number: 2, Owner: 2}, op.Epoch{Number: 1, Owner: 3}, false, false},
		{"somebody else's", op.Epoch{Number: 1, Owner: 2}, op.Epoch{Number: 2, Owner: 3}, true, true},
		{"its own promotion", op.Epoch{Number: 1, Owner: 2}, op.Epoch{Number: 2, Owner: 9}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := State{Node: 9, Epoch: c.have}
			s.See(c.see, 5, now)
			if got := len(s.History) == 1; got != c.new {
				t.Errorf("taken as new: %v, want %v", got, c.new)
			}
			if c.new && s.Epoch != c.see || !c.new && s.Epoch != c.have {
				t.Errorf("epoch is now %v", s.Epoch)
			}
			if s.ArchiveUntilJoined != c.archiv {
				t.Errorf("archive until joined: %v, want %v", s.ArchiveUntilJoined, c.archiv)
			}
		})
	}
}

func TestStoreInUse(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	defer closeStore(t, s)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
}

// unsynced has a store do without syncs, which tell nothing more in a test.
func unsynced(s *Store) { s.db.Database.(*bolt.DB).NoSync = true }

// known is all that a state file says.
type known struct {
	State  State
	Hot    []region.Mark
	Stale  map[op.NodeID][]region.Mark
	Events []Event
}

func knownTo(t *testing.T, s *Store) known {
	t.Helper()
	k := known{State: s.Get(), Hot: s.Regions().Hot(), Stale: map[op.NodeID][]region.Mark{}}
	for _, n := range s.Regions().Nodes() {
		k.Stale[n] = s.Regions().Stale(n)
	}
	var err error
	if k.Events, err = s.Events(keptEvents); err != nil {
		t.Error(err)
	}
	return k
}

// use fills a state with some of everything, or adds to it.
func use(t *testing.T, s *Store, paths int) {
	t.Helper()
	for i := range paths {
		o := &op.Op{Kind: op.Write, Path: fmt.Sprintf("a/%d/x%s", i, strings.Repeat("long", i%5*10)), Data: []byte("x")}
		ticket, err := s.Regions().Begin(o, func(string) (region.Stat, error) { return region.Stat{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		ticket.Leave(1)
		if err := s.Event("k", "text "+o.Path); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Level([]op.NodeID{7, 8, 9}, fill); err != nil {
		t.Fatal(err)
	}
	for n := range op.NodeID(2) {
		if err := s.Regions().Lacks(7+n, s.Regions().Hot()[:40*n+2]); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever happens to the file, opening it either yields what was in it, and what
// is done with it is kept, or an error that says the way out.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	unsynced(s)
	use(t, s, 60)
	want := knownTo(t, s)
	closeStore(t, s)
	path := filepath.Join(dir, stateFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The pages in use end where the meta pages say.
	end := max(binary.NativeEndian.Uint64(whole[16+40:]), binary.NativeEndian.Uint64(whole[4096+16+40:]))
	used := whole[:end*4096]

	// check returns whether it could be opened.
	check := func(t *testing.T, what string, damaged []byte) bool {
		t.Helper()
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(10*time.Second, func() { panic(what + ": it takes for ever") })
		defer late.Stop()
		s, err := Open(dir)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "standbyfs state reset --state "+dir) {
				t.Errorf("%s: error %v", what, err)
			}
			return false
		}
		defer closeStore(t, s)
		if got := knownTo(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: opened with something else:\n%+v", what, got)
		}
		return true
	}
	for size := 0; size < len(used); size += 1000 {
		if check(t, fmt.Sprintf("cut to %d", size), used[:size]) {
			t.Errorf("cut to %d bytes, it is taken for whole", size)
		}
	}
	if check(t, "garbage", bytes.Repeat([]byte("garbage "), 8192)) {
		t.Error("garbage is taken for a state")
	}
	if !check(t, "whole", used) {
		t.Fatal("what was not damaged is refused")
	}
	opened, refused := 0, 0
	damaged := bytes.Clone(used)
	for at := 0; at < len(used); at++ {
		// Where pages begin everything counts.
		if at%4096 > 64 && at%199 != 0 {
			continue
		}
		damaged[at] ^= 1 << (at % 8)
		if what := fmt.Sprintf("byte %d of page %d flipped", at%4096, at/4096); check(t, what, damaged) {
			opened++
			if opened%10 == 0 { // some of them are used on
				s := openStore(t, dir)
				unsynced(s)
				use(t, s, 50)
				used := knownTo(t, s)
				closeStore(t, s)
				s = openStore(t, dir)
				if got := knownTo(t, s); !reflect.DeepEqual(got, used) {
					t.Errorf("%s: what was recorded then is not there", what)
				}
				closeStore(t, s)
			}
		} else {
			refused++
		}
		damaged[at] = used[at]
	}
	t.Logf("%d pages: %d damages do no harm, %d are refused", len(used)/4096, opened, refused)
	if opened == 0 || refused < len(used)/200 {
		t.Error("that is hardly so")
	}
}

func TestStateSurvivesAKill(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	defer closeStore(t, s)
	if err := s.Update(fill); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, stateFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	// What a kill in the middle of making one leaves.
	if err := os.WriteFile(filepath.Join(copied, stateFile+".new"), data[:5000], 0o600); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, copied)
	defer closeStore(t, again)
	if !reflect.DeepEqual(again.Get(), s.Get()) {
		t.Error("the state differs")
	}
}

func TestHalfMadeStateIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	closeStore(t, openStore(t, dir))
}

func TestEvents(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	if got, err := s.Events(3); err != nil || len(got) != 0 {
		t.Errorf("at first: %v, %v", got, err)
	}
	unsynced(s) // five hundred syncs tell nothing more
	for i := range keptEvents + 10 {
		if err := s.Event("kind", fmt.Sprintf("event %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Events(2)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Text != "event 508" || got[1].Text != "event 509" || got[0].Kind != "kind" || got[0].Time.IsZero() {
		t.Errorf("the last two: %v", got)
	}
	if all, _ := s.Events(10000); len(all) != keptEvents || all[0].Text != "event 10" {
		t.Errorf("%d events are kept, the oldest %v", len(all), all[0])
	}
}
