package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sys/unix"
)

// A resync makes one mirror equal to the primary while ops go on. All that it
// sends takes its place in the one order of ops, addressed to that mirror
// alone, and is read under the lock that orders changes of the object (RULES.md
// 16, PutInOrder):
//
//   - What is small is put: type, owner, mode, times, xattrs, link text, the
//     names of a directory. The mirror makes it so.
//   - What is large is checked: the primary sends digests of a file's regions,
//     the mirror compares when it applies that op, at just that position, and
//     reports the regions that differ. These are then put.
//
// Since a comparison is an op, it has a position, and 'equal' at a position
// means equal ever after: the ops behind it are the same on both sides. So no
// digest is ever too old, whatever was renamed meanwhile.
//
// (Hashing on the mirror's side at its leisure, with a position sent along, was
// the first design. It needs a rule for every op that moves content, to tell
// when a hash is too old.)
//
// While it lasts the mirror applies leniently: an op that cannot be applied to
// what stands there is skipped and reported as suspect, and its paths become
// pending again.
const (
	// maxWindow bounds the work that is on its way to one mirror: see flight.
	maxWindow = 8 << 20
	// maxStride bounds how much of a file is looked at under one hold of its lock.
	maxStride = 1 << 20
	// namesPerOp bounds a PutNames by bytes of names. The mirror lists its
	// directory for each.
	namesPerOp = 1 << 20
)

// window is maxWindow, or less where that would push the mirror off a small
// ring.
func (l *Log) window() int64 { return min(maxWindow, l.cfg.RingBytes/4) }

// stride is maxStride, or less where what comes on top of the window would push
// the mirror off a small ring: it would be compared anew, and fall off again.
func (l *Log) stride() int64 {
	return min(maxStride, l.cfg.RingBytes/8/op.RegionSize*op.RegionSize)
}

// resync is one run of it.
type resync struct {
	p     *peer
	log   *Log
	began time.Time
	// From pending a path goes to done, with all of it sent, and from there it is
	// finished by the mirror's answer. But a part of a file goes to puts before,
	// and a file with several names to links.
	done  []lookedAt // in the order of their last op
	last  op.LSN     // newest op of this resync
	links links      // they come last, when nothing else is pending
	// puts are tasks of which a part was put, in the order of their last op: their
	// data comes when the mirror has answered that it could keep what it has.
	// Otherwise it would be sent twice, since all of it is pending then.
	puts  []half
	ready []half // those answered
	// compared counts bytes of files; a long hole, which costs nothing, counts as
	// one stride. paced is how many bytes read had been due.
	compared, paced uint64
}

// lookedAt is a task for which all has been sent, up to the LSN last.
type lookedAt struct {
	task
	last op.LSN
}

// run replays what the mirror has missed of renames. Then it takes answers first
// and looks at one more path only if there is room on the way, until nothing is
// pending.
func (r *resync) run(ctx context.Context) error {
	if err := r.replay(ctx); err != nil {
		return fmt.Errorf("hints of renames: %w", err)
	}
	for {
		if err := r.answers(ctx); err != nil {
			return err
		}
		r.log.mu.Lock()
		var t task
		more := false
		data := len(r.ready) > 0
		clear, room := r.p.clear(), r.log.room
		if clear && !data {
			t, more = r.p.pending.next()
		}
		level := r.p.pending.empty() && len(r.p.differ) == 0 && len(r.done) == 0
		r.progress()
		r.log.mu.Unlock()
		switch {
		case clear && data:
			h := r.ready[0]
			r.ready = r.ready[1:]
			if err := r.lookAtData(ctx, h); err != nil {
				return fmt.Errorf("%q: %w", h.tasks[0].path, err)
			}
			continue
		case more:
			if err := r.look(ctx, t); err != nil {
				return fmt.Errorf("%q: %w", t.path, err)
			}
			continue
		case level:
			return nil
		case clear && len(r.links.waiting) > 0:
			if err := r.lookAtLinks(ctx); err != nil {
				return err
			}
			continue
		}
		select {
		case <-r.p.news:
		case <-room: // another peer may have stood in the way
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answers puts the regions that the mirror reported and ends what it answered
// in full. Reports come before the ack that covers them.
func (r *resync) answers(ctx context.Context) error {
	p, l := r.p, r.log
	for {
		l.mu.Lock()
		differ, applied := p.differ, p.applied
		p.differ = nil
		l.mu.Unlock()
		for _, d := range differ {
			if d.Kind == wire.ReportNew {
				r.remade(d.LSN)
			} else if err := r.putRegions(ctx, string(d.Path), d.Regions); err != nil {
				return fmt.Errorf("%q: %w", d.Path, err)
			}
		}
		n := 0
		for ; n < len(r.done) && r.done[n].last <= applied; n++ {
			r.finish(r.done[n].task)
		}
		r.done = r.done[n:]
		for len(r.puts) > 0 && r.puts[0].last <= applied {
			r.ready = append(r.ready, r.puts[0])
			r.puts = r.puts[1:]
		}
		if n == 0 && len(differ) == 0 {
			return nil
		}
	}
}

// want makes what w wants of paths pending.
func (r *resync) want(w want, paths ...string) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for _, path := range paths {
		r.p.pending.want(path, w)
	}
}

// finish ends a task for which every answer has come.
func (r *resync) finish(t task) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.p.pending.done(t)
	r.p.resync.Paths++
	r.p.suspects = 0
}

// moved reports whether err says that the path is not what it was when it was
// marked. What made it so is in the stream, and marked what it had to.
func moved(err error) bool {
	for _, e := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENXIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// send orders one op for this mirror alone.
func (r *resync) send(o *op.Op) error {
	frame, err := r.log.encode(o)
	if err != nil {
		return err
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.sendLocked(frame, o)
	return nil
}

// sendLocked is send for a caller that holds mu.
func (r *resync) sendLocked(frame []byte, o *op.Op) {
	r.last = r.log.put(frame, o, r.p.bit)
	r.p.resync.Sent += uint64(len(frame))
	r.p.nudge()
}

// look sends what a task wants. It is done when the mirror has answered.
// Children of a directory become pending under the same hold under which its
// names are put.
func (r *resync) look(ctx context.Context, t task) error {
	var s surface
	var small []tree.Entry
	err := r.log.source.Hold(t.path, func() (err error) {
		if s, err = r.put(t); err != nil {
			return err
		}
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		for _, e := range s.names {
			if w, alone := t.child(e, r.p.fresh); alone {
				r.p.pending.want(op.JoinPath(t.path, e.Name), w)
			} else {
				small = append(small, e)
			}
		}
		return nil
	})
	switch {
	case s.waits:
		r.links.wait(t, s.id)
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		err = r.gone(t)
	case err == nil && s.file && t.whole:
		err = r.content(ctx, t, r.p.fresh)
	case err == nil && s.file:
		r.puts = append(r.puts, half{tasks: []task{t}, last: r.last})
		return nil
	case err == nil:
		err = r.survey(ctx, t, small)
	}
	if err != nil {
		return err
	}
	r.done = append(r.done, lookedAt{t, r.last})
	return nil
}

// gone handles a pending path that the primary has not: the mirror shall not
// have it either. The parent is held, so that nobody makes the name meanwhile.
func (r *resync) gone(t task) error {
	dir, name := op.SplitPath(t.path)
	return r.log.source.Hold(dir, func() error {
		_, _, err := r.log.cfg.Tree.Describe(t.path)
		switch {
		case err == nil: // it is back: look again
			r.want(want{whole: true}, t.path)
			return nil
		case !moved(err):
			return err
		}
		if _, _, err := r.log.cfg.Tree.Describe(dir); moved(err) {
			r.want(want{}, dir) // then it is that which is gone
			return nil
		} else if err != nil {
			return err
		}
		return r.send(&op.Op{Kind: op.PutNames, Path: dir, Path2: before(name), Name: name})
	})
}

// put sends type and metadata of what is at a path, and a directory's names if
// they are wanted.
func (r *resync) put(t task) (surface, error) {
	s, err := r.log.surface(t.path)
	if err != nil || s.put == nil {
		return s, err
	}
	if !t.whole {
		s.put.Flags |= op.Partial
	}
	if s.id.Nlink > 1 && !s.dir {
		s.waits = true
		return s, nil
	}
	if err := r.send(s.put); err != nil || !s.dir || !t.wide() {
		return s, err
	}
	if err := s.list(r.log, t.path); err != nil {
		return s, err
	}
	return s, s.eachNames(t.path, 0, r.send)
}

// room handles the mirror's answers and waits until it has taken most of what
// was sent.
func (r *resync) room(ctx context.Context) error {
	if err := r.answers(ctx); err != nil {
		return err
	}
	return r.space(ctx)
}

// space waits until what was read so far was due and the mirror has taken most
// of what was sent.
func (r *resync) space(ctx context.Context) error {
	if err := r.log.resyncPace.take(ctx, r.unpaced()); err != nil {
		return err
	}
	// What woke it may be an answer as well: whoever looks for one must see it.
	defer signal(r.p.news)
	for {
		r.log.mu.Lock()
		clear, room := r.p.clear(), r.log.room
		r.log.mu.Unlock()
		if clear {
			return nil
		}
		select {
		case <-r.p.news: // it goes on after a pause
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unpaced returns how many bytes were read since it was last called: what was
// compared, and what was put.
func (r *resync) unpaced() int64 {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	read := r.p.resync.Sent + r.compared
	n := read - r.paced
	r.paced = read
	return int64(n)
}
