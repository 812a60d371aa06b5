package mirror

import (
	"cmp"
	"context"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// Most of what a directory holds is small, and equal. To put or compare each child
// by itself and then its data would send its whole description, and read the disk
// for one file at a time. So a survey sends one digest for each, of many at a
// time, and only those that the mirror reports are looked at by themselves.
type survey struct {
	log *Log
	dir string
	// cold: files are read from the disk, not from what the kernel has of them.
	cold bool
	// alone says of a child that has to be looked at by itself, while it is held.
	alone func(path string, e tree.Entry) bool
	// room is waited for before each op, with nothing held.
	room func(context.Context) error
	send func(*op.Op) error
	// read hears of files that were sent, and how many bytes of them were read.
	read func(ctx context.Context, files, bytes int64) error
}

// maxSurvey is how many children are surveyed under one hold of all of them.
const maxSurvey = 32

// run surveys children. They are read ahead before they are held, in the order in
// which they are likely to lie on the disk.
func (s survey) run(ctx context.Context, children []tree.Entry) error {
	slices.SortFunc(children, func(a, b tree.Entry) int { return cmp.Compare(a.Ino, b.Ino) })
	var ahead []string
	next := func() error {
		ahead = nil
		for len(children) > 0 && len(ahead) < maxSurvey {
			ahead, children = append(ahead, children[0].Name), children[1:]
		}
		err := s.log.cfg.Tree.ReadAhead(s.dir, ahead, s.cold)
		if err != nil && moved(err) {
			return nil
		}
		return err
	}
	if err := next(); err != nil {
		return err
	}
	for len(ahead) > 0 {
		names := ahead
		if err := s.room(ctx); err != nil {
			return err
		}
		if err := next(); err != nil {
			return err
		}
		var files, bytes int64
		err := s.log.source.HoldNames(s.dir, names, func() error {
			o, f, n, err := s.look(names)
			if err != nil || len(o.Names) == 0 {
				return err
			}
			files, bytes = f, n
			return s.send(o)
		})
		if err != nil && !moved(err) {
			return err
		}
		if err := s.read(ctx, files, bytes); err != nil {
			return err
		}
	}
	return nil
}

// look returns the op that compares these children, and how many files it is
// about, and bytes of them. It leaves out those that have gone since they were
// listed, and those that have become ones to be looked at alone.
func (s survey) look(names []string) (o *op.Op, files, bytes int64, err error) {
	o = &op.Op{Kind: op.Survey, Path: s.dir}
	for _, name := range names {
		path := op.JoinPath(s.dir, name)
		st, err := s.log.cfg.Tree.Stat(path)
		if err != nil {
			if moved(err) {
				continue
			}
			return nil, 0, 0, err
		}
		if s.alone(path, tree.EntryOf(name, &st)) {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			files++
			bytes += min(st.Size, op.RegionSize)
		}
		o.Names = append(o.Names, name)
	}
	o.Data, err = s.log.cfg.Tree.Survey(s.dir, o.Names)
	return o, files, bytes, err
}

// simple reports whether a survey can say all of a child: a file that is more
// than its first region, or that has other names, has to be looked at alone.
func simple(e tree.Entry) bool {
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true
	case unix.S_IFREG:
		return e.Links < 2 && e.Size <= op.RegionSize && !e.Sparse
	}
	return e.Links < 2
}

// child is what a task about a directory wants of one of its entries, and
// whether that has to be looked at alone.
func (t task) child(e tree.Entry, fresh bool) (w want, alone bool) {
	switch {
	case t.whole:
		return want{whole: true}, !simple(e) || e.Mode&unix.S_IFMT == unix.S_IFDIR || fresh
	case t.scope == region.Children:
		return want{data: []span{{0, region.End}}}, !simple(e)
	}
	return small, !simple(e)
}

// small is what is wanted of a file of which no more was marked than its first
// region. What lies behind that is hole, or was marked when it was written.
var small = want{data: []span{{0, op.RegionSize}}, holes: true}

// survey sends digests of children of a directory, which t is about. What has
// become one to be looked at alone is made pending.
func (r *resync) survey(ctx context.Context, t task, children []tree.Entry) error {
	return survey{
		log: r.log, dir: t.path, room: r.room, send: r.send,
		alone: func(path string, e tree.Entry) bool {
			w, alone := t.child(e, r.p.fresh)
			if alone {
				r.want(w, path)
			}
			return alone
		},
		read: func(_ context.Context, _, bytes int64) error {
			r.did(bytes, bytes)
			return nil
		},
	}.run(ctx, children)
}
