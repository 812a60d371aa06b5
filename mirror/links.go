package mirror

import (
	"context"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// links holds the files with several names that a resync came across. Such a
// file cannot be put by the one name that is pending: on the mirror that may be
// tied to names which are of other files here, and what is put would change
// these too. So it waits until nothing else is left to look at, and then goes as
// a whole:
//
//  1. All its names are known: those that are pending, or, if there are more, by
//     one walk of the primary's tree for all files that wait.
//  2. All are pending until the mirror has answered, so that none that gets
//     content of another is taken for level (RULES.md 16).
//  3. A put by the first name carries the others. Unless these are just the names
//     that the mirror's file has, the mirror says so, and all data is
//     compared: what was written by one name may have gone to another file. If
//     its file has more names than these it is made anew.
//  4. The others are linked to the first, where they are not, and the data that
//     is wanted by any name is compared by the first.
type links struct {
	groups  map[tree.Inode]*group
	waiting map[tree.Inode]*group // those of which a task waits
}

func newLinks() links {
	return links{make(map[tree.Inode]*group), make(map[tree.Inode]*group)}
}

// group is one such file.
type group struct {
	waiting []task
	names   []string // found so far, those that are not mirrored too
	walks   int
	outside int    // names that no walk found: they are outside of the tree
	put     op.LSN // the last put of it
}

// maxWalks is how often the names of one file are looked for. Names that are
// missing then are not just being renamed.
const maxWalks = 3

// wait has a task wait for the other names of its file.
func (l links) wait(t task, id tree.Inode) {
	id = id.Key()
	g := l.groups[id]
	if g == nil {
		g = &group{}
		l.groups[id] = g
	}
	l.waiting[id] = g
	g.waiting = append(g.waiting, t)
	if !slices.Contains(g.names, t.path) {
		g.names = append(g.names, t.path)
	}
}

// lookAtLinks looks at all files that wait.
func (r *resync) lookAtLinks(ctx context.Context) error {
	if err := r.findNames(ctx); err != nil {
		return err
	}
	for id, g := range r.links.waiting {
		if err := r.room(ctx); err != nil {
			return err
		}
		if err := r.lookAtNames(ctx, id, g); err != nil {
			return err
		}
	}
	return nil
}

// findNames walks the tree if a file that waits has more names than are known.
func (r *resync) findNames(ctx context.Context) error {
	search := make(map[uint64]*group)
	for id, g := range r.links.waiting {
		names, count := r.namesOf(id, g)
		if len(names)+g.outside < count {
			search[id.Ino] = g
			g.walks++
		}
	}
	if len(search) == 0 {
		return nil
	}
	return r.log.cfg.Tree.Aliases(func(ino uint64) bool { return search[ino] != nil }, func(path string, ino uint64) error {
		if g := search[ino]; !slices.Contains(g.names, path) {
			g.names = append(g.names, path)
		}
		return ctx.Err()
	})
}

// namesOf returns the names that are known of a file and are its own still, and
// how many it has.
func (r *resync) namesOf(id tree.Inode, g *group) (names []string, count int) {
	for _, path := range g.names {
		st, err := r.log.cfg.Tree.Stat(path)
		if err == nil && st.Dev == id.Dev && st.Ino == id.Ino {
			names, count = append(names, path), int(st.Nlink)
		}
	}
	return names, count
}

// lookAtNames looks at one file.
func (r *resync) lookAtNames(ctx context.Context, id tree.Inode, g *group) error {
	var tasks []task
	var file bool
	err := r.log.source.Hold(g.names[0], func() (err error) {
		names, count := r.namesOf(id, g)
		if len(names)+g.outside < count && g.walks < maxWalks {
			return nil // some are being renamed: look for them again
		}
		g.outside = max(0, count-len(names))
		names = slices.DeleteFunc(names, func(path string) bool { return !r.log.travels(path) })
		slices.Sort(names)
		delete(r.links.waiting, id)
		tasks = r.take(g, names, count)
		if len(tasks) > 0 {
			file, err = r.putNames(g, names, tasks[0])
		}
		return err
	})
	switch {
	case err != nil && !moved(err):
		return err
	case len(tasks) == 0:
		return nil
	}
	h := half{tasks, r.last, id, g}
	switch {
	case err == nil && file && tasks[0].whole:
		if err := r.content(ctx, tasks[0], r.p.fresh); err != nil {
			return err
		}
	case err == nil && file:
		r.puts = append(r.puts, h)
		return nil
	}
	r.looked(h)
	return nil
}

// take ends the waiting for a file with these names: it returns a task for each,
// that wants what any of them does. What waited for a name that is of the file no
// more, or has become its only one, is looked at by itself.
func (r *resync) take(g *group, names []string, count int) []task {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	waiting := g.waiting
	g.waiting = nil
	var all want
	left := false
	for _, t := range waiting {
		if count > 1 && slices.Contains(names, t.path) {
			all, left = all.and(t.want), true
		} else {
			r.p.pending.want(t.path, t.want)
		}
	}
	if !left {
		return nil
	}
	var tasks []task
	for _, path := range names {
		tasks = append(tasks, r.p.pending.begin(path, all))
	}
	return tasks
}

// putNames puts the file by its first name, and links the others to it.
func (r *resync) putNames(g *group, names []string, t task) (file bool, err error) {
	put, _, err := r.log.cfg.Tree.Describe(names[0])
	if err != nil {
		return false, err
	}
	put.Names, put.Arg = names[1:], uint32(len(names))
	if !t.whole {
		put.Flags |= op.Partial
	}
	bytes := 0
	for _, path := range names {
		bytes += len(path)
	}
	if bytes > namesPerOp { // they do not fit into a frame
		put.Names, put.Flags = nil, put.Flags|op.Fresh
	}
	if err := r.send(put); err != nil {
		return false, err
	}
	g.put = r.last
	for _, other := range names[1:] {
		if err := r.send(&op.Op{Kind: op.PutLink, Path: names[0], Path2: other}); err != nil {
			return false, err
		}
	}
	return put.Attr.Mode&unix.S_IFMT == unix.S_IFREG, nil
}

// remade makes all names pending of a file that the put at lsn made anew.
func (r *resync) remade(lsn op.LSN) {
	for _, g := range r.links.groups {
		if g.put == lsn {
			r.want(want{whole: true}, g.names...)
		}
	}
}

// lost makes the other names pending of a file that is not at path any more.
func (r *resync) lost(path string) {
	for _, g := range r.links.groups {
		if slices.Contains(g.names, path) {
			r.want(want{whole: true}, g.names...)
		}
	}
}
