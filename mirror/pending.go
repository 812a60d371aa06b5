package mirror

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// pending says what of one mirror a resync still has to look at. Outside of it
// the mirror equals the primary, at the position up to which it has applied the
// stream. It is pure bookkeeping: the log's lock guards it, and it is told of
// every op that is ordered, in order.
//
// A name that takes content from a pending one becomes pending itself, whether
// by rename (RULES.md 16, MoveMarks), link or copy (RULES.md 16, CopyMarks: the
// copy travels and its target is looked at again). It does so whole, whatever
// part of the other was pending.
type pending struct {
	items map[string]*item
	queue []string // paths to begin with; may name some that are gone from items
	wide  int      // items that stand for more than their own path
	holes int      // items that want holes, and these have not been sent
	// below counts the items under each directory, so that a rename need not
	// look at all of them.
	below map[string]int
}

// item is one pending path. It stays one until all of it has been looked at and
// the mirror has answered; what is marked meanwhile is looked at by itself.
// Its marks tell whether there was any (RULES.md 16, MarkedAgain).
type item struct {
	all    want // what is pending
	todo   want // the part of it that has yet to be looked at
	queued bool
	marks  int
	// holesSent: where the holes are has been sent since they were last wanted.
	holesSent bool
}

// want says what of an object has to be looked at. Its attributes always have.
type want struct {
	whole bool         // everything: its data, its names, and all below it
	scope region.Scope // Entries or Children, if it is a directory
	data  []span       // of a file: sorted, apart, never changed
	holes bool         // of a file: where its holes are, by regions
}

// wide reports whether a want goes beyond its own path.
func (w want) wide() bool { return w.whole || w.scope != region.Object }

// and returns what both want.
func (w want) and(v want) want {
	return want{w.whole || v.whole, max(w.scope, v.scope), union(w.data, v.data), w.holes || v.holes}
}

// spans are the ranges of a file's data that are wanted.
func (w want) spans() []span {
	if w.whole {
		return []span{{0, region.End}}
	}
	return w.data
}

// wanted is what marks of one path ask for.
func wanted(marks ...region.Mark) want {
	if half := len(marks) / 2; half > 0 {
		return wanted(marks[:half]...).and(wanted(marks[half:]...))
	}
	switch m := marks[0]; {
	case m.Scope == region.Tree:
		return want{whole: true}
	case m.Scope != region.Object:
		return want{scope: m.Scope}
	case m.From < m.To:
		return want{data: []span{aligned(m.From, m.To)}}
	}
	return want{}
}

// span is a range of a file, from a region's beginning to a region's end or
// region.End.
type span struct{ from, to int64 }

// aligned is the span of whole regions that holds [from, to).
func aligned(from, to int64) span {
	s := span{from / op.RegionSize * op.RegionSize, region.End}
	if to <= region.End-op.RegionSize {
		s.to = (to + op.RegionSize - 1) / op.RegionSize * op.RegionSize
	}
	return s
}

// union returns the spans of both, sorted, with those that touch made one.
func union(a, b []span) []span {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	merged := make([]span, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		next := &a
		if len(a) == 0 || len(b) > 0 && b[0].from < a[0].from {
			next = &b
		}
		s := (*next)[0]
		*next = (*next)[1:]
		if last := len(merged) - 1; last >= 0 && s.from <= merged[last].to {
			merged[last].to = max(merged[last].to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// task is a pending path on its way to be looked at.
type task struct {
	path string
	want
	marks int
}

func newPending() *pending {
	return &pending{items: make(map[string]*item), below: make(map[string]int)}
}

// mark makes path pending, whole, with all below it.
func (p *pending) mark(path string) { p.add(region.Mark{Path: path, Scope: region.Tree}) }

// add makes regions pending. Those of one path are one step if they follow each
// other: a file may have thousands.
func (p *pending) add(marks ...region.Mark) {
	for len(marks) > 0 {
		n := 1
		for n < len(marks) && marks[n].Path == marks[0].Path {
			n++
		}
		p.want(marks[0].Path, wanted(marks[:n]...))
		marks = marks[n:]
	}
}

// want makes what w wants of path pending.
func (p *pending) want(path string, w want) {
	i := p.items[path]
	if i == nil {
		i = &item{}
		p.items[path] = i
		p.count(path, 1)
	}
	if w.wide() && !i.all.wide() {
		p.wide++
	}
	if w.holes && (!i.all.holes || i.holesSent) {
		p.holes++
		i.holesSent = false
	}
	i.all, i.todo = i.all.and(w), i.todo.and(w)
	p.enqueue(path, i)
}

// begin makes what w wants of path pending, and is next for it. What was queued
// of it goes on: that this task is done does not end it.
func (p *pending) begin(path string, w want) task {
	queued, todo := false, want{}
	if i := p.items[path]; i != nil {
		queued, todo = i.queued, i.todo
	}
	p.want(path, w)
	i := p.items[path]
	i.queued, i.todo = queued, todo
	if queued {
		return task{path, w, 0}
	}
	return task{path, w, i.marks}
}

func (p *pending) enqueue(path string, i *item) {
	i.marks++
	if !i.queued {
		i.queued = true
		p.queue = append(p.queue, path)
	}
}

// next takes a path off the queue. It stays pending until done is called with
// the same task. The newest comes first, so that a walk is depth first and the
// queue stays as long as the directories on the way are wide. But a directory
// comes before all in it, whatever is newer: where the mirror lacks it nothing can
// be put, all that is reported is newer still, and it would never be its turn.
func (p *pending) next() (t task, ok bool) {
	for len(p.queue) > 0 {
		path := p.queue[len(p.queue)-1]
		if i := p.items[path]; i == nil || !i.queued {
			p.queue = p.queue[:len(p.queue)-1]
			continue
		}
		for dir := path; dir != op.Root; {
			dir, _ = op.SplitPath(dir)
			if i := p.items[dir]; i != nil && i.queued {
				path = dir // its own place in the queue is passed over later
			}
		}
		i := p.items[path]
		t = task{path, i.todo, i.marks}
		i.queued, i.todo = false, want{}
		return t, true
	}
	return task{}, false
}

// requeue makes all that is pending be looked at again.
func (p *pending) requeue() {
	for path, i := range p.items {
		if i.todo = i.all; i.holesSent {
			p.holes++
			i.holesSent = false
		}
		p.enqueue(path, i)
	}
}

// done says that the path is level, unless it was marked again since next.
func (p *pending) done(t task) {
	if i := p.items[t.path]; i != nil && i.marks == t.marks {
		p.remove(t.path, i)
	}
}

func (p *pending) remove(path string, i *item) {
	if i.all.wide() {
		p.wide--
	}
	if i.all.holes && !i.holesSent {
		p.holes--
	}
	delete(p.items, path)
	p.count(path, -1)
}

// count adds n to the items below every directory on the way to path.
func (p *pending) count(path string, n int) {
	for path != op.Root {
		path, _ = op.SplitPath(path)
		if p.below[path] += n; p.below[path] == 0 {
			delete(p.below, path)
		}
	}
}

// empty reports whether the mirror is level.
func (p *pending) empty() bool { return len(p.items) == 0 }

// covers reports whether anything of path is pending: by itself, as the child
// of a directory whose entries are, or by an ancestor that is whole.
func (p *pending) covers(path string) bool {
	if len(p.items) == 0 {
		return false
	}
	if p.items[path] != nil {
		return true
	}
	for child := true; p.wide > 0 && path != op.Root; child = false {
		path, _ = op.SplitPath(path)
		if i := p.items[path]; i != nil && (i.all.whole || child && i.all.wide()) {
			return true
		}
	}
	return false
}

// touches reports whether path or anything below it is pending.
func (p *pending) touches(path string) bool { return p.covers(path) || p.below[path] > 0 }

// follow carries the marks along with an op that was ordered just now.
func (p *pending) follow(o *op.Op) {
	if len(p.items) == 0 {
		return
	}
	switch o.Kind {
	case op.Rename:
		exchange := o.Arg&unix.RENAME_EXCHANGE != 0
		from := p.touches(o.Path)
		to := exchange && p.touches(o.Path2)
		if from || to {
			p.mark(o.Path2)
			p.mark(o.Path)
		}
	case op.Link:
		// Both, so that they are looked at as names of one file.
		if p.covers(o.Path) || p.covers(o.Path2) {
			p.mark(o.Path)
			p.mark(o.Path2)
		}
	case op.CopyRange:
		if p.covers(o.Path) {
			p.mark(o.Path2)
		}
	case op.Fallocate:
		if shifts(o) && p.covers(o.Path) {
			p.want(o.Path, shifted(o))
		}
	}
	if path, w := filled(o); path != "" {
		p.fill(path, w)
	}
}

// filled is which range of which file o writes; "" if it writes none that has a
// name.
func filled(o *op.Op) (path string, w want) {
	path, off, n := o.Path, o.Off, o.Len
	switch o.Kind {
	case op.Write:
		n = int64(len(o.Data))
	case op.Fallocate:
	case op.CopyRange:
		path, off = o.Path2, o.Off2
	default:
		return "", want{}
	}
	return path, want{data: []span{aligned(off, off+n)}}
}

// fill makes a range pending that is written into a file of which just the holes
// are, or that may come to be so when the mirror has answered about its
// directory: what was a region without data is not one any more, and what the
// mirror has around the range is not known.
func (p *pending) fill(path string, w want) {
	dir, _ := op.SplitPath(path)
	i, d := p.items[path], p.items[dir]
	switch {
	case d != nil && d.all.wide(), i != nil && i.all.holes && !i.holesSent:
		p.want(path, w)
	case i != nil && i.all.holes:
		// What was compared is equal but for what the mirror has yet to say. Should
		// the session break before, it is wanted.
		i.all = i.all.and(w)
	}
}

// sentHoles says that where the holes of a file are has been sent. Who writes to
// it all the time would otherwise keep it pending for ever.
func (p *pending) sentHoles(path string) {
	if i := p.items[path]; i != nil && i.all.holes && !i.todo.holes && !i.holesSent {
		p.holes--
		i.holesSent = true
	}
}

// fills reports whether the range of a write may have to become pending: see
// fill.
func (p *pending) fills() bool { return p.wide > 0 || p.holes > 0 }

// shifts reports whether o moves all data behind its place: what is not level
// there does not stay in the ranges that are pending (RULES.md 16, MoveMarks).
func shifts(o *op.Op) bool {
	return o.Kind == op.Fallocate && o.Arg&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0
}

// shifted is what has to be looked at after that.
func shifted(o *op.Op) want { return want{data: []span{aligned(o.Off, region.End)}} }
