// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/fs/op"
)

// simPiece is what a client wrote at one of its places. No count is drawn twice,
// so it tells where it is from.
type simPiece struct {
	client, place int
	count         uint64
}

func (c simPiece) String() string {
	return fmt.Sprintf("%d at %d of %s", c.count, simPlaces[c.place], ownFile(c.client))
}

// piecesOf reads those of one client; a zero is none.
func piecesOf(replica string, client int) (all [len(simPlaces)]simPiece) {
	for i := range all {
		all[i] = simPiece{client: client, place: i}
	}
	f, err := os.Open(filepath.Join(replica, ownFile(client)))
	if err != nil {
		return all // not made yet
	}
	defer f.Close()
	for i, at := range simPlaces {
		all[i].count = countAt(f, at)
	}
	return all
}

// countAt reads a count; where the file has ended it is 0.
func countAt(f io.ReaderAt, at int64) uint64 {
	var b [8]byte
	_, _ = f.ReadAt(b[:], at)
	return binary.LittleEndian.Uint64(b[:])
}

// simHistory knows of every piece which node ordered it in which reign, which
// reigns have had it, and up to where they have acknowledged the pieces that
// were theirs. It is what I5 is judged by: nothing that a node ordered itself, or
// that was acknowledged, is taken from it by a reign that never had it, unless the
// node keeps it. The simulation's mutex guards it.
type simHistory struct {
	by    map[simPiece]simOrder
	had   map[op.Epoch]map[simPiece]bool
	acked map[op.Epoch]simCounts
	taken int // pieces that had to be kept, and were
}

type simOrder struct {
	by    *simNode
	epoch op.Epoch
}

func newSimHistory() simHistory {
	return simHistory{make(map[simPiece]simOrder), make(map[op.Epoch]map[simPiece]bool), make(map[op.Epoch]simCounts), 0}
}

// beginsWith takes down what p begins its reign with. In its later lines it has had
// that, too.
func (s *simulation) beginsWith(p *simProcess) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history.had[p.epoch] != nil {
		return
	}
	had := make(map[simPiece]bool)
	for k := range simClients {
		for _, piece := range piecesOf(p.of.disk.replica, k) {
			had[piece] = true
		}
	}
	s.history.had[p.epoch] = had
}

// watch looks at the pieces that an op changes, from now until its end is called.
// It is not for those who hold the gate: who holds the state may wait for that.
func (p *simProcess) watch(o *op.Op) (end func()) {
	var before []simPiece
	for k := range simClients {
		if own := ownFile(k); o.Path == own || o.Path2 == own || o.Path == op.Root {
			all := piecesOf(p.of.disk.replica, k)
			before = append(before, all[:]...)
		}
	}
	if len(before) == 0 {
		return func() {}
	}
	if p.of.lies.Load().unarchived {
		if err := os.RemoveAll(filepath.Join(p.n.store.Dir(), "divergence")); err != nil {
			p.of.sim.fail("%v", err)
		}
	}
	epoch := p.n.store.Get().Epoch
	return func() {
		for i, was := range before {
			is := piecesOf(p.of.disk.replica, was.client)[i%len(simPlaces)]
			switch {
			case is == was:
			case p.strict.Load():
				p.ordered(is)
			case was.count > 0:
				p.took(o, was, epoch)
			}
		}
	}
}

// ordered takes down that p, which reigns, has ordered a piece.
func (p *simProcess) ordered(piece simPiece) {
	s := p.of.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.by[piece] = simOrder{p.of, p.epoch}
	s.history.had[p.epoch][piece] = true
}

// took checks a piece that an op has taken from a mirror (I5).
func (p *simProcess) took(o *op.Op, piece simPiece, epoch op.Epoch) {
	s := p.of.sim
	s.mu.Lock()
	had, from := s.history.had[epoch], s.history.by[piece]
	must := had != nil && !had[piece] && (from.by == p.of || s.history.acked[from.epoch][piece.client] >= piece.count)
	s.mu.Unlock()
	if !must {
		return
	}
	switch kept, err := keeps(p.n.store.Dir(), piece); {
	case err != nil:
		s.fail("%s: %v", p.of.name, err)
	case !kept:
		s.fail("%s has lost %v by %v: epoch %s had ordered it, epoch %s never had it, and it is not kept", p.of.name, piece, o, from.epoch, epoch)
	default:
		s.mu.Lock()
		s.history.taken++
		s.mu.Unlock()
	}
}

// keeps reports whether a node keeps a piece among its divergences. Of bytes that
// one of these has twice the first are what it says was there.
func keeps(stateDir string, piece simPiece) (bool, error) {
	all, err := divergence.List(stateDir)
	if err != nil {
		return false, err
	}
	at := simPlaces[piece.place]
	for _, a := range all {
		data, err := os.Open(filepath.Join(stateDir, "divergence", a.ID, "data"))
		if err != nil {
			return false, err
		}
		defer data.Close()
		for _, r := range a.Objects {
			first := slices.IndexFunc(r.Ranges, func(s divergence.Stored) bool { return s.Off <= at && at+8 <= s.Off+s.Len })
			if first < 0 || r.Ranges[first].Hole || !slices.Contains(r.Paths, divergence.Path(ownFile(piece.client))) {
				continue
			}
			if s := r.Ranges[first]; countAt(data, s.At+at-s.Off) == piece.count {
				return true, nil
			}
		}
	}
	return false, nil
}
