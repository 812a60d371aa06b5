package divergence

import (
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// gather adds what o takes, and is not kept, to the batch.
func (k *Keeper) gather(o *op.Op) (tree.Loss, error) {
	loss, err := k.cfg.Tree.Losses(o)
	if err != nil {
		return loss, err
	}
	k.why = o.Kind.String()
	if err := k.gone(loss.Gone); err != nil {
		return loss, err
	}
	for _, path := range loss.Changed {
		put, id, err := k.cfg.Tree.Describe(path)
		if err != nil {
			return loss, err
		}
		if m := k.mark(id); m.all || m.attr || m.object {
			continue
		}
		if err := k.object(path, put, id); err != nil {
			return loss, err
		}
	}
	for _, r := range loss.Over {
		if err := k.over(r); err != nil {
			return loss, err
		}
	}
	return loss, nil
}

// item returns one of an object, to be completed.
func (k *Keeper) item(what What, path string, id tree.Inode) (Item, error) {
	origin, err := k.moved.origin(path)
	item := Item{What: what, Path: Path(origin), Inode: id.Ino, Why: k.why}
	if id.Dev != k.batch.head.Device {
		item.Device = id.Dev
	}
	return item, err
}

// object keeps all of an object but its data. Behind the end of a file there is
// nothing to keep any more.
func (k *Keeper) object(path string, put *op.Op, id tree.Inode) error {
	item, err := k.item(WhatObject, path, id)
	if err != nil {
		return err
	}
	item.Object = objectOf(put)
	if err := k.batch.add(&item); err != nil {
		return err
	}
	m := k.mark(id)
	m.object, m.attr = true, true
	m.data.add(span{beyond(put.Attr.Size), endOfTime})
	return nil
}

// over keeps the regions of a range.
func (k *Keeper) over(r tree.Range) error {
	put, id, err := k.cfg.Tree.Describe(r.Path)
	if err != nil {
		return err
	}
	m, size := k.mark(id), put.Attr.Size
	if m.all {
		return nil
	}
	to := size
	if r.Len < size-r.Off {
		to = min(beyond(r.Off+r.Len), size)
	}
	gaps := m.data.without(span{regionOf(r.Off), to})
	if !m.object && (len(gaps) > 0 || !m.attr) {
		if err := k.object(r.Path, put, id); err != nil {
			return err
		}
	}
	return k.data(r.Path, id, size, gaps)
}

// data keeps ranges of a file, with their holes.
func (k *Keeper) data(path string, id tree.Inode, size int64, gaps []span) error {
	m := k.mark(id)
	for _, gap := range gaps {
		item, err := k.item(WhatData, path, id)
		if err != nil {
			return err
		}
		at := gap.from
		hole := func(to int64) error {
			if at >= to {
				return nil
			}
			h := item
			h.What, h.Off, h.Len = WhatHole, at, to-at
			return k.batch.add(&h)
		}
		err = k.cfg.Tree.PutRange(path, gap.from, gap.to-gap.from, func(o *op.Op) error {
			if o.Kind != op.Write {
				return nil // holes are what lies between
			}
			if err := hole(o.Off); err != nil {
				return err
			}
			at = o.Off + int64(len(o.Data))
			return k.batch.store(item, o.Off, o.Data)
		})
		if err == nil {
			err = hole(gap.to)
		}
		if err != nil {
			return err
		}
		if gap.to == size {
			gap.to = beyond(size)
		}
		m.data.add(gap)
	}
	return nil
}

// linked is an object of which several names go.
type linked struct {
	path string
	put  *op.Op
	id   tree.Inode
	here int
}

// gone keeps all that is at the paths and below them. Of an object that keeps
// another name elsewhere just this name goes.
func (k *Keeper) gone(paths []string) error {
	links := make(map[tree.Inode]*linked)
	for _, path := range paths {
		err := k.cfg.Tree.WalkFrom(path, func(path string, put *op.Op, id tree.Inode) error {
			if k.mark(id).all {
				return nil
			}
			if put.Attr.Mode&unix.S_IFMT == unix.S_IFDIR || id.Nlink == 1 {
				return k.whole(path, put, id)
			}
			l := links[id.Key()]
			if l == nil {
				l = &linked{path: path, put: put, id: id}
				links[id.Key()] = l
			}
			l.here++
			return k.name(path, put, id)
		})
		if err != nil {
			return err
		}
	}
	for _, l := range links {
		if l.here >= int(l.id.Nlink) {
			if err := k.whole(l.path, l.put, l.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// name keeps that an object had this name.
func (k *Keeper) name(path string, put *op.Op, id tree.Inode) error {
	if k.names[path] == id.Key() {
		return nil
	}
	if err := k.object(path, put, id); err != nil {
		return err
	}
	k.names[path] = id.Key()
	return nil
}

// whole keeps all of an object that goes.
func (k *Keeper) whole(path string, put *op.Op, id tree.Inode) error {
	m, size := k.mark(id), put.Attr.Size
	var gaps []span
	if put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
		gaps = m.data.without(span{0, size})
	}
	if !m.object && (len(gaps) > 0 || !m.attr) {
		if err := k.object(path, put, id); err != nil {
			return err
		}
	}
	if err := k.data(path, id, size, gaps); err != nil {
		return err
	}
	m.all = true
	if !m.object {
		return nil // it is the primary's
	}
	item, err := k.item(WhatGone, path, id)
	if err != nil {
		return err
	}
	return k.batch.add(&item)
}
