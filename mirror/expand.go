package mirror

import (
	"fmt"
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// crossing is an op that may cross the border of what is mirrored: names come
// in and go out by rename, link and copy. What comes in is sent as state, in
// line, since the mirrors have nothing to rename; what goes out is removed
// there. All of it is read under the caller's locks, at the op's position.
type crossing struct{ log *Log }

// border returns nil where o cannot cross, which is nearly always.
func (l *Log) border(o *op.Op) *crossing {
	if !l.rules.local && o.Path != "" && o.Kind != op.Adopt && (o.Kind != op.CopyRange || o.Path2 != "") {
		return nil
	}
	return &crossing{l}
}

// travels reports whether path is a name that mirrors know.
func (l *Log) travels(path string) bool { return path != "" && l.rules.mirrored(path) }

// order sends what o means to the mirrors.
func (c *crossing) order(o *op.Op) (op.Ack, error) {
	from, to := c.log.travels(o.Path), c.log.travels(o.Path2)
	switch o.Kind {
	case op.Adopt:
		return c.adopt(o, o.Path)
	case op.CopyRange:
		switch {
		case !to:
			return op.Done, nil
		case !from:
			return c.all(o, func(emit func(*op.Op) error) error {
				return c.log.cfg.Tree.PutRange(o.Path2, o.Off2, o.Len, emit)
			})
		}
	case op.Link:
		switch {
		case !to:
			return c.touch(o.Path2, o.Dir2)
		case !from:
			return c.adopt(o, o.Path2)
		}
	case op.Rename:
		return c.rename(o, from, to)
	default:
		if !from {
			return c.touch(o.Path, o.Dir)
		}
	}
	return c.log.order(o, toAll)
}

// touch orders the mtime that a directory which mirrors know got from a name
// that they do not.
func (c *crossing) touch(path string, mtime op.Time) (op.Ack, error) {
	dir, _ := op.SplitPath(path)
	if path == "" || mtime.IsZero() || !c.log.travels(dir) {
		return op.Done, nil
	}
	return c.log.order(&op.Op{Kind: op.SetAttr, Path: dir, Attr: op.Attr{Valid: op.AttrMtime, Mtime: mtime}}, toAll)
}

// rename sends a rename as what it is where both names are mirrored, and then
// mends what the rules make of the names below a directory.
func (c *crossing) rename(o *op.Op, from, to bool) (op.Ack, error) {
	exchange := o.Arg&unix.RENAME_EXCHANGE != 0
	if !from || !to {
		// What is not mirrored changed a directory that may be.
		for path, mtime := range map[string]op.Time{o.Path: o.Dir, o.Path2: o.Dir2} {
			if _, err := c.touch(path, mtime); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case !from && !to:
		return op.Done, nil
	case !from:
		return c.adopt(o, o.Path2)
	case !to && exchange:
		return c.adopt(o, o.Path)
	case !to:
		return c.all(o, func(emit func(*op.Op) error) error { return c.withdraw(o, emit) })
	}
	last, err := c.log.order(o, toAll)
	if err != nil {
		return nil, err
	}
	moved := []struct{ was, is string }{{o.Path, o.Path2}}
	if exchange {
		moved = append(moved, struct{ was, is string }{o.Path2, o.Path})
	}
	for _, m := range moved {
		err := c.below(m.is, m.is, m.was, func(is, was string) error {
			var err error
			switch was, now := c.log.travels(was), c.log.travels(is); {
			case now && !was:
				last, err = c.adopt(o, is)
			case was && !now:
				last, err = c.all(o, func(emit func(*op.Op) error) error {
					return c.withdraw(&op.Op{Path: is, Dir: o.Dir2}, emit)
				})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// below calls fn for every path below dir with the name it had before the
// rename of root from was. A path whose fate fn settled is not descended into.
func (c *crossing) below(dir, root, was string, fn func(is, was string) error) error {
	entries, err := c.log.cfg.Tree.Names(dir)
	if err != nil {
		return nil // not a directory
	}
	for _, e := range entries {
		is := op.JoinPath(dir, e.Name)
		before := was + is[len(root):]
		if err := fn(is, before); err != nil {
			return err
		}
		if e.Mode&unix.S_IFMT == unix.S_IFDIR && c.log.travels(is) && c.log.travels(before) {
			if err := c.below(is, root, was, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt sends all that is mirrored at path as state. o is the op that a caller
// waits for.
func (c *crossing) adopt(o *op.Op, path string) (op.Ack, error) {
	return c.all(o, func(emit func(*op.Op) error) error {
		return c.log.cfg.Tree.State(path, func(p *op.Op) error {
			if !c.log.travels(p.Path) || p.Path2 != "" && p.Kind == op.PutLink && !c.log.travels(p.Path2) {
				return nil
			}
			return emit(p)
		})
	})
}

// withdraw removes the name o.Path, and what is below it, from the mirrors: it
// went to a name that is not mirrored.
func (c *crossing) withdraw(o *op.Op, emit func(*op.Op) error) error {
	dir, name := op.SplitPath(o.Path)
	// PutNames over just this one name says that it is not there.
	return emit(&op.Op{Kind: op.PutNames, Path: dir, Path2: before(name), Name: name, Dir: o.Dir})
}

// before returns a string below name with nothing that can be a file name
// between them.
func before(name string) string {
	last := len(name) - 1
	if name[last] == 1 {
		return name[:last] // only a NUL could follow
	}
	return name[:last] + string([]byte{name[last] - 1}) + strings.Repeat("\xff", 256)
}

// all orders every op that send emits and returns an ack for the last one, as
// strict as o wants it.
func (c *crossing) all(o *op.Op, send func(emit func(*op.Op) error) error) (op.Ack, error) {
	var last op.Ack = op.Done
	err := send(func(p *op.Op) error {
		a, err := c.log.order(p, toAll)
		if w, ok := a.(*ack); ok {
			last = &ack{log: c.log, lsn: w.lsn, durable: o.Flags&op.Barrier != 0}
		}
		return err
	})
	if err != nil {
		c.log.disown(fmt.Sprintf("state of %q could not be read: %v", o.Path, err))
		return nil, fmt.Errorf("send %v as state: %w", o, err)
	}
	return last, nil
}
