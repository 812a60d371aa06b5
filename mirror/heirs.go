package mirror

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// heirs returns what becomes pending because of o, beyond what follow makes so:
// an op says one name of a file, and what is pending may be another. It is
// called before o is applied, with the caller's locks.
//
//   - If o takes away a pending name of a file, its other names have what is
//     pending, and nobody knows them: they are searched for.
//   - A copy from a file with several names may be from what is pending under
//     another name.
func (l *Log) heirs(o *op.Op) ([]string, error) {
	path := o.Path
	switch {
	case o.Kind == op.Unlink, o.Kind == op.CopyRange:
	case o.Kind == op.Rename && o.Arg&unix.RENAME_EXCHANGE == 0:
		path = o.Path2
	default:
		return nil, nil
	}
	if !l.unlevel(path, o.Kind == op.CopyRange) {
		return nil, nil
	}
	st, err := l.cfg.Tree.Stat(path)
	if err != nil || st.Nlink < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, nil // the op itself will hear of an error
	}
	if o.Kind == op.CopyRange {
		return []string{o.Path2}, nil
	}
	var names []string
	err = l.cfg.Tree.Aliases(func(ino uint64) bool { return ino == st.Ino }, func(name string, _ uint64) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("search for other names of %q: %w", path, err)
	}
	return names, nil
}

// unlevel reports whether path is pending for any mirror, or, if any is set,
// anything at all.
func (l *Log) unlevel(path string, any bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if p.pending != nil && (p.pending.covers(path) || any && !p.pending.empty()) {
			return true
		}
	}
	return false
}

// inherit makes heirs pending.
func (l *Log) inherit(heirs []string) {
	if len(heirs) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if p.pending == nil || p.pending.empty() {
			continue
		}
		for _, path := range heirs {
			p.pending.mark(path)
		}
	}
}
