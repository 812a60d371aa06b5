package fs

import (
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Mend runs fn while no op at all is ordered. fn may change what is at path, and
// what name it has, past the kernel, which is told to forget all that it knew of
// it; what is open keeps working. The directories above path must be there and
// stay. fn must not call Mend or Hold.
func (f *FS) Mend(path string, fn func() error) error {
	var told []func()
	err := f.mend(path, fn, func(forget func()) { told = append(told, forget) })
	// The kernel takes locks for this that a call may hold which waits for ours.
	for _, forget := range told {
		forget()
	}
	return err
}

func (f *FS) mend(path string, fn func() error, tell func(func())) error {
	f.names.Lock()
	defer f.names.Unlock()
	n, parent, leave, err := f.intern(path)
	if err != nil {
		return err
	}
	defer leave()
	var goes going
	if n != nil {
		// By the name that ops carry, which may be another than path.
		own, _ := f.path(n)
		if _, err := f.commitTime(f.ctx.Done(), n, own); err != nil {
			return err
		}
		if path != op.Root {
			at, err := f.tree.At(path)
			if err != nil {
				return err
			}
			goes, err = f.going(at)
			at.Close()
			if err != nil {
				return err
			}
		}
		tell(func() { f.server.distrustRange(n.id, 0, 0) })
	}
	if parent != nil {
		rest := path
		if dir, _ := f.path(parent); dir != op.Root {
			rest = strings.TrimPrefix(path, dir+"/")
		}
		name, _, _ := strings.Cut(rest, "/")
		defer f.renamed(n, parent, path, name, &goes)
		tell(func() {
			f.server.forgetName(parent.id, name)
			f.server.distrustRange(parent.id, 0, 0) // and the listing
		})
	}
	return fn()
}

// renamed follows, once fn of Mend has run, what became of the name path of n.
// The caller holds names exclusively.
func (f *FS) renamed(n, parent *inode, path, name string, goes *going) {
	var st unix.Stat_t
	if n == nil || f.stat(path, &st) == nil && keyOf(&st) == n.key && st.Mode&unix.S_IFMT == n.typ {
		goes.stay()
		return
	}
	goes.gone(f, parent, name)
}
