package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// What was renamed while a mirror was away is pending under both names, whole,
// and the mirror has it under the old one: it would get all of it anew. So the
// renames are remembered (region.Move), and before a resync compares anything it
// replays them on the mirror, as hints. What they have moved is then compared where
// it belongs now, and only what differs travels.
//
// Nothing rests on a hint. It changes what stands at two paths of the mirror, and
// all below them. Both are pending whole from its position on, as after a rename
// of a pending name (RULES.md 16, MoveMarks), so it does not matter what it did,
// nor whether it came late, twice or at all. What is not pending it must not
// touch: there the mirror is equal. For this
//
//   - it is sent only if both paths are pending already;
//   - the mirror makes no rename of what has names elsewhere (fs/tree/hint.go).
//     Such a name may be level, and what is written to the file that the primary
//     has at the new path would go to it, too;
//   - a directory that the mirror lacks on the way is put as by any resync: if it
//     was made, the mirror reports so, and all of it is pending.
//
// A mirror that keeps what only it may have (RULES.md 9, Archive) takes no hints.

// remember takes down a rename for the nodes that miss it, or may. The caller
// holds the locks under which it was made.
func (l *Log) remember(o *op.Op) {
	if o.Kind != op.Rename || l.cfg.Regions == nil || !l.travels(o.Path) || !l.travels(o.Path2) {
		return
	}
	m := region.Move{Path: o.Path, Path2: o.Path2, Exchange: o.Arg&unix.RENAME_EXCHANGE != 0}
	if !l.worthHint(o.Path2) && !(m.Exchange && l.worthHint(o.Path)) {
		return
	}
	l.mu.Lock()
	m.At = op.Position{Line: l.cfg.Line, LSN: l.ring.next - 1}
	var here []op.NodeID
	for _, p := range l.peers {
		if p.streams {
			here = append(here, p.node)
			if len(p.unproven) < maxUnproven {
				p.unproven = append(p.unproven, m)
			}
		}
	}
	l.mu.Unlock()
	away := slices.DeleteFunc(l.cfg.Regions.Nodes(), func(n op.NodeID) bool { return slices.Contains(here, n) })
	l.cfg.Regions.Moved(away, m)
}

// maxUnproven bounds the renames that are on their way to one mirror.
const maxUnproven = 512

// worthHint reports whether to send what is at path anew would cost more than a
// hint. A file with other names is none for a hint.
func (l *Log) worthHint(path string) bool {
	st, err := l.cfg.Tree.Stat(path)
	if err != nil {
		return false
	}
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFDIR || kind == unix.S_IFREG && st.Size > op.RegionSize && st.Nlink == 1
}

// meets says that what is ordered from now on reaches the mirror by the stream,
// as does all that it has not acknowledged. The caller holds mu.
func (p *peer) meets() {
	p.streams = true
	if p.log.cfg.Regions != nil {
		p.log.cfg.Regions.Made(p.node, func(m region.Move) bool { return m.At.Line == p.log.cfg.Line && m.At.LSN > p.applied })
	}
}

// parts says that this has ended. What was on its way may not have arrived.
func (p *peer) parts() {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	p.streams = false
	for _, m := range p.unproven {
		p.log.cfg.Regions.Moved([]op.NodeID{p.node}, m)
	}
	p.unproven = nil
}

// proven drops the renames that the mirror has acknowledged. The caller holds mu.
func (p *peer) proven() {
	for len(p.unproven) > 0 && p.unproven[0].At.LSN <= p.applied {
		p.unproven = p.unproven[1:]
	}
}

// replay sends the renames that the mirror has missed, once, and returns when it
// has made them.
func (r *resync) replay(ctx context.Context) error {
	p, l := r.p, r.log
	l.mu.Lock()
	due, node := p.hints, p.node
	p.hints = false
	l.mu.Unlock()
	if !due {
		return nil
	}
	missed := l.cfg.Regions.Moves(node)
	for _, m := range missed {
		// Those of an earlier reign of this node's may have been made since.
		if m.At.Line.Epoch != l.cfg.Line.Epoch || !l.travels(m.Path) || !l.travels(m.Path2) {
			continue
		}
		if err := r.space(ctx); err != nil {
			return err
		}
		if err := r.putAbove(m.Path2); err != nil {
			return fmt.Errorf("%q: %w", m.Path2, err)
		}
		if err := r.hint(m); err != nil {
			return err
		}
	}
	last := r.last
	if err := p.await(ctx, func() bool { return p.applied >= last }); err != nil {
		return err
	}
	signal(p.news) // what woke it may be an answer as well
	l.cfg.Regions.Made(node, func(m region.Move) bool { return slices.Contains(missed, m) })
	return nil
}

// hint sends one, if both of its paths are pending. It makes them so as a whole
// at its own position.
func (r *resync) hint(m region.Move) error {
	o := &op.Op{Kind: op.Hint, Path: m.Path, Path2: m.Path2}
	if m.Exchange {
		o.Arg = unix.RENAME_EXCHANGE
	}
	frame, err := r.log.encode(o)
	if err != nil {
		return err
	}
	p, l := r.p, r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.pending.covers(m.Path) || !p.pending.covers(m.Path2) {
		return nil
	}
	p.pending.mark(m.Path)
	p.pending.mark(m.Path2)
	r.sendLocked(frame, o)
	return nil
}

// putAbove puts the directories above path that the mirror may lack.
func (r *resync) putAbove(path string) error {
	var above []string
	for dir, _ := op.SplitPath(path); dir != op.Root; dir, _ = op.SplitPath(dir) {
		above = append(above, dir)
	}
	for _, dir := range slices.Backward(above) {
		err := r.log.source.Hold(dir, func() error {
			s, err := r.log.surface(dir)
			if err != nil || s.put == nil || !s.dir {
				return err
			}
			r.log.mu.Lock()
			covered := r.p.pending.covers(dir)
			var t task
			if covered {
				t = r.p.pending.begin(dir, want{})
			}
			r.log.mu.Unlock()
			if !covered {
				return nil
			}
			s.put.Flags |= op.Partial
			if err := r.send(s.put); err != nil {
				return err
			}
			r.done = append(r.done, lookedAt{t, r.last})
			return nil
		})
		if err != nil && !moved(err) {
			return err
		}
	}
	return nil
}
