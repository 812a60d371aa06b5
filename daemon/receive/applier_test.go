package receive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// testSyncer is a syncer whose fsync is a test's.
type testSyncer struct {
	fsync   func(fd int, dataOnly bool) error
	after   func()
	running sync.WaitGroup
}

func (s *testSyncer) Start(fd int, dataOnly bool, done func(error)) {
	fd, err := unix.Dup(fd) // open for as long as fsync runs
	s.running.Go(func() {
		if err == nil {
			err = errors.Join(s.fsync(fd, dataOnly), unix.Close(fd))
		}
		done(err)
		s.after()
	})
}

func (s *testSyncer) Close() { s.running.Wait() }

// withFsync has the next sessions use a test's fsync.
func (g *rig) withFsync(fsync func(fd int, dataOnly bool) error) {
	g.recv.cfg.NewSyncer = func(after func()) Syncer { return &testSyncer{fsync: fsync, after: after} }
}

// A blocked fsync holds up nothing that comes after it, and nothing of what
// comes after counts as durable.
func TestFsyncBesideTheStream(t *testing.T) {
	g := newRig(t)
	first, release := make(chan struct{}), make(chan struct{})
	var synced []string
	g.withFsync(func(fd int, _ bool) error {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "/moved") || strings.HasSuffix(name, "/slow") {
			close(first)
			<-release
			synced = append(synced, filepath.Base(name))
		}
		return nil
	})
	p := g.start(hello(), false)
	p.send(create("slow"), create("f"), fsyncOf("slow"))
	<-first
	last := p.send(write("f", 0, "later"), fsyncOf("f"), &op.Op{Kind: op.Rename, Path: "slow", Path2: "moved"}, create("slow"))
	if ack, _ := p.applied(last); ack.Durable != 2 {
		t.Errorf("with the first fsync still running: %+v, want durable 2", ack)
	}
	if d := g.recv.Status().Durable; d != 2 {
		t.Errorf("status says durable %d", d)
	}
	g.content("f", "later")
	close(release)
	p.durable(last)
}

// The mtime that an Fsync carries is there before the file is synced, and that
// the op is applied is told with that it is durable.
func TestFsyncBringsTime(t *testing.T) {
	g := newRig(t)
	held, free := make(chan int64), make(chan struct{})
	g.withFsync(func(fd int, _ bool) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		held <- st.Mtim.Sec
		<-free
		return nil
	})
	p := g.start(hello(), false)
	written := p.send(create("f"), write("f", 0, "x"))
	p.applied(written)
	o := fsyncOf("f")
	o.Attr = op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1234}}
	last := p.send(o)
	if sec := <-held; sec != 1234 {
		t.Errorf("synced with an mtime of %d", sec)
	}
	free <- struct{}{}
	if ack, _ := p.until(func(wire.Ack) bool { return true }); ack.Applied != last || ack.Durable != last {
		t.Errorf("the next ack is %+v", ack)
	}
}

func TestBarrierWrites(t *testing.T) {
	g := newRig(t)
	synced := make(chan bool, 4)
	g.withFsync(func(_ int, dataOnly bool) error { synced <- dataOnly; return nil })
	p := g.start(hello(), false)
	w := write("f", 0, "x")
	w.Flags = op.Barrier | op.DataOnly
	p.durable(p.send(create("f"), write("f", 0, "y"), w, fsyncOf("f")))
	close(synced)
	var got []bool
	for d := range synced {
		got = append(got, d)
	}
	slices.SortFunc(got, func(a, b bool) int { return map[bool]int{true: 1}[a] - map[bool]int{true: 1}[b] })
	if !slices.Equal(got, []bool{false, true}) {
		t.Errorf("syncs, data only: %v", got)
	}
}

// left checks that the mirror records and says that it left for this reason.
func (g *rig) left(p *sender, reason string) {
	g.t.Helper()
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	st, _, err := readCopy(g.t, g.state)
	if err != nil || st.InSync || st.Reason != reason {
		g.t.Errorf("at the goodbye in sync %v, reason %q is recorded (%v), want %q", st.InSync, st.Reason, err, reason)
	}
	if !bye.NotInSync || bye.Reason != reason {
		g.t.Errorf("goodbye %+v, want %q", bye, reason)
	}
	if err := p.ended(); err == nil || err.Error() != reason {
		g.t.Errorf("Serve returned %v", err)
	}
	if a := g.connect().greet(hello()); a.Refusal != nil || a.Resume != nil || a.InSync {
		g.t.Errorf("the next session: %+v", a)
	}
}

// In a resync an op that cannot be applied is reported, before its ack.
func TestLenientReports(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	last := p.send(create("f"), write("missing", 0, "x"), fsyncOf("gone"), create("f"), write("f", 0, "y"))
	_, reports := p.applied(last)
	if len(reports) != 2 || reports[0].Kind != wire.ReportSuspect || string(reports[0].Path) != "missing" || reports[0].LSN != 2 ||
		string(reports[1].Path) != "gone" || !strings.Contains(reports[0].What, "no such file") {
		t.Errorf("reports %+v", reports)
	}
	g.content("f", "y")
}

// A put of a part is reported if there is nothing of the rest.
func TestPutReportsNew(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	put := func(path string, flags op.Flags) *op.Op {
		attr := op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrSize, Mode: syscall.S_IFREG | 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Size: 1}
		return &op.Op{Kind: op.Put, Flags: flags, Path: path, Attr: attr}
	}
	last := p.send(create("f"), write("f", 0, "y"), put("f", op.Partial), put("g", op.Partial), put("whole", 0), put("no/dir", op.Partial))
	_, reports := p.applied(last)
	if len(reports) != 2 || reports[0].Kind != wire.ReportNew || string(reports[0].Path) != "g" || reports[0].LSN != 4 ||
		reports[1].Kind != wire.ReportSuspect || string(reports[1].Path) != "no/dir" {
		t.Errorf("reports %+v", reports)
	}
	g.content("f", "y")
	g.content("g", "\x00")
}

func TestCheckReportsRegions(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.applied(p.send(create("f"), write("f", op.RegionSize, "here")))
	digests, err := g.tree.Digests("f", 0, 2*op.RegionSize)
	if err != nil {
		t.Fatal(err)
	}
	check := &op.Op{Kind: op.Check, Path: "f", Len: 2 * op.RegionSize, Data: digests}
	if _, reports := p.applied(p.send(check)); len(reports) != 0 {
		t.Errorf("of equal regions: %+v", reports)
	}
	digests[16] ^= 1
	_, reports := p.applied(p.send(check))
	if len(reports) != 1 || reports[0].Kind != wire.ReportDiffer || !slices.Equal(reports[0].Regions, []int64{op.RegionSize}) {
		t.Errorf("of one that differs: %+v", reports)
	}
	check.Flags = op.Compare
	_, reports = p.applied(p.send(check))
	if len(reports) != 1 || reports[0].Kind != wire.ReportDifference || reports[0].What == "" {
		t.Errorf("compared: %+v", reports)
	}
}

// A survey is answered by names, in a verify even where nothing can be compared:
// the primary then looks at each.
func TestSurveyReportsNames(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.applied(p.send(create("f"), write("f", 0, "x"), create("g")))
	names := []string{"f", "g"}
	digests, err := g.tree.Survey(op.Root, names)
	if err != nil {
		t.Fatal(err)
	}
	one := slices.Clone(digests)
	one[tree.SurveySize] ^= 1
	for _, c := range []struct {
		name  string
		flags op.Flags
		data  []byte
		kind  string
		names string
	}{
		{"equal", 0, digests, "", ""},
		{"one that differs", 0, one, wire.ReportNames, "g"},
		{"what is no survey", 0, digests[1:], wire.ReportSuspect, ""},
		{"equal, in a verify", op.Compare, digests, "", ""},
		{"one that differs, in a verify", op.Compare, one, wire.ReportNames, "g"},
		{"what is no survey, in a verify", op.Compare, digests[1:], wire.ReportNames, "f g"},
	} {
		_, reports := p.applied(p.send(&op.Op{Kind: op.Survey, Flags: c.flags, Path: op.Root, Names: names, Data: c.data}))
		var kind, got string
		for _, r := range reports {
			kind += r.Kind
			got += string(bytes.Join(r.Names, []byte(" ")))
		}
		if kind != c.kind || got != c.names {
			t.Errorf("%s: %+v", c.name, reports)
		}
	}
}

// RULES.md 10: the state file at each step of a join.
func TestJoinProcedure(t *testing.T) {
	g := newRig(t)
	held, free := make(chan struct{}), make(chan struct{})
	g.withFsync(func(int, bool) error { close(held); <-free; return nil })
	p := g.start(hello(), false)
	self := g.store.Get().Node
	inSync := func(step string, want bool) {
		t.Helper()
		if st, _, err := readCopy(t, g.state); err != nil || st.InSync != want {
			t.Errorf("%s: in sync is recorded as %v (%v), want %v", step, st.InSync, err, want)
		}
	}
	if err := g.store.Update(func(s *state.State) error { s.ArchiveUntilJoined = true; return nil }); err != nil {
		t.Fatal(err)
	}
	p.applied(p.send(create("f")))
	inSync("level", false)
	p.tell(wire.KindPrepareJoin, wire.PrepareJoin{})
	var prepared wire.Prepared
	p.hear(wire.KindPrepared, &prepared)
	if prepared.Applied != 1 || prepared.Error != "" {
		t.Errorf("prepared %+v", prepared)
	}
	inSync("prepared", false)
	if m := g.recv.Status(); !m.Strict || m.Resyncing {
		t.Errorf("prepared: %+v", m)
	}

	// A running fsync holds up the join, and so the ack that covers it.
	p.send(fsyncOf("f"))
	<-held
	set := []op.NodeID{otherNode, self}
	slices.Sort(set)
	join := p.send(&op.Op{Kind: op.Join, Path: op.Root, Member: self, Members: set})
	inSync("join received, fsync running", false)
	close(free)
	p.applied(join)
	inSync("joined", true)
	st := g.store.Get()
	if !slices.Equal(st.Set, set) || st.ArchiveUntilJoined || st.Reason != "" {
		t.Errorf("joined: %+v", st)
	}

	p.applied(p.send(&op.Op{Kind: op.Expel, Path: op.Root, Member: otherNode, Members: []op.NodeID{self}}))
	if st := g.store.Get(); !st.InSync || !slices.Equal(st.Set, []op.NodeID{self}) {
		t.Errorf("another one expelled: %+v", st)
	}
	p.applied(p.send(&op.Op{Kind: op.Expel, Path: op.Root, Member: self}))
	inSync("expelled", false)
	if st := g.store.Get(); len(st.Set) != 0 || st.Reason != "expelled by a" {
		t.Errorf("expelled: %+v", st)
	}
	g.wantDegraded("expelled by a")
	// It is still level and joins again by the same procedure.
	p.join(g)
	inSync("joined again", true)
}

func TestCommitPosition(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.raw(wire.AppendCommit(nil, line.Epoch.Number, 1))
	p.applied(p.send(create("g")))
	if c := g.recv.Status().Commit; c != 1 {
		t.Errorf("commit position %d", c)
	}
}

// Nothing of what a lying peer sends is applied, and the session ends.
func TestLyingPeer(t *testing.T) {
	reseal := func(f []byte) []byte {
		binary.LittleEndian.PutUint32(f[44:], crc32.Checksum(f[:44], crc32.MakeTable(crc32.Castagnoli)))
		return f
	}
	for _, c := range []struct {
		name string
		lie  func(p *sender, self op.NodeID) []byte
		says string
	}{
		{"another epoch", func(p *sender, _ op.NodeID) []byte {
			f := p.frame(create("bad"))
			binary.LittleEndian.PutUint64(f[8:], 7)
			return reseal(f)
		}, "a frame of epoch 7 in a session of epoch 1"},
		{"LSN goes back", func(p *sender, _ op.NodeID) []byte {
			f := p.frame(create("bad"))
			wire.Seal(f, 1, 1)
			return f
		}, "LSN 1 follows LSN 1"},
		{"outside of the root", func(p *sender, _ op.NodeID) []byte {
			good := p.frame(create("aa/bad"))
			f := []byte(strings.Replace(string(good), "aa/bad", "../bad", 1))
			binary.LittleEndian.PutUint32(f[40:], crc32.Checksum(f[wire.HeaderSize:], crc32.MakeTable(crc32.Castagnoli)))
			return reseal(f)
		}, `component ".." is not allowed`},
		{"unknown kind", func(p *sender, _ op.NodeID) []byte {
			f := p.frame(create("bad"))
			f[4] = 99
			return reseal(f)
		}, "unknown kind 99"},
		{"a message", func(p *sender, _ op.NodeID) []byte {
			return wire.AppendFrame(nil, wire.Header{Kind: wire.KindHeartbeat, Epoch: 1, LSN: 2}, []byte("{}"))
		}, ""},
		{"huge length", func(p *sender, _ op.NodeID) []byte {
			f := p.frame(create("bad"))
			binary.LittleEndian.PutUint32(f[0:], 1<<31)
			return reseal(f)
		}, "at most"},
		{"flipped bit", func(p *sender, _ op.NodeID) []byte {
			f := p.frame(create("bad"))
			f[len(f)-1] ^= 1
			return f
		}, "checksum of the payload"},
		{"join without preparation", func(p *sender, self op.NodeID) []byte {
			return p.frame(&op.Op{Kind: op.Join, Path: op.Root, Member: self, Members: []op.NodeID{self}})
		}, "without a PrepareJoin"},
		{"join that leaves it out", func(p *sender, self op.NodeID) []byte {
			return p.frame(&op.Op{Kind: op.Join, Path: op.Root, Member: self, Members: []op.NodeID{1}})
		}, "leaves the set"},
		{"expulsion that keeps it", func(p *sender, self op.NodeID) []byte {
			return p.frame(&op.Op{Kind: op.Expel, Path: op.Root, Member: self, Members: []op.NodeID{self}})
		}, "leaves the set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			p := g.start(hello(), false)
			p.applied(p.send(create("good")))
			was := g.store.Get()
			p.raw(append(c.lie(p, was.Node), p.frame(create("after"))...))
			var bye wire.Goodbye
			p.hear(wire.KindGoodbye, &bye)
			if err := p.ended(); !errors.Is(err, errProtocol) && !errors.Is(err, wire.ErrCorrupt) || !strings.Contains(err.Error(), c.says) || bye.NotInSync {
				t.Errorf("got %v, goodbye %+v, want %q", err, bye, c.says)
			}
			names, err := os.ReadDir(g.dir)
			if err != nil || len(names) != 1 {
				t.Errorf("the replica holds %v (%v)", names, err)
			}
			if st := g.store.Get(); st.InSync != was.InSync || len(st.Set) != 0 {
				t.Errorf("state %+v", st)
			}
			if m := g.recv.Status(); m.Position.LSN != 1 {
				t.Errorf("position %v", m.Position)
			}
		})
	}
}
