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

// of returns the origins of the paths of an op that gives names, nil for others.
// What is not there has none: then the op moves nothing.
func (g origins) of(o *op.Op) ([]string, error) {
	paths := []string{o.Path}
	switch {
	case o.Kind == op.Rename && o.Arg&unix.RENAME_EXCHANGE != 0:
		paths = append(paths, o.Path2)
	case o.Kind != op.Rename && o.Kind != op.Link && o.Kind != op.PutLink:
		return nil, nil
	}
	var from []string
	for _, path := range paths {
		if _, _, err := g.tree.Describe(path); err != nil {
			return nil, nil // the op meets the same
		}
		origin, err := g.origin(path)
		if err != nil {
			return nil, err
		}
		from = append(from, origin)
	}
	return from, nil
}

// follow notes the names that an op has given.
func (g origins) follow(o *op.Op, from []string) error {
	if o.Path == o.Path2 {
		return nil
	}
	to, err := g.entry(o.Path2)
	if err != nil {
		return err
	}
	g.moved[to] = from[0]
	if o.Kind != op.Rename {
		return nil
	}
	old, err := g.entry(o.Path)
	if err != nil {
		return err
	}
	delete(g.moved, old)
	if len(from) == 2 {
		g.moved[old] = from[1]
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
	_, id, err := g.tree.Describe(dirOf(path))
	return entry{id.Key(), name}, err
}

func dirOf(path string) string {
	dir, _ := op.SplitPath(path)
	return dir
}
