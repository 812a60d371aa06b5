package mirror

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// surface is all of an object but a file's data: what a resync puts and a
// verify compares. It is read while the object is held.
type surface struct {
	put   *op.Op // nil if the path is not mirrored
	id    tree.Inode
	dir   bool
	file  bool         // regular
	waits bool         // for its other names
	names []tree.Entry // of a directory, mirrored ones only; see list
}

// surface reads what is at path, but for the names of a directory.
func (l *Log) surface(path string) (surface, error) {
	if !l.travels(path) {
		return surface{}, nil
	}
	put, id, err := l.cfg.Tree.Describe(path)
	if err != nil {
		return surface{}, err
	}
	s := surface{put: put, id: id}
	switch put.Attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		s.dir = true
	case unix.S_IFREG:
		s.file = true
	}
	return s, nil
}

// list reads the names of a directory.
func (s *surface) list(l *Log, path string) error {
	if !s.dir {
		return nil
	}
	names, err := l.cfg.Tree.Names(path)
	if err != nil {
		return err
	}
	for _, e := range names {
		if l.travels(op.JoinPath(path, e.Name)) {
			s.names = append(s.names, e)
		}
	}
	return nil
}

// eachNames emits the ops that say which names the directory has, each over a
// range of names that follows the one before, so that none grows too large.
func (s *surface) eachNames(path string, flags op.Flags, emit func(*op.Op) error) error {
	if !s.dir {
		return nil
	}
	o := &op.Op{Kind: op.PutNames, Flags: flags, Path: path, Dir: s.put.Attr.Mtime}
	bytes := 0
	for _, e := range s.names {
		if bytes > namesPerOp {
			o.Name = o.Names[len(o.Names)-1]
			if err := emit(o); err != nil {
				return err
			}
			o = &op.Op{Kind: op.PutNames, Flags: flags, Path: path, Dir: o.Dir, Path2: o.Name}
			bytes = 0
		}
		o.Names = append(o.Names, e.Name)
		bytes += len(e.Name) + 4
	}
	return emit(o)
}

// maxHole bounds a hole that is compared at once, and so the report about it.
const maxHole = 1 << 30

// digest emits a Check over the next stride of a file before end, or over a
// hole that is longer, and returns the offset behind it: less than a stride on,
// and before end, when the file ends there.
func (l *Log) digest(path string, off, end int64, flags op.Flags, emit func(*op.Op) error) (int64, error) {
	next, err := l.cfg.Tree.NextData(path, off)
	if err != nil {
		return off, err
	}
	if hole := min(next-off, maxHole, end-off); hole >= l.stride() {
		return off + hole, emit(&op.Op{Kind: op.Check, Flags: flags, Path: path, Off: off, Len: hole})
	}
	digests, err := l.cfg.Tree.Digests(path, off, min(l.stride(), end-off))
	if err != nil || len(digests) == 0 {
		return off, err
	}
	n := int64(len(digests) / tree.DigestSize * op.RegionSize)
	return off + n, emit(&op.Op{Kind: op.Check, Flags: flags, Path: path, Off: off, Len: n, Data: digests})
}

// fill emits the data of the next stride of a file that is all hole on the
// mirror, and returns the offset behind it, or off at the end.
func (l *Log) fill(path string, off int64, emit func(*op.Op) error) (int64, error) {
	next, err := l.cfg.Tree.NextData(path, off)
	if err != nil || next-off >= l.stride() {
		return next, err
	}
	next = off
	err = l.cfg.Tree.PutRange(path, off, l.stride(), func(o *op.Op) error {
		next = off + l.stride()
		return emit(o)
	})
	return next, err
}
