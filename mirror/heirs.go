package mirror

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// heir is what becomes pending because of an op.
type heir struct {
	path string
	want
}

// heirs returns what becomes pending because of o, beyond what follow makes so:
// an op says one name of a file, and what is pending may be another. It is
// called before o is applied, with the caller's locks.
//
//   - If o takes away a pending name of a file, or makes it one that mirrors do not
//     know, its other names have what is pending, and nobody knows them: they are
//     searched for.
//   - A copy from a file with several names may be from what is pending under
//     another name.
//   - Data that moves within such a file, or is written where just its holes are
//     looked at, becomes pending by the name that is said.
func (l *Log) heirs(o *op.Op) ([]heir, error) {
	switch {
	case o.Kind == op.Unlink:
		return l.left(o.Path)
	case o.Kind == op.Rename:
		return l.renamed(o)
	case !o.Kind.Data() || !l.unlevel(func(p *pending) bool { return !p.empty() }):
		return nil, nil
	}
	switch {
	case o.Kind == op.CopyRange && l.tied(o.Path):
		return []heir{{o.Path2, want{whole: true}}}, nil
	case shifts(o) && l.tied(o.Path):
		return []heir{{o.Path, shifted(o)}}, nil
	}
	if path, w := filled(o); path != "" && l.unlevel((*pending).fills) && l.tied(path) {
		return []heir{{path, w}}, nil
	}
	return nil, nil
}

// renamed is heirs for a rename. What goes to a name that mirrors do not know is
// removed there.
func (l *Log) renamed(o *op.Op) ([]heir, error) {
	from, to := l.travels(o.Path), l.travels(o.Path2)
	exchange := o.Arg&unix.RENAME_EXCHANGE != 0
	switch {
	case from && !to && o.Path2 != "":
		return l.out(o.Path)
	case to && !from && exchange:
		return l.out(o.Path2)
	case exchange:
		return nil, nil
	}
	return l.left(o.Path2)
}

// out is left for what takes a name, or a directory with names, out of what is
// mirrored. Where any name in a directory is pending everything is: to find the
// files that have others outside takes as long.
func (l *Log) out(path string) ([]heir, error) {
	st, err := l.cfg.Tree.Stat(path)
	switch {
	case err != nil:
		return nil, unseen(err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return l.left(path)
	case l.unlevel(func(p *pending) bool { return p.touches(path) }):
		return []heir{{op.Root, want{whole: true}}}, nil
	}
	return nil, nil
}

// left returns the names of a file that loses one which is pending.
func (l *Log) left(path string) (heirs []heir, err error) {
	if !l.unlevel(func(p *pending) bool { return p.covers(path) }) {
		return nil, nil
	}
	st, err := l.cfg.Tree.Stat(path)
	if err != nil || !hasNames(&st) {
		return nil, unseen(err)
	}
	err = l.cfg.Tree.Aliases(func(ino uint64) bool { return ino == st.Ino }, func(name string, _ uint64) error {
		heirs = append(heirs, heir{name, want{whole: true}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("search for other names of %q: %w", path, err)
	}
	return heirs, nil
}

// unseen is the error of an op that cannot tell what it takes away, nil where nothing
// is there: the op itself hears of that, but need not of any other error.
func unseen(err error) error {
	if region.Absent(err) {
		return nil
	}
	return err
}

// tied reports whether a file has other names.
func (l *Log) tied(path string) bool {
	st, err := l.cfg.Tree.Stat(path)
	return err == nil && hasNames(&st)
}

func hasNames(st *unix.Stat_t) bool { return st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR }

// unlevel reports whether what is pending for any mirror is so.
func (l *Log) unlevel(is func(*pending) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if p.pending != nil && is(p.pending) {
			return true
		}
	}
	return false
}

// inherit makes heirs pending.
func (l *Log) inherit(heirs []heir) {
	if len(heirs) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if p.pending == nil || p.pending.empty() {
			continue
		}
		for _, h := range heirs {
			p.pending.want(h.path, h.want)
		}
	}
}
