package tree

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// hint renames what is at Path to Path2, unless anything speaks against it: then
// it does nothing, since all that it saves is to send content anew. What is there
// may be something else than the primary thinks, so it takes no more than a file
// that is replaced by a file. (Where that may be the only copy of it no hint is
// applied, so Losses knows none.)
func (a applier) hint() error {
	if op.Within(a.Path, a.Path2) || op.Within(a.Path2, a.Path) {
		return nil
	}
	err := a.both(func(from, to At) error {
		if may, err := a.mayMove(from, to); err != nil || !may {
			return err
		}
		defer a.Forget(a.Path)
		defer a.Forget(a.Path2)
		dir, _ := op.SplitPath(a.Path)
		dir2, _ := op.SplitPath(a.Path2)
		return a.keepMtime(dir, func() error {
			return a.keepMtime(dir2, func() error {
				return unix.Renameat2(from.FD, from.Name, to.FD, to.Name, uint(a.Arg&unix.RENAME_EXCHANGE))
			})
		})
	})
	if missing(err) {
		return nil
	}
	return err
}

// mayMove reports whether what a hint is about is there to be renamed.
func (a applier) mayMove(from, to At) (bool, error) {
	var source, target unix.Stat_t
	if err := unix.Fstatat(from.FD, from.Name, &source, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	err := unix.Fstatat(to.FD, to.Name, &target, unix.AT_SYMLINK_NOFOLLOW)
	taken := err == nil
	if err != nil && !missing(err) {
		return false, err
	}
	file := source.Mode&unix.S_IFMT == unix.S_IFREG
	switch {
	case a.Arg&unix.RENAME_EXCHANGE != 0:
		if !taken {
			return false, nil
		}
		if alone, err := a.alone(a.Path2, &target); err != nil || !alone {
			return false, err
		}
	case taken && !(file && target.Mode&unix.S_IFMT == unix.S_IFREG):
		return false, nil
	}
	return a.alone(a.Path, &source)
}

// alone reports whether what is at path, a file or a directory with all below
// it, has no names elsewhere. If it had, what the primary writes to another file
// that it has here by now would go to those, too.
func (t *Tree) alone(path string, st *unix.Stat_t) (bool, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Nlink == 1, nil
	case unix.S_IFDIR:
		more := make(map[uint64]uint32) // names that are still to be found, by inode
		one, err := t.inside(path, st.Dev, more)
		return one && len(more) == 0, err
	}
	return false, nil
}

// inside counts the names of what is below a directory. It gives up at another
// file system, whose inodes have the same numbers.
func (t *Tree) inside(dir string, dev uint64, more map[uint64]uint32) (one bool, err error) {
	t.Waits()
	st, err := t.Stat(dir)
	if err != nil || st.Dev != dev {
		return false, err
	}
	entries, err := t.Names(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch {
		case e.Mode == unix.S_IFDIR:
			if one, err := t.inside(op.JoinPath(dir, e.Name), dev, more); err != nil || !one {
				return false, err
			}
		case e.Links > 1:
			left, seen := more[e.Ino]
			if !seen {
				left = e.Links
			}
			if left--; left > 0 {
				more[e.Ino] = left
			} else {
				delete(more, e.Ino)
			}
		}
	}
	return true, nil
}
