package mirror

import (
	"context"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// Most of what a directory holds is small, and equal. To put each child and to
// check its data would send its whole description. So a survey sends one digest
// for each, of many at a time, and only those that the mirror reports are looked
// at by themselves.

// child is what a task about a directory wants of one of its entries, and
// whether that has to be looked at alone: what is more than its first region, and
// what has other names.
func (t task) child(e tree.Entry, fresh bool) (w want, alone bool) {
	dir := e.Mode&unix.S_IFMT == unix.S_IFDIR
	large := e.Mode&unix.S_IFMT == unix.S_IFREG && (e.Size > op.RegionSize || e.Sparse)
	alone = large || !dir && e.Links > 1
	switch {
	case t.whole:
		return want{whole: true}, alone || dir || fresh
	case t.scope == region.Children:
		return want{data: []span{{0, region.End}}}, alone
	}
	return small, alone
}

// small is what is wanted of a file of which no more was marked than its first
// region. What lies behind that is hole, or was marked when it was written.
var small = want{data: []span{{0, op.RegionSize}}, holes: true}

// A survey is made of this many children at most, under one hold of all of them.
const maxSurvey = 128

// survey sends digests of children of a directory, which t is about.
func (r *resync) survey(ctx context.Context, t task, names []string) error {
	dir := t.path
	ahead := names[:min(maxSurvey, len(names))]
	r.log.cfg.Tree.ReadAhead(dir, ahead)
	for len(names) > 0 {
		some := ahead
		names = names[len(some):]
		ahead = names[:min(maxSurvey, len(names))]
		if err := r.room(ctx); err != nil {
			return err
		}
		r.log.cfg.Tree.ReadAhead(dir, ahead)
		var read int64
		err := r.log.source.HoldNames(dir, some, func() error {
			o, n, err := r.surveyed(t, some)
			if err != nil || len(o.Names) == 0 {
				return err
			}
			read = n
			return r.send(o)
		})
		if err != nil && !moved(err) {
			return err
		}
		r.did(read, read)
	}
	return nil
}

// surveyed returns the op that compares children of a directory, and how many
// bytes of files it is about. It leaves out those that have gone since they were
// listed. What has become one to be looked at alone is made pending.
func (r *resync) surveyed(t task, names []string) (*op.Op, int64, error) {
	o := &op.Op{Kind: op.Survey, Path: t.path}
	var size int64
	for _, name := range names {
		path := op.JoinPath(t.path, name)
		st, err := r.log.cfg.Tree.Stat(path)
		if err != nil {
			if moved(err) {
				continue
			}
			return nil, 0, err
		}
		if w, alone := t.child(tree.EntryOf(name, &st), r.p.fresh); alone {
			r.want(w, path)
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			size += min(st.Size, op.RegionSize)
		}
		o.Names = append(o.Names, name)
	}
	var err error
	o.Data, err = r.log.cfg.Tree.Survey(t.path, o.Names)
	return o, size, err
}
