package mirror

import (
	"context"
	"errors"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sys/unix"
)

// restore makes what is at path on the primary be what a mirror has there, with
// all below it. Large files are fetched while ops go on; nobody sees them before
// they are whole. check runs at the moment that counts, when nothing is ordered,
// and fails if somebody has made something there meanwhile.
func (m *mending) restore(ctx context.Context, path string, from *peer, check func() error) error {
	tr := m.log.cfg.Tree
	ask := func() (*told, error) { return m.views.one(ctx, from, &wire.ViewRequest{Path: []byte(path)}) }
	t, err := ask()
	if err != nil {
		return err
	}
	// at the moment that counts it is still what was fetched.
	swap := func(change func() error) error {
		return m.log.source.Mend(path, func() error {
			if err := check(); err != nil {
				return err
			}
			now, err := ask()
			if err != nil {
				return err
			}
			if now.version(AspectObject) != t.version(AspectObject) {
				return ErrChanged
			}
			return change()
		})
	}
	if t.put == nil {
		dir, name := op.SplitPath(path)
		return swap(func() error {
			return errors.Join(m.apply(&op.Op{Kind: op.PutNames, Path: dir, Path2: before(name), Name: name}), m.durable(dir))
		})
	}
	file := fileOf{from, t.id.Key()}
	kind := t.put.Attr.Mode & unix.S_IFMT
	if other := m.names[file]; kind != unix.S_IFDIR && t.id.Nlink > 1 {
		if other != "" && other != path {
			return swap(func() error {
				return errors.Join(m.apply(&op.Op{Kind: op.PutLink, Path: other, Path2: path}), m.durable(path))
			})
		}
		m.names[file] = path
	}
	switch kind {
	case unix.S_IFREG:
		u, err := tr.Unnamed(path)
		if err != nil {
			return err
		}
		defer u.Close()
		if err := m.fetch(ctx, from, path, 0, t.put.Attr.Size, u.Apply); err != nil {
			return err
		}
		return swap(func() error { return errors.Join(u.Become(t.put), m.durable(path)) })
	case unix.S_IFDIR:
		if err := swap(func() error { return m.like(t.put) }); err != nil {
			return err
		}
		if err := m.children(ctx, path, from); err != nil {
			return err
		}
		// Its names have moved its mtime.
		return m.log.source.Mend(path, func() error { return errors.Join(m.like(t.put), m.durable(path)) })
	}
	return swap(func() error { return errors.Join(m.like(t.put), m.durable(path)) })
}

// children restores what a mirror has in a directory and the primary has not.
func (m *mending) children(ctx context.Context, dir string, from *peer) error {
	for after := []byte(nil); ; {
		t, err := m.views.one(ctx, from, &wire.ViewRequest{Path: []byte(dir), Names: true, After: after})
		if err != nil {
			return err
		}
		if len(t.names) == 0 {
			return nil
		}
		for _, name := range t.names {
			path := op.JoinPath(dir, name)
			if err := op.CheckPath(path); err != nil {
				return err
			}
			err := m.restore(ctx, path, from, func() error {
				_, _, err := m.log.cfg.Tree.Describe(path)
				switch {
				case errors.Is(err, unix.ENOENT):
					return nil
				case err == nil:
					err = errMadeAnew
				}
				return err
			})
			if err != nil && !errors.Is(err, errMadeAnew) {
				return err
			}
		}
		after = []byte(t.names[len(t.names)-1])
	}
}

// errMadeAnew says that a program has made what was about to be restored.
var errMadeAnew = errors.New("somebody has made it meanwhile")

// fetch has apply do what makes [from, to) of the file at path be as a mirror has
// it.
func (m *mending) fetch(ctx context.Context, p *peer, path string, from, to int64, apply func(*op.Op) error) error {
	for ; from < to; from += wire.ViewBytes {
		t, err := m.views.one(ctx, p, &wire.ViewRequest{Path: []byte(path), Data: true, From: from, To: min(from+wire.ViewBytes, to)})
		if err != nil {
			return err
		}
		for _, o := range t.ops {
			if err := apply(o); err != nil {
				return err
			}
		}
	}
	return nil
}
