package mirror

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// pending says which paths of one mirror a resync still has to look at. Outside
// of it the mirror equals the primary, at the position up to which it has
// applied the stream. It is pure bookkeeping: the log's lock guards it, and it
// is told of every op that is ordered, in order.
//
// A name that takes content from a pending one becomes pending itself, whether
// by rename (RULES.md 16, MoveMarks), link or copy (16, CopyAsData, in the form
// that the copy travels and its target is looked at again).
type pending struct {
	items map[string]*item
	queue []string // paths to begin with; may name some that are gone from items
	trees int      // items that stand for all below them
	// below counts the items under each directory, so that a rename need not
	// look at all of them.
	below map[string]int
}

// item is one pending path. Its generation tells whether it was marked again
// while it was being looked at.
type item struct {
	tree   bool // it and all below it
	queued bool
	marks  int
}

func newPending() *pending {
	return &pending{items: make(map[string]*item), below: make(map[string]int)}
}

// mark makes path pending, with all below it if tree is set.
func (p *pending) mark(path string, tree bool) {
	i := p.items[path]
	if i == nil {
		i = &item{}
		p.items[path] = i
		p.count(path, 1)
	}
	if tree && !i.tree {
		i.tree = true
		p.trees++
	}
	i.marks++
	if !i.queued {
		i.queued = true
		p.queue = append(p.queue, path)
	}
}

// next takes a path off the queue. It stays pending until done is called with
// the same marks. The newest comes first, so that a walk is depth first and the
// queue stays as long as the directories on the way are wide.
func (p *pending) next() (path string, marks int, ok bool) {
	for len(p.queue) > 0 {
		path = p.queue[len(p.queue)-1]
		p.queue = p.queue[:len(p.queue)-1]
		if i := p.items[path]; i != nil && i.queued {
			i.queued = false
			return path, i.marks, true
		}
	}
	return "", 0, false
}

// requeue makes every pending path be looked at again.
func (p *pending) requeue() {
	for path, i := range p.items {
		p.mark(path, i.tree)
	}
}

// done says that path is level, unless it was marked again since next.
func (p *pending) done(path string, marks int) {
	if i := p.items[path]; i != nil && i.marks == marks {
		p.remove(path, i)
	}
}

func (p *pending) remove(path string, i *item) {
	if i.tree {
		p.trees--
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

// covers reports whether path is pending, by itself or by an ancestor.
func (p *pending) covers(path string) bool {
	if len(p.items) == 0 {
		return false
	}
	if p.items[path] != nil {
		return true
	}
	for p.trees > 0 && path != op.Root {
		path, _ = op.SplitPath(path)
		if i := p.items[path]; i != nil && i.tree {
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
			p.mark(o.Path2, true)
			p.mark(o.Path, true)
		}
	case op.Link:
		// Both, so that they are looked at as names of one file.
		if p.covers(o.Path) || p.covers(o.Path2) {
			p.mark(o.Path, false)
			p.mark(o.Path2, false)
		}
	case op.CopyRange:
		if p.covers(o.Path) {
			p.mark(o.Path2, false)
		}
	}
}

// add makes a region pending.
func (p *pending) add(m region.Mark) { p.mark(m.Path, m.Scope == region.Tree) }
