package tree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Put is ApplyLenient of a Put. It reports whether the object is not the one
// that was there by all its names: it was made anew, with nothing in it, since
// nothing could be kept, or what was written by one name is not in the other.
func (t *Tree) Put(o *op.Op) (anew bool, err error) {
	if t.Around == nil {
		return t.putAnew(o)
	}
	err = t.Around(o, func() error {
		anew, err = t.putAnew(o)
		return err
	})
	return anew, err
}

func (t *Tree) putAnew(o *op.Op) (anew bool, err error) {
	if err := checkPaths(o); err != nil {
		return false, err
	}
	a := applier{t, o, true}
	err = a.despiteLocks(func() error {
		made, err := a.put()
		anew = anew || made
		return err
	})
	if err != nil {
		return anew, fmt.Errorf("%s %q: %w", o.Kind, o.Path, err)
	}
	return anew, nil
}

// put makes the object at Path be of the type and have the attributes that the
// op describes. A file's data stays, a directory's entries stay, unless it has
// to be made anew: it is of another type, the op says Fresh, or it has
// names here that it has not there. See Put for what it reports.
func (a applier) put() (anew bool, err error) {
	dir, _ := op.SplitPath(a.Path)
	if a.Path == op.Root {
		return false, a.putAttr()
	}
	err = a.keepMtime(dir, func() error {
		at, err := a.At(a.Path)
		if err != nil {
			return err
		}
		defer at.Close()
		var st unix.Stat_t
		err = unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case missing(err):
		case err != nil:
			return err
		case a.fits(at, &st):
			anew = len(a.Op.Names) > 0 && a.count(&st) <= len(a.Op.Names)
			return a.putAttr()
		default:
			if err := a.Remove(a.Path); err != nil {
				return err
			}
		}
		if linked, err := a.kin(); err != nil {
			return err
		} else if anew = true; linked {
			return a.putAttr()
		}
		if err := at.make(a.Op); err != nil {
			return err
		}
		return a.putAttr()
	})
	return anew, err
}

// fits reports whether the object that is there can be kept.
func (a applier) fits(at At, st *unix.Stat_t) bool {
	if a.Flags&op.Fresh != 0 || st.Mode&unix.S_IFMT != a.Attr.Mode&unix.S_IFMT {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true
	case unix.S_IFCHR, unix.S_IFBLK:
		if uint32(st.Rdev) != a.Attr.Rdev {
			return false
		}
	case unix.S_IFLNK:
		if text, err := a.linkText(a.Path, at, st); err != nil || !bytes.Equal(text, a.Data) {
			return false
		}
	}
	return a.own(st)
}

// own reports whether all names that a file has here are among those that the
// op gives it.
func (a applier) own(st *unix.Stat_t) bool {
	if a.Arg != 1 && len(a.Op.Names) == 0 {
		return true // not said
	}
	return a.count(st) == int(st.Nlink)
}

// count returns how many of the names that the op gives it a file has here.
func (a applier) count(st *unix.Stat_t) int {
	count := 0
	for _, path := range append([]string{a.Path}, a.Op.Names...) {
		other, err := a.Stat(path)
		if err == nil && other.Dev == st.Dev && other.Ino == st.Ino {
			count++
		}
	}
	return count
}

// kin makes Path a name of what another of the names that the op gives it is
// already, if that can be kept: so a name more costs no data.
func (a applier) kin() (bool, error) {
	path, err := a.findKin()
	if err != nil || path == "" {
		return false, err
	}
	from, err := a.At(path)
	if err != nil {
		return false, err
	}
	defer from.Close()
	to, err := a.At(a.Path)
	if err != nil {
		return false, err
	}
	defer to.Close()
	return true, unix.Linkat(from.FD, from.Name, to.FD, to.Name, 0)
}

// findKin returns a name of what Path can become a name of, "" if there is none.
func (a applier) findKin() (string, error) {
	if a.Flags&op.Fresh != 0 {
		return "", nil
	}
	for i, path := range a.Op.Names {
		// The same op, with the two names exchanged.
		other := *a.Op
		other.Path, other.Names = path, slices.Clone(a.Op.Names)
		other.Names[i] = a.Path
		at, err := a.At(path)
		if missing(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		var st unix.Stat_t
		err = unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		fits := err == nil && (applier{a.Tree, &other, true}).fits(at, &st)
		at.Close()
		if fits {
			return path, nil
		}
	}
	return "", nil
}

// putAttr sets the attributes that differ, and the xattrs to just those given.
func (a applier) putAttr() error {
	at, err := a.At(a.Path)
	if err != nil {
		return err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	is, want := AttrOf(&st), a.Attr
	if flagged(is.Mode) {
		if err := at.clearLocks(); err != nil {
			return err
		}
	}
	// The size first: a change of data takes file capabilities away, which are
	// an xattr (ATTR_KILL_PRIV in Linux, for root as well).
	if want.Valid&op.AttrSize != 0 && is.Mode&unix.S_IFMT == unix.S_IFREG && is.Size != want.Size {
		if err := a.onFile(a.Path, func(fd int) error { return unix.Ftruncate(fd, want.Size) }); err != nil {
			return err
		}
	}
	if is.UID != want.UID || is.GID != want.GID || is.Mode != want.Mode {
		set := want
		set.Valid &= op.AttrOwner | op.AttrMode
		if err := at.setAttr(&set); err != nil {
			return err
		}
	}
	if err := at.putXattrs(a.Xattrs); err != nil {
		return err
	}
	if err := at.setTimes(&op.Attr{Valid: want.Valid & op.AttrMtime, Mtime: want.Mtime}); err != nil || !flagged(is.Mode) {
		return err
	}
	return at.setInodeFlags(want.Flags)
}

// putXattrs makes the xattrs be just these.
func (a At) putXattrs(want []op.Xattr) error {
	have, err := a.xattrs()
	if err != nil {
		return err
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w op.Xattr) bool { return w.Name == h.Name }) {
			err := unix.Lremovexattr(a.proc(), h.Name)
			if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
				return err
			}
		}
	}
	// What becomes shorter comes first: there is room for all at the end, but
	// not for the longer values of before and after together.
	growth := func(w op.Xattr) int {
		i := slices.IndexFunc(have, func(h op.Xattr) bool { return h.Name == w.Name })
		if i < 0 {
			return len(w.Value)
		}
		return len(w.Value) - len(have[i].Value)
	}
	want = slices.SortedStableFunc(slices.Values(want), func(x, y op.Xattr) int { return cmp.Compare(growth(x), growth(y)) })
	for _, w := range want {
		if slices.ContainsFunc(have, func(h op.Xattr) bool { return h.Name == w.Name && bytes.Equal(h.Value, w.Value) }) {
			continue
		}
		// A file system that does not have an attribute of this kind cannot be
		// repaired; a verify says so.
		if err := unix.Lsetxattr(a.proc(), w.Name, w.Value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

// putLink makes Path2 a name of the file at Path.
func (a applier) putLink() error {
	same, err := a.sameFile(a.Path, a.Path2)
	if err != nil || same {
		return err
	}
	if err := a.makeWay(a.Path2); err != nil {
		return err
	}
	dir, _ := op.SplitPath(a.Path2)
	return a.keepMtime(dir, func() error {
		return a.both(func(from, to At) error { return unix.Linkat(from.FD, from.Name, to.FD, to.Name, 0) })
	})
}

// sameFile reports whether two paths are names of one file. The first must be
// there.
func (t *Tree) sameFile(path, other string) (bool, error) {
	_, x, err := t.Describe(path)
	if err != nil {
		return false, err
	}
	_, y, err := t.Describe(other)
	if missing(err) {
		return false, nil
	}
	return x.Key() == y.Key(), err
}

// putNames removes the names of directory Path that are in (Path2, Name] and
// not among Names. An empty bound is no bound.
func (a applier) putNames() error {
	extra, err := a.extraNames(a.Op)
	if err != nil || len(extra) == 0 {
		return err
	}
	err = a.keepMtime(a.Path, func() error {
		for _, name := range extra {
			if err := a.Remove(op.JoinPath(a.Path, name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || a.Op.Dir.IsZero() {
		return err
	}
	at, err := a.At(a.Path)
	if err != nil {
		return err
	}
	defer at.Close()
	return at.setTimes(&op.Attr{Valid: op.AttrMtime, Mtime: a.Op.Dir})
}

// extraNames returns the names in o's range that o does not have.
func (t *Tree) extraNames(o *op.Op) ([]string, error) {
	entries, err := t.Names(o.Path)
	if err != nil {
		return nil, err
	}
	var extra []string
	for _, e := range entries {
		if inRange(o, e.Name) && !contains(o.Names, e.Name) {
			extra = append(extra, e.Name)
		}
	}
	return extra, nil
}

func inRange(o *op.Op, name string) bool {
	return name > o.Path2 && (o.Name == "" || name <= o.Name)
}

// contains reports whether a sorted list has name.
func contains(sorted []string, name string) bool {
	_, ok := slices.BinarySearch(sorted, name)
	return ok
}
