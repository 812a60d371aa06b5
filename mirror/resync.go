package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
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
// digest is ever too old, whatever was renamed meanwhile (RULES.md 16,
// MoveRepeats and HashPosition hold by construction).
//
// (Hashing on the mirror's side at its leisure, with a position sent along, was
// the first design. It needs a rule for every op that moves content, to tell
// when a hash is too old.)
//
// While it lasts the mirror applies leniently: an op that cannot be applied to
// what stands there is skipped and reported as suspect, and its paths become
// pending again.
const (
	// maxWindow bounds the repair bytes that are on their way to one mirror.
	maxWindow = 8 << 20
	// stride is how much of a file is looked at under one hold of its lock.
	stride = 1 << 20
	// levelLag is how close to the end of the ring a mirror must be before
	// calls wait for it.
	levelLag = 1 << 20
	// namesPerOp bounds a PutNames by bytes of names. The mirror lists its
	// directory for each.
	namesPerOp = 1 << 20
)

// window is maxWindow, or less where that would push the mirror off a small
// ring.
func (l *Log) window() uint64 { return min(maxWindow, uint64(l.cfg.RingBytes/4)) }

// resync is one run of it.
type resync struct {
	p     *peer
	log   *Log
	began time.Time
	done  []lookedAt // in the order of their last op: waiting for the mirror's answer
	last  op.LSN     // newest op of this resync
	// compared counts bytes of files; a long hole, which costs nothing, counts as
	// one stride. paced is how many bytes read had been due.
	compared, paced uint64
	// touched holds the files whose data was put. That changed their mtime and
	// took their capabilities, so they are described once more at the end.
	touched map[string]bool
}

// lookedAt is a path for which all has been sent, up to the LSN last.
type lookedAt struct {
	path  string
	marks int
	last  op.LSN
}

// count adds up the size of what will be looked at, for the progress.
func (r *resync) count(ctx context.Context) {
	var total uint64
	err := r.log.cfg.Tree.Walk(func(_ string, put *op.Op, _ tree.Inode) error {
		if put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
			total += uint64(put.Attr.Size)
		}
		return ctx.Err()
	})
	if err != nil {
		return // the tree moved below the walk, or the resync is over: progress without a total
	}
	r.log.mu.Lock()
	if r.p.resync != nil {
		r.p.resync.Total = total
	}
	r.log.mu.Unlock()
}

// run takes answers first and looks at one more path only if there is room on
// the way, until nothing is pending.
func (r *resync) run(ctx context.Context) error {
	for {
		if err := r.answers(ctx); err != nil {
			return err
		}
		r.log.mu.Lock()
		path, marks, more := "", 0, false
		full := r.p.lag() > r.log.window()
		if !full {
			path, marks, more = r.p.pending.next()
		}
		level := r.p.pending.empty() && len(r.p.differ) == 0
		r.progress()
		r.log.mu.Unlock()
		switch {
		case more:
			if err := r.look(ctx, path, marks); err != nil {
				return fmt.Errorf("%q: %w", path, err)
			}
			continue
		case level:
			return nil
		}
		select {
		case <-r.p.news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// progress brings the estimate up to date. The caller holds mu.
func (r *resync) progress() {
	g := r.p.resync
	if s := time.Since(r.began).Seconds(); s > 0 {
		g.Rate = float64(g.Done) / s
	}
	if g.Total > 0 {
		g.Total = max(g.Total, g.Done) // what is written meanwhile comes on top
	}
	g.Left = 0
	if g.Rate > 0 && g.Total > g.Done {
		g.Left = time.Duration(float64(g.Total-g.Done) / g.Rate * float64(time.Second)).Round(time.Second)
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
			if err := r.mend(ctx, string(d.Path), d.Regions); err != nil {
				return fmt.Errorf("%q: %w", d.Path, err)
			}
		}
		n := 0
		for ; n < len(r.done) && r.done[n].last <= applied; n++ {
			if err := r.finish(r.done[n]); err != nil {
				return fmt.Errorf("%q: %w", r.done[n].path, err)
			}
		}
		r.done = r.done[n:]
		if n == 0 && len(differ) == 0 {
			return nil
		}
	}
}

// mend puts regions of a file that differ.
func (r *resync) mend(ctx context.Context, path string, regions []int64) error {
	for i := 0; i < len(regions); {
		off, n := regions[i], int64(op.RegionSize)
		for i++; i < len(regions) && regions[i] == off+n && n < stride; i++ {
			n += op.RegionSize
		}
		if err := r.space(ctx); err != nil {
			return err
		}
		r.touched[path] = true
		err := r.log.source.Hold(path, func() error {
			return r.log.cfg.Tree.PutRange(path, off, n, r.send)
		})
		if err != nil && !moved(err) {
			return err
		}
	}
	return nil
}

// finish ends a path for which every answer has come.
func (r *resync) finish(d lookedAt) error {
	return r.log.source.Hold(d.path, func() error {
		if r.touched[d.path] {
			delete(r.touched, d.path)
			put, _, err := r.log.cfg.Tree.Describe(d.path)
			if err != nil && !moved(err) {
				return err
			}
			if err == nil {
				put.Arg = 0 // its names are settled
				if err := r.send(put); err != nil {
					return err
				}
			}
		}
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		r.p.pending.done(d.path, d.marks)
		r.p.resync.Paths++
		r.p.suspects = 0
		return nil
	})
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
	l := r.log
	l.mu.Lock()
	r.last = l.put(frame, o, r.p.bit)
	r.p.resync.Sent += uint64(len(frame))
	l.mu.Unlock()
	r.p.nudge()
	return nil
}

// look sends all about one path. Children of a directory become pending before
// the directory stops being so, under the same hold.
func (r *resync) look(ctx context.Context, path string, marks int) error {
	var s surface
	err := r.log.source.Hold(path, func() (err error) {
		s, err = r.put(path)
		if err != nil {
			return err
		}
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		for _, e := range s.names {
			r.p.pending.mark(op.JoinPath(path, e.Name), e.Mode&unix.S_IFMT == unix.S_IFDIR)
		}
		if !s.file {
			r.p.pending.done(path, marks)
			r.p.resync.Paths++
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return r.gone(path, marks)
	case err != nil:
		return err
	case !s.file:
		return nil
	}
	if err := r.content(ctx, path); err != nil {
		return err
	}
	r.done = append(r.done, lookedAt{path, marks, r.last})
	return nil
}

// gone handles a pending path that the primary has not: the mirror shall not
// have it either. The parent is held, so that nobody makes the name meanwhile.
func (r *resync) gone(path string, marks int) error {
	dir, name := op.SplitPath(path)
	return r.log.source.Hold(dir, func() error {
		_, _, err := r.log.cfg.Tree.Describe(path)
		switch {
		case err == nil: // it is back: look again
			r.log.mu.Lock()
			defer r.log.mu.Unlock()
			r.p.pending.mark(path, true)
			return nil
		case !moved(err):
			return err
		}
		if _, _, err := r.log.cfg.Tree.Describe(dir); err == nil {
			err := r.send(&op.Op{Kind: op.PutNames, Path: dir, Path2: before(name), Name: name})
			if err != nil {
				return err
			}
		}
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		r.p.pending.done(path, marks)
		return nil
	})
}

// put sends type and metadata of what is at path, and a directory's names.
func (r *resync) put(path string) (surface, error) {
	s, err := r.log.surface(path)
	if err != nil || s.put == nil {
		return s, err
	}
	if s.id.Nlink > 1 && !s.dir {
		// Another name of the same file may be there already.
		id, groups := s.id.Key(), r.p.groups
		for _, other := range groups[id] {
			if _, now, err := r.log.cfg.Tree.Describe(other); other != path && err == nil && now.Key() == id {
				if err := r.send(&op.Op{Kind: op.PutLink, Path: other, Path2: path}); err != nil {
					return s, err
				}
				return s, r.send(s.put)
			}
		}
		// The first one: a new inode on the mirror, so that no name there that
		// is of another file here stays tied to it.
		if len(groups[id]) == 0 {
			s.put.Flags |= op.Fresh
		}
		groups[id] = append(groups[id], path)
	}
	if err := r.send(s.put); err != nil {
		return s, err
	}
	return s, s.eachNames(path, 0, r.send)
}

// content sends digests of a file's data, or, to a mirror that began with
// nothing, the data.
func (r *resync) content(ctx context.Context, path string) error {
	for off := int64(0); ; {
		if err := r.room(ctx); err != nil {
			return err
		}
		from := off
		err := r.log.source.Hold(path, func() (err error) {
			if r.p.fresh {
				r.touched[path] = true
				off, err = r.log.fill(path, off, r.send)
			} else {
				off, err = r.log.digest(path, off, 0, r.send)
			}
			return err
		})
		if err != nil && !moved(err) {
			return err
		}
		if !r.p.fresh {
			r.compared += uint64(min(off-from, stride))
		}
		r.log.mu.Lock()
		r.p.resync.Done += uint64(off - from)
		r.progress()
		r.log.mu.Unlock()
		if off-from < stride {
			return nil
		}
	}
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
	return r.p.await(ctx, func() bool { return r.p.lag() <= r.log.window() })
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
