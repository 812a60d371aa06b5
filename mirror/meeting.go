package mirror

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// compareNotes finds out by the numbers of the last meeting whether either side has
// gone back to an older state, of a backup or a copy. Who was the mirror has recorded
// a number before the other one did, so the two differ by one at most.
//
// A mirror that has gone back, which is reported, lacks what is in no record: it is
// compared as a whole. A primary that has may lack what was acknowledged, and brings
// nobody level with that in its reign. In another one, which it began as it is, the
// mirror is compared as a whole, too.
func (p *peer) compareNotes(a *wire.Answer) (restored bool, err error) {
	l := p.log
	if l.cfg.Meetings == nil {
		return false, nil
	}
	mine := l.cfg.Meetings.Met(a.Node)
	switch {
	case a.Met+1 < mine:
		l.event("restored", fmt.Sprintf("the state of %s is older than it was: it was restored from a backup, or is a copy, and is compared in full", a.Name))
		return true, nil
	case a.Met <= mine+1:
		return false, nil
	case a.Epoch == l.cfg.Line.Epoch:
		return false, fmt.Errorf("%s has met this node since its state was recorded: it was restored from a backup, or is a copy, and may lack what %s has; to go on with what is there, stop this node, promote %s and start this one as its mirror; to give that up, stop %s and run `standbyfs state reset --force` on it",
			a.Name, a.Name, a.Name, a.Name)
	}
	if l.cfg.Regions == nil {
		return false, nil
	}
	return false, l.cfg.Regions.Lacks(a.Node, []region.Mark{region.Everything})
}

// meeting records the number of this meeting, when the mirror has. If that fails less
// is found out later.
func (p *peer) meeting(n op.NodeID, number uint64) {
	l := p.log
	if l.cfg.Meetings == nil || number <= l.met(n) {
		return
	}
	if err := l.cfg.Meetings.Meet(n, number); err != nil {
		l.cfg.Logger.Warn("the meeting with a mirror is not recorded", "mirror", p.cfg.Addr, "error", err)
	}
}

// met returns the number of the last recorded meeting with a node.
func (l *Log) met(n op.NodeID) uint64 {
	if l.cfg.Meetings == nil {
		return 0
	}
	return l.cfg.Meetings.Met(n)
}
