package tree

import (
	"errors"
	"io/fs"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Walk calls fn for the root and every object below it, a directory before its
// entries, entries sorted bytewise. What goes while it walks is passed over, and
// what is in a directory for which fn returns fs.SkipDir.
func (t *Tree) Walk(fn func(path string, put *op.Op, id Inode) error) error {
	return t.WalkFrom(op.Root, fn)
}

// WalkFrom is Walk for what is at path and all below it.
func (t *Tree) WalkFrom(path string, fn func(path string, put *op.Op, id Inode) error) error {
	put, id, err := t.Describe(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch err := fn(path, put, id); {
	case errors.Is(err, fs.SkipDir):
		return nil
	case err != nil, put.Attr.Mode&unix.S_IFMT != unix.S_IFDIR:
		return err
	}
	entries, err := t.Names(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.WalkFrom(op.JoinPath(path, e.Name), fn); err != nil {
			return err
		}
	}
	return nil
}

// WalkEntries is WalkFrom with no more of each object than its directory's entry
// and a stat say, which takes far less time.
func (t *Tree) WalkEntries(path string, fn func(path string, e Entry) error) error {
	st, err := t.Stat(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, name := op.SplitPath(path)
	return t.walkEntries(path, EntryOf(name, &st), fn)
}

func (t *Tree) walkEntries(path string, e Entry, fn func(path string, e Entry) error) error {
	switch err := fn(path, e); {
	case errors.Is(err, fs.SkipDir):
		return nil
	case err != nil, e.Mode != unix.S_IFDIR:
		return err
	}
	entries, err := t.Names(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.walkEntries(op.JoinPath(path, e.Name), e, fn); err != nil {
			return err
		}
	}
	return nil
}

// State emits the ops that make path, with all below it, on a replica that may
// have anything there: new objects with attributes, data and holes, hard links
// within the subtree, and times last. The caller keeps it from changing.
func (t *Tree) State(path string, emit func(*op.Op) error) error {
	s := state{t, emit, make(map[Inode]string)}
	if err := s.object(path); err != nil {
		return err
	}
	if path == op.Root {
		return nil
	}
	dir, _ := op.SplitPath(path)
	return s.times(dir)
}

type state struct {
	*Tree
	emit  func(*op.Op) error
	first map[Inode]string // one name of each file that has several
}

func (s state) object(path string) error {
	put, id, err := s.Describe(path)
	if err != nil {
		return err
	}
	kind := put.Attr.Mode & unix.S_IFMT
	if id.Nlink > 1 && kind != unix.S_IFDIR {
		if first, ok := s.first[id.Key()]; ok {
			return s.emit(&op.Op{Kind: op.PutLink, Path: first, Path2: path})
		}
		s.first[id.Key()] = path
	}
	if path != op.Root {
		put.Flags |= op.Fresh
	}
	if err := s.emit(put); err != nil {
		return err
	}
	switch kind {
	case unix.S_IFREG:
		if err := s.PutRange(path, 0, put.Attr.Size, s.emit); err != nil {
			return err
		}
		if put.Attr.Size > 0 {
			// Data takes file capabilities away and moves the mtime.
			again := *put
			again.Flags, again.Arg = 0, 0
			return s.emit(&again)
		}
	case unix.S_IFDIR:
		entries, err := s.Names(path)
		if err != nil {
			return err
		}
		if path == op.Root {
			if err := s.names(entries); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if err := s.object(op.JoinPath(path, e.Name)); err != nil {
				return err
			}
		}
		return s.times(path)
	}
	return nil
}

// namesPerOp keeps an op below the size of a frame, with names of 255 bytes.
const namesPerOp = 4096

// names emits which names the root has, since it cannot be made anew.
func (s state) names(entries []Entry) error {
	o := &op.Op{Kind: op.PutNames, Path: op.Root}
	for i, e := range entries {
		if o.Names = append(o.Names, e.Name); len(o.Names) < namesPerOp || i == len(entries)-1 {
			continue
		}
		o.Name = e.Name
		if err := s.emit(o); err != nil {
			return err
		}
		o = &op.Op{Kind: op.PutNames, Path: op.Root, Path2: e.Name}
	}
	return s.emit(o)
}

// times emits the mtime of what is at path.
func (s state) times(path string) error {
	put, _, err := s.Describe(path)
	if err != nil {
		return err
	}
	return s.emit(&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: put.Attr.Mtime}})
}
