package mirror

import (
	"context"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// half is a look of which the data is still to come.
type half struct {
	tasks []task // of all names; the data is compared by the first
	last  op.LSN
	id    tree.Inode
	group *group // nil if the file has just one name
}

// lookAtData sends the data that is wanted of a file, unless all of it has become
// pending since.
func (r *resync) lookAtData(ctx context.Context, h half) error {
	first := h.tasks[0]
	r.log.mu.Lock()
	i := r.p.pending.items[first.path]
	again := i != nil && i.todo.whole
	r.log.mu.Unlock()
	if again {
		for _, other := range h.tasks[1:] {
			r.want(other.want, other.path)
		}
		return nil
	}
	if err := r.content(ctx, first, false); err != nil {
		return err
	}
	if first.holes {
		r.log.mu.Lock()
		for _, t := range h.tasks {
			r.p.pending.sentHoles(t.path)
		}
		r.log.mu.Unlock()
	}
	r.looked(h)
	return nil
}

// looked says that all has been sent that some tasks want.
func (r *resync) looked(h half) {
	for _, t := range h.tasks {
		r.done = append(r.done, lookedAt{t, r.last})
	}
	if h.group == nil {
		return
	}
	// If its name has gone meanwhile less than all was sent.
	if names, _ := r.namesOf(h.id, h.group); !slices.Contains(names, h.tasks[0].path) {
		r.want(h.tasks[0].want, names...)
	}
}

// content sends digests of the file's data that is wanted, or, to a mirror that
// began with nothing, the data.
func (r *resync) content(ctx context.Context, t task, fill bool) error {
	for _, s := range t.spans() {
		for off, next := s.from, s.from; off < s.to; off = next {
			if err := r.room(ctx); err != nil {
				return err
			}
			err := r.log.source.Hold(t.path, func() (err error) {
				if fill {
					next, err = r.log.fill(t.path, off, r.send)
				} else {
					next, err = r.log.digest(t.path, off, s.to, 0, r.send)
				}
				return err
			})
			if err != nil && !moved(err) {
				return err
			}
			read := min(next-off, r.log.stride())
			if fill {
				read = 0 // what is put counts by itself
			}
			r.did(next-off, read)
			if next-off < r.log.stride() {
				break
			}
		}
	}
	switch {
	case fill:
		r.again(t.path)
	case t.holes && !t.whole:
		return r.holes(ctx, t.path)
	}
	return nil
}

// holes sends where the holes of a file are, and where none are, region by
// region.
func (r *resync) holes(ctx context.Context, path string) error {
	for off := int64(0); ; {
		if err := r.room(ctx); err != nil {
			return err
		}
		next := off
		err := r.log.source.Hold(path, func() error {
			from, to, err := r.log.cfg.Tree.NextHole(path, off)
			o := &op.Op{Kind: op.Check, Path: path, Off: off}
			switch {
			case err != nil || off == to:
				return err
			case off < from:
				o.Len, o.Arg = min(from-off, maxHole), 1
			default:
				o.Len = min(to-off, maxHole)
			}
			next = off + o.Len
			return r.send(o)
		})
		if err != nil && !moved(err) {
			return err
		}
		if next == off {
			return nil
		}
		off = next
	}
}

// putRegions puts regions of a file that differ.
func (r *resync) putRegions(ctx context.Context, path string, regions []int64) error {
	for i := 0; i < len(regions); {
		off, n := regions[i], int64(op.RegionSize)
		for i++; i < len(regions) && regions[i] == off+n && n < r.log.stride(); i++ {
			n += op.RegionSize
		}
		if err := r.space(ctx); err != nil {
			return err
		}
		err := r.log.source.Hold(path, func() error {
			return r.log.cfg.Tree.PutRange(path, off, n, r.send)
		})
		switch {
		case err != nil && moved(err):
			r.lost(path)
		case err != nil:
			return err
		}
	}
	r.again(path)
	return nil
}

// again has a file described once more whose data was put: that changed its
// mtime and took its capabilities.
func (r *resync) again(path string) { r.want(want{}, path) }
