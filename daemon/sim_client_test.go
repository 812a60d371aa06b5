// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// Each client of a simulation has a file of its own, in which it counts, at
// three places: in two regions and in another extent. A count that was written
// everywhere and synced is a barrier; once acknowledged it must never be lost.
const simClients = 3

var simPlaces = [...]int64{0, 3 * op.RegionSize, 5 << 20}

type simCounts [simClients]uint64

func ownFile(client int) string { return fmt.Sprintf("own%d", client) }

// countsIn reads what every place of the clients' files has at least.
func countsIn(replica string) (c simCounts) {
	for k := range c {
		f, err := os.Open(filepath.Join(replica, ownFile(k)))
		if err != nil {
			continue // not made yet
		}
		c[k] = ^uint64(0)
		for _, at := range simPlaces {
			var b [8]byte
			_, _ = f.ReadAt(b[:], at) // beyond the end it is 0
			c[k] = min(c[k], binary.LittleEndian.Uint64(b[:]))
		}
		f.Close()
	}
	return c
}

// lacks returns what of the counts is missing.
func (c simCounts) lacks(want simCounts) string {
	for k := range c {
		if c[k] < want[k] {
			return fmt.Sprintf("of %s %d was acknowledged as durable, and %d is there", ownFile(k), want[k], c[k])
		}
	}
	return ""
}

// simReign is what is known of the nodes that were the primary.
type simReign struct {
	epoch    op.Epoch
	promised bool      // nothing that the one before acknowledged was to be missing
	start    simCounts // what was there
	of       *simNode
}

// simMust is what a process that died has to have left.
type simMust struct {
	counts  simCounts
	epoch   op.Epoch
	primary bool
}

// must says what p, which is about to die, must have kept: as the primary
// everything that was acknowledged, as a mirror in the set, too.
func (s *simulation) must(p *simProcess) *simMust {
	s.mu.Lock()
	reign, counts := s.reigns[len(s.reigns)-1], s.floor
	s.mu.Unlock()
	if reign.of == p.of {
		return &simMust{counts, reign.epoch, true}
	}
	if chief := reign.of.alive.Load(); chief == nil || !slices.Contains(chief.n.store.Get().Set, p.of.id) {
		return nil
	}
	return &simMust{counts, reign.epoch, false}
}

// kept checks that.
func (m *simNode) kept(st state.State) error {
	must := m.must
	m.must = nil
	if must == nil || st.Epoch != must.epoch || !must.primary && !st.InSync {
		return nil
	}
	if lacks := countsIn(m.disk.replica).lacks(must.counts); lacks != "" {
		m.sim.fail("%s came back as a member of the set, but %s", m.name, lacks)
	}
	return nil
}

// crowning is called by a process whose promotion is recorded, before anybody
// can write; crown follows once it is known what was promised.
func (s *simulation) crowning(p *simProcess, serve func()) {
	s.beginsWith(p)
	counts := countsIn(p.of.disk.replica)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, simHeir{p, counts, serve})
}

type simHeir struct {
	p      *simProcess
	counts simCounts
	serve  func()
}

// crownAll crowns those whose promotion has ended.
func (s *simulation) crownAll(promised bool) {
	s.mu.Lock()
	heirs := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, h := range heirs {
		s.crownWith(h.p, h.counts, promised)
		h.serve()
	}
}

// crown takes down that p reigns.
func (s *simulation) crown(p *simProcess, promised bool) {
	s.beginsWith(p)
	s.crownWith(p, countsIn(p.of.disk.replica), promised)
}

func (s *simulation) crownWith(p *simProcess, counts simCounts, promised bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := false
	if n := len(s.reigns); n > 0 {
		last := s.reigns[n-1]
		if p.epoch.Compare(last.epoch) < 0 {
			return // it does not know yet
		}
		same = p.epoch == last.epoch
	}
	if same || promised {
		if lacks := counts.lacks(s.floor); lacks != "" {
			s.failLocked("%s becomes the primary, but %s", p.of.name, lacks)
		}
	}
	if !same {
		s.reigns = append(s.reigns, simReign{p.epoch, promised, counts, p.of})
	}
	if !same && !promised {
		s.floor = simCounts{} // what of it is here may not be durable
	}
}

// acknowledged takes down that a client was told so of a barrier.
func (s *simulation) acknowledged(p *simProcess, k int, count uint64) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if p.dead {
		return // nobody was told
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barriers++
	if p.epoch == s.reigns[len(s.reigns)-1].epoch {
		s.floor[k] = max(s.floor[k], count)
		acked := s.history.acked[p.epoch]
		acked[k] = max(acked[k], count)
		s.history.acked[p.epoch] = acked
		return
	}
	for _, r := range s.reigns {
		if p.epoch.Compare(r.epoch) < 0 {
			if r.promised && count > r.start[k] {
				s.failLocked("%s acknowledged %d of %s after %s was promised to have everything, with %d", p.of.name, count, ownFile(k), r.of.name, r.start[k])
			}
			return
		}
	}
}

// client makes changes until ctx ends.
func (s *simulation) client(ctx context.Context, k int) {
	ops := &simOps{Rand: rand.New(rand.NewPCG(s.seed, uint64(100+k))), sim: s}
	for ctx.Err() == nil {
		s.sleep(ctx, time.Duration(ops.Int64N(int64(s.pace))))
		p := s.anyReign(ops.Rand)
		if p == nil {
			s.sleep(ctx, 100*time.Millisecond)
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
		if ops.IntN(4) == 0 {
			s.count(bounded, p, k)
		} else if ack, err := p.do(bounded, func() *op.Op { return ops.next(p) }); err == nil && ops.IntN(2) == 0 {
			_ = ack.Wait(bounded)
		}
		cancel()
	}
}

// count writes the client's next count everywhere and waits for a barrier.
func (s *simulation) count(ctx context.Context, p *simProcess, k int) {
	s.mu.Lock()
	s.next[k]++
	count := s.next[k]
	s.mu.Unlock()
	b := binary.LittleEndian.AppendUint64(nil, count)
	// It fails where the file is there.
	_, _ = p.do(ctx, func() *op.Op {
		return &op.Op{Kind: op.Create, Path: ownFile(k), Dir: s.time(), Attr: op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: unix.S_IFREG | 0o600, Mtime: s.time()}}
	})
	for _, at := range simPlaces {
		if _, err := p.do(ctx, func() *op.Op {
			return &op.Op{Kind: op.Write, Path: ownFile(k), Off: at, Data: b, Attr: op.Attr{Valid: op.AttrMtime, Mtime: s.time()}}
		}); err != nil {
			return
		}
	}
	ack, err := p.do(ctx, func() *op.Op { return &op.Op{Kind: op.Fsync, Path: ownFile(k), Flags: op.Barrier} })
	if err != nil {
		return
	}
	if ack.Wait(ctx) == nil {
		s.acknowledged(p, k, count)
	}
}

// do has the process order an op, which make makes once nothing changes any more.
func (p *simProcess) do(ctx context.Context, make func() *op.Op) (op.Ack, error) {
	p.order.Lock()
	committer := p.commit
	p.order.Unlock()
	if committer == nil {
		return nil, errSimDead
	}
	if err := committer.Admit(ctx); err != nil {
		return nil, err
	}
	p.order.Lock()
	defer p.order.Unlock()
	if p.commit == nil {
		return nil, errSimDead
	}
	o := make()
	return committer.Commit(ctx, o, func() error {
		if o.Kind != op.Fsync {
			return p.n.tree.Apply(o)
		}
		return p.change("fsync", func() error {
			st, err := p.n.tree.Stat(o.Path)
			if err == nil {
				err = p.fault()
			}
			if err == nil && !p.of.lies.Load().fsync {
				p.of.disk.synced(p.of.disk.mark(), st.Ino)
			}
			return err
		})
	})
}

// simOps makes random ops over few names, so that they meet.
type simOps struct {
	*rand.Rand
	sim *simulation
}

// large changes a file of several extents that nothing moves, by one of two names
// that it has at times: it is written in places and from its start anew, so that
// what is recorded of it are parts.
func (r *simOps) large(p *simProcess) *op.Op {
	path := []string{"large", "also"}[r.IntN(2)]
	at := r.Int64N(5)*region.Extent + r.Int64N(3*op.RegionSize)
	switch changed := (op.Attr{Valid: op.AttrMtime, Mtime: r.sim.time()}); r.IntN(16) {
	case 0:
		return &op.Op{Kind: op.Create, Path: path, Attr: r.attr(unix.S_IFREG), Dir: r.sim.time()}
	case 1:
		changed.Valid, changed.Size = changed.Valid|op.AttrSize, at*r.Int64N(2)
		return &op.Op{Kind: op.Truncate, Path: path, Attr: changed}
	case 2:
		return &op.Op{Kind: op.Link, Path: "large", Path2: "also", Dir2: r.sim.time()}
	case 3:
		return &op.Op{Kind: op.Unlink, Path: path, Dir: r.sim.time()}
	case 4, 5:
		return r.allocate(p, path, at)
	default:
		return &op.Op{Kind: op.Write, Path: path, Off: at, Data: binary.LittleEndian.AppendUint64(nil, uint64(changed.Mtime.Sec)), Attr: changed}
	}
}

// allocate makes holes, zeros, or room for data in a file, or takes some out.
func (r *simOps) allocate(p *simProcess, path string, at int64) *op.Op {
	o := &op.Op{
		Kind: op.Fallocate, Path: path, Off: at &^ 4095, Len: 1 + r.off(), Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		Attr: op.Attr{Valid: op.AttrMtime, Mtime: r.sim.time()},
	}
	switch r.IntN(4) {
	case 0:
		o.Arg, o.Len = unix.FALLOC_FL_ZERO_RANGE, min(o.Len, op.RegionSize)
	case 1:
		// Just what can succeed: ext4 moves the mtime before it looks.
		if st, err := p.n.tree.Stat(path); err == nil && o.Off+op.RegionSize < st.Size && st.Size < 64<<20 {
			o.Arg, o.Len = []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[r.IntN(2)], op.RegionSize/2
		}
	}
	return o
}

func (r *simOps) path() string {
	path := string("abcd"[r.IntN(4)])
	for range r.IntN(3) {
		path = op.JoinPath(path, string("abc"[r.IntN(3)]))
	}
	return path
}

func (r *simOps) attr(kind uint32) op.Attr {
	return op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: kind | [...]uint32{0o644, 0o755, 0o600, 0o777}[r.IntN(4)],
		UID: r.Uint32N(3), GID: r.Uint32N(3), Mtime: r.sim.time(),
	}
}

func (r *simOps) off() int64 {
	return r.Int64N([...]int64{100, op.RegionSize, 5 * op.RegionSize, 9 << 20}[r.IntN(4)])
}

func (r *simOps) next(p *simProcess) *op.Op {
	if r.IntN(5) == 0 {
		return r.large(p)
	}
	path, path2 := r.path(), r.path()
	changed := op.Attr{Valid: op.AttrMtime, Mtime: r.sim.time()}
	switch r.IntN(20) {
	case 0, 1, 2:
		return &op.Op{Kind: op.Create, Path: path, Attr: r.attr(unix.S_IFREG), Dir: r.sim.time()}
	case 3, 4:
		return &op.Op{Kind: op.Mkdir, Path: path, Attr: r.attr(unix.S_IFDIR), Dir: r.sim.time()}
	case 5:
		if r.IntN(2) == 0 {
			return &op.Op{Kind: op.Mknod, Path: path, Attr: r.attr(unix.S_IFIFO), Dir: r.sim.time()}
		}
		return &op.Op{Kind: op.Symlink, Path: path, Data: []byte(path2), Attr: r.attr(unix.S_IFLNK), Dir: r.sim.time()}
	case 6, 7:
		return &op.Op{Kind: op.Link, Path: path, Path2: path2, Dir2: r.sim.time()}
	case 8, 9:
		return &op.Op{Kind: []op.Kind{op.Unlink, op.Rmdir}[r.IntN(2)], Path: path, Dir: r.sim.time()}
	case 10, 11:
		return &op.Op{Kind: op.Rename, Path: path, Path2: path2, Dir: r.sim.time(), Dir2: r.sim.time(),
			Arg: [...]uint32{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[r.IntN(4)]}
	case 12, 13, 14:
		data := make([]byte, 1+r.IntN([...]int{10, 5000, 2 * op.RegionSize}[r.IntN(3)]))
		for i := range data {
			data[i] = byte(r.sim.clock.Load() + int64(i>>10))
		}
		return &op.Op{Kind: op.Write, Path: path, Off: r.off(), Data: data, Attr: changed}
	case 15:
		changed.Valid, changed.Size = changed.Valid|op.AttrSize, r.off()
		return &op.Op{Kind: op.Truncate, Path: path, Attr: changed}
	case 16:
		return r.allocate(p, path, r.off())
	case 17:
		from, _, err := p.n.tree.Describe(path)
		if err != nil || from.Attr.Size == 0 || from.Attr.Mode&unix.S_IFMT != unix.S_IFREG || path == path2 {
			return r.next(p)
		}
		off := r.Int64N(from.Attr.Size)
		return &op.Op{Kind: op.CopyRange, Path: path, Path2: path2, Off: off, Off2: r.off(), Len: 1 + r.Int64N(from.Attr.Size-off), Attr: changed}
	case 18:
		put, _, err := p.n.tree.Describe(path)
		if err != nil {
			return r.next(p)
		}
		return &op.Op{Kind: op.SetAttr, Path: path, Attr: r.attr(put.Attr.Mode & unix.S_IFMT)}
	}
	if r.IntN(2) == 0 {
		return &op.Op{Kind: op.RemoveXattr, Path: path, Name: "user.a"}
	}
	return &op.Op{Kind: op.SetXattr, Path: path, Name: []string{"user.a", "user.b", "trusted.c"}[r.IntN(3)], Data: []byte(path2)}
}
