package divergence

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// origins knows under which path the name of an object stood when the
// divergence began. A name is a directory and an entry in it, so that what lies
// below a directory moves with it.
type origins struct {
	tree  *tree.Tree
	moved map[entry]string // names that an op has given since
}

type entry struct {
	dir  tree.Inode
	name string
}

// given is a name that an op gives, and where what it is of stood.
type given struct{ path, origin string }

// of returns the names that an op gives to what is there, nil if it gives none.
func (g origins) of(o *op.Op, loss tree.Loss) ([]given, error) {
	moves := map[string]string{} // from a name to the one that is given
	switch {
	case o.Path == o.Path2:
	case o.Kind == op.Rename && g.tied(o.Path, o.Path2):
		// rename(2) does nothing to two names of one file.
	case o.Kind == op.Rename && o.Arg&unix.RENAME_EXCHANGE != 0:
		moves[o.Path], moves[o.Path2] = o.Path2, o.Path
	case o.Kind == op.Rename, o.Kind == op.Link, o.Kind == op.PutLink:
		moves[o.Path] = o.Path2
	case loss.Links != "":
		moves[loss.Links] = o.Path
	}
	var names []given
	for from, to := range moves {
		if _, err := g.tree.Stat(from); err != nil {
			return nil, nil // the op meets the same
		}
		origin, err := g.origin(from)
		if err != nil {
			return nil, err
		}
		names = append(names, given{to, origin})
	}
	return names, nil
}

// tied reports whether two paths are names of one file.
func (g origins) tied(path, other string) bool {
	x, err := g.tree.Stat(path)
	y, otherErr := g.tree.Stat(other)
	return err == nil && otherErr == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// follow notes the names that an op has given.
func (g origins) follow(o *op.Op, names []given) error {
	if o.Kind == op.Rename {
		old, err := g.entry(o.Path)
		if err != nil {
			return err
		}
		delete(g.moved, old)
	}
	for _, n := range names {
		e, err := g.entry(n.path)
		if err != nil {
			return err
		}
		g.moved[e] = n.origin
	}
	return nil
}

// made notes that a new object has the name.
func (g origins) made(path string) error {
	if len(g.moved) == 0 {
		return nil
	}
	e, err := g.entry(path)
	delete(g.moved, e)
	return err
}

// origin is the path under which the name stood.
func (g origins) origin(path string) (string, error) {
	if len(g.moved) == 0 || path == op.Root {
		return path, nil
	}
	e, err := g.entry(path)
	if err != nil {
		return "", err
	}
	if origin, ok := g.moved[e]; ok {
		return origin, nil
	}
	dir, err := g.origin(dirOf(path))
	return op.JoinPath(dir, e.name), err
}

func (g origins) entry(path string) (entry, error) {
	_, name := op.SplitPath(path)
	st, err := g.tree.Stat(dirOf(path))
	return entry{tree.Inode{Dev: st.Dev, Ino: st.Ino}, name}, err
}

func dirOf(path string) string {
	dir, _ := op.SplitPath(path)
	return dir
}
