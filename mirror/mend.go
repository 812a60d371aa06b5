package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// Choice is somebody's decision which version of an Item is right.
type Choice struct {
	Path    []byte   `json:"path"`
	With    [][]byte `json:"with,omitempty"`
	Aspect  Aspect   `json:"aspect"`
	Regions []int64  `json:"regions,omitempty"`
	Version string   `json:"version"` // its ID
}

// Mended says what became of a Choice.
type Mended struct {
	Path  []byte `json:"path"`
	Error string `json:"error,omitempty"`
}

// ErrChanged says that nobody has the chosen version any more.
var ErrChanged = errors.New("it has changed since it was verified: verify again")

// Mend makes all replicas be of the chosen versions. Nobody's version is better
// than another's by itself, the primary's neither.
//
//   - Where a mirror is wrong, or cannot be asked, that is recorded (in its stale
//     map). It leaves the set, durably, and a resync looks at it.
//   - Where the primary is wrong, its replica is made equal to that of a mirror
//     that is right, while no op at all is ordered. That is no op: for those who
//     are right nothing changes.
func (l *Log) Mend(ctx context.Context, choices []Choice) ([]Mended, error) {
	if err := l.beginVerify(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.verifies }()
	if err := l.fence.check(); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	m := &mending{log: l, names: make(map[fileOf]string), wrong: make(map[*peer][]region.Mark)}
	l.mu.Lock()
	var level []*peer
	for _, p := range l.peers {
		if p.session != nil && p.pending == nil {
			level = append(level, p)
		}
	}
	l.mu.Unlock()
	m.views = newViews(l, level)
	defer m.views.close()
	for i := range choices {
		if choices[i].Aspect == AspectAttributes {
			m.meet(ctx, &choices[i])
		}
	}
	var results []Mended
	for _, c := range choices {
		result := Mended{Path: c.Path}
		if err := m.mend(ctx, &c); err != nil {
			result.Error = err.Error()
		}
		results = append(results, result)
		if ctx.Err() != nil {
			break
		}
	}
	// Last, so that nothing of what a mirror is right about is compared before; and
	// whatever was given up, for what was done.
	for p, marks := range m.wrong {
		if err := l.lacks(context.WithoutCancel(ctx), p, marks, "verify: it has not what was chosen to be right"); err != nil {
			return results, err
		}
	}
	return results, m.level(ctx)
}

// mending is one run of Mend.
type mending struct {
	log   *Log
	views *views
	// names are those under which files of mirrors stand here, for files that
	// have several.
	names map[fileOf]string
	wrong map[*peer][]region.Mark // mirrors that have to be looked at, and where
}

// fileOf is a file of a mirror's replica.
type fileOf struct {
	peer *peer
	id   tree.Inode
}

func (m *mending) mend(ctx context.Context, c *Choice) error {
	for _, path := range append(c.With, c.Path) {
		if err := op.CheckPath(string(path)); err != nil {
			return err
		}
	}
	if c.Aspect == AspectLink && len(c.With) != 1 {
		return fmt.Errorf("%q is to be a name of one other file, not of %d", c.Path, len(c.With))
	}
	path := string(c.Path)
	var v verdict
	judge := func() (err error) {
		if v, err = m.judge(ctx, c); err != nil {
			return err
		}
		return m.record(&v)
	}
	err := m.log.source.Mend(path, func() error {
		if err := judge(); err != nil || v.right.peer == nil {
			return err
		}
		switch c.Aspect {
		case AspectAttributes:
			return m.attributes(ctx, &v)
		case AspectContent:
			return m.content(ctx, &v, c.Regions)
		case AspectLink:
			if c.Version == versionTied {
				return errors.Join(m.apply(&op.Op{Kind: op.PutLink, Path: string(c.With[0]), Path2: path}), m.durable(path))
			}
		}
		return nil
	})
	if err == nil && v.right.peer != nil && (c.Aspect == AspectObject || c.Aspect == AspectLink && c.Version == versionApart) {
		err = m.restore(ctx, path, v.right.peer, judge)
	}
	if err != nil {
		return err
	}
	for _, p := range v.wrong {
		m.wrong[p] = append(m.wrong[p], v.marks...)
	}
	return nil
}

// meet notes where a file stands here that has more names where the right version
// of it is: what is restored may be one of them. If that cannot be found out, it
// is restored as a file of its own, and the next verify says so.
func (m *mending) meet(ctx context.Context, c *Choice) {
	path := string(c.Path)
	_ = m.log.source.Hold(path, func() error {
		all, err := m.views.look(ctx, path, nil)
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.peer != nil && s.put != nil && s.put.Arg > 1 && all[0].put != nil && s.version(c.Aspect) == c.Version {
				m.names[fileOf{s.peer, s.id.Key()}] = path
			}
		}
		return nil
	})
}

// apply changes the primary's own replica.
func (m *mending) apply(o *op.Op) error { return m.log.cfg.Tree.ApplyLenient(o) }

// durable syncs what was mended at path.
func (m *mending) durable(path string) error {
	f, err := m.log.cfg.Tree.OpenForSync(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fsync(f.FD()); err != nil {
		return fmt.Errorf("sync %q: %w", path, err)
	}
	return nil
}

// like makes the attributes of what is at a path be those of put.
func (m *mending) like(put *op.Op) error {
	o := *put
	o.Flags, o.Arg = 0, 0 // whatever other names it has
	return m.apply(&o)
}

// attributes makes the primary's be those of who is right, and where its file is
// shorter, what is behind its end. Nothing is ordered meanwhile.
func (m *mending) attributes(ctx context.Context, v *verdict) error {
	want := v.right.put
	other := m.names[fileOf{v.right.peer, v.right.id.Key()}]
	if v.own.put.Arg == 1 && want.Arg > 1 && other != "" && other != want.Path {
		// It is a name of a file that stands here under another one.
		if err := m.apply(&op.Op{Kind: op.PutLink, Path: other, Path2: want.Path}); err != nil {
			return err
		}
	}
	if err := m.like(want); err != nil {
		return err
	}
	if want.Attr.Mode&unix.S_IFMT == unix.S_IFREG && want.Attr.Size > v.own.put.Attr.Size {
		if err := m.fetch(ctx, v.right.peer, want.Path, v.own.put.Attr.Size/op.RegionSize*op.RegionSize, want.Attr.Size, m.apply); err != nil {
			return err
		}
		if err := m.like(want); err != nil {
			return err
		}
	}
	return m.durable(want.Path)
}

// content makes regions of the primary's file be those of who is right. Nothing
// is ordered meanwhile.
func (m *mending) content(ctx context.Context, v *verdict, regions []int64) error {
	for _, off := range regions {
		if err := m.fetch(ctx, v.right.peer, v.own.put.Path, off, off+op.RegionSize, m.apply); err != nil {
			return err
		}
	}
	if err := m.like(v.own.put); err != nil { // the write has moved the mtime
		return err
	}
	return m.durable(v.own.put.Path)
}

// level waits until the mirrors that were wrong are level again, as far as they
// are connected.
func (m *mending) level(ctx context.Context) error {
	l := m.log
	for {
		l.mu.Lock()
		news, room := l.news, l.room
		done := true
		for p := range m.wrong {
			if p.session != nil && !p.paused {
				done = done && len(p.owed) == 0 && p.pending == nil && (p.cfg.Async || l.sync.has(p.node))
			}
		}
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-news:
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("wait until mirrors are level: %w", ctx.Err())
		}
	}
}
