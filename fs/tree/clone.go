package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// ErrNoClone says that a copy cannot share data with the tree.
var ErrNoClone = errors.New("no reflinks")

// CanClone tries whether Clone and MoveAll can work between the tree and dir: it
// clones a small file and gives it a name there. The tree has no name of it at
// any time. The error wraps ErrNoClone and says what stands in the way.
func (t *Tree) CanClone(dir string) error {
	no := func(err error) error {
		switch {
		case errors.Is(err, unix.EXDEV):
			err = fmt.Errorf("they are on different file systems, mounts or subvolumes: %w", err)
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
			err = fmt.Errorf("the file system has none, as XFS and btrfs have: %w", err)
		}
		return fmt.Errorf("%w between %s and %s: %w", ErrNoClone, t.dir, dir, err)
	}
	in, err := unnamed(t.dir)
	if err != nil {
		return no(err)
	}
	defer in.Close()
	out, err := unnamed(dir)
	if err != nil {
		return no(err)
	}
	defer out.Close()
	if _, err := in.Write(make([]byte, 4096)); err != nil {
		return no(err)
	}
	if err := share(int(in.Fd()), int(out.Fd())); err != nil {
		return no(err)
	}
	// A name crosses no mount and no subvolume either.
	name := filepath.Join(dir, "probe")
	if err := unix.Unlink(name); err != nil && !missing(err) {
		return no(err)
	}
	if err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(in.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return no(err)
	}
	return unix.Unlink(name)
}

// unnamed makes a file in dir that has no name.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, pathError("make a file in", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// share makes the whole of one file's data the other's, too, without copying it.
func share(from, to int) error {
	return retry(func() error { return unix.IoctlFileClone(to, from) })
}

// Clone makes a copy of the tree in dir/tree, where dir is an empty directory:
// all that Describe tells, with the same hard links and holes, and data that is
// shared with the tree's until either changes. Nothing may change meanwhile.
// each is called after each object and ends it with its error. What it needs of
// memory does not depend on the number of objects: which names are of one file
// is kept in dir, too.
func (t *Tree) Clone(dir string, each func() error) error {
	for _, part := range []string{"tree", "links"} {
		if err := os.Mkdir(filepath.Join(dir, part), 0o700); err != nil {
			return fmt.Errorf("make a copy: %w", err)
		}
	}
	to, err := Open(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	defer to.Close()
	links, err := Open(filepath.Join(dir, "links"))
	if err != nil {
		return err
	}
	defer links.Close()
	if err := (cloning{t, to, links, each}).object(op.Root); err != nil {
		return fmt.Errorf("copy %s to %s: %w", t.dir, dir, err)
	}
	if err := links.Clear(func() error { return nil }); err != nil {
		return fmt.Errorf("copy %s to %s: %w", t.dir, dir, err)
	}
	return os.Remove(links.dir)
}

// cloning is one run of Clone.
type cloning struct {
	from, to *Tree
	links    *Tree // one name for each file that has several, by inode number
	each     func() error
}

func (c cloning) object(path string) error {
	put, id, err := c.from.Describe(path)
	if err != nil {
		return err
	}
	kind := put.Attr.Mode & unix.S_IFMT
	several := id.Nlink > 1 && kind != unix.S_IFDIR
	if several {
		if done, err := c.linked(path, id); done || err != nil {
			return err
		}
	}
	if path != op.Root {
		if err := c.make(put); err != nil {
			return pathError("make", path, err)
		}
	}
	if kind == unix.S_IFDIR {
		err := c.from.eachName(path, func(name string) error { return c.object(op.JoinPath(path, name)) })
		if err != nil {
			return err
		}
	}
	if several { // before the flags, which may forbid it
		if err := c.link(path, id); err != nil {
			return pathError("link", path, err)
		}
	}
	if err := (applier{c.to, put, false}).putAttr(); err != nil {
		return pathError("set the attributes of", path, err)
	}
	return c.each()
}

// make makes the object, with a file's data.
func (c cloning) make(put *op.Op) error {
	to, err := c.to.At(put.Path)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.make(put); err != nil || put.Attr.Mode&unix.S_IFMT != unix.S_IFREG || put.Attr.Size == 0 {
		return err
	}
	from, err := c.from.At(put.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	in, err := openat(from.FD, from.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := openat(to.FD, to.Name, unix.O_WRONLY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	err = share(in, out)
	if errors.Is(err, unix.EINVAL) {
		// On btrfs a file without checksums shares with its like only.
		const noCopyOnWrite = 0x800000
		flags, flagsErr := InodeFlags(in)
		if flagsErr != nil || flags&noCopyOnWrite == 0 {
			return err
		}
		if flags, err = InodeFlags(out); err != nil {
			return err
		}
		flags |= noCopyOnWrite
		if err = ioctl(out, unix.FS_IOC_SETFLAGS, &flags); err != nil {
			return err
		}
		err = share(in, out)
	}
	return err
}

// linked makes path a name of the copy that another name of its file has led to,
// and reports whether there is one.
func (c cloning) linked(path string, id Inode) (bool, error) {
	to, err := c.to.At(path)
	if err != nil {
		return false, err
	}
	defer to.Close()
	from := At{FD: int(c.links.root.Fd()), Name: strconv.FormatUint(id.Ino, 10)}
	err = from.despiteLock(func() error { return unix.Linkat(from.FD, from.Name, to.FD, to.Name, 0) })
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, pathError("link", path, err)
	}
	return true, c.each()
}

// link remembers the copy of a file that has several names.
func (c cloning) link(path string, id Inode) error {
	at, err := c.to.At(path)
	if err != nil {
		return err
	}
	defer at.Close()
	return unix.Linkat(at.FD, at.Name, int(c.links.root.Fd()), strconv.FormatUint(id.Ino, 10), 0)
}

// eachName calls do for the names of a directory, in no order. It holds no
// descriptor meanwhile and some of the names only. Nothing may change there.
func (t *Tree) eachName(path string, do func(name string) error) error {
	buf := make([]byte, 16<<10)
	for at := int64(0); ; {
		f, err := t.openList(path)
		if err != nil {
			return err
		}
		names, next, err := someNames(f, at, buf)
		f.Close()
		if err != nil {
			return pathError("read directory", path, err)
		}
		if next == at {
			return nil
		}
		at = next
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
	}
}

// someNames returns names that come behind a place in a directory, and the place
// behind them: the same one at the end.
func someNames(f *os.File, at int64, buf []byte) (names []string, next int64, err error) {
	fd := int(f.Fd())
	if _, err := unix.Seek(fd, at, unix.SEEK_SET); err != nil {
		return nil, 0, err
	}
	n, err := unix.ReadDirent(fd, buf)
	if err != nil || n == 0 {
		return nil, at, err
	}
	if next, err = unix.Seek(fd, 0, unix.SEEK_CUR); err != nil {
		return nil, 0, err
	}
	_, _, names = unix.ParseDirent(buf[:n], -1, nil)
	return names, next, nil
}

// MoveAll moves all that is in the tree's root into the other's, which has no
// such names and is on the same file system. The roots' own attributes are the
// caller's; a flag of theirs that forbids it is cleared. each is called after
// each name and ends it with its error. It may be called again to go on.
func (t *Tree) MoveAll(to *Tree, each func() error) error {
	defer t.Forget(op.Root)
	defer to.Forget(op.Root)
	for _, root := range []*Tree{t, to} {
		if err := (At{FD: int(root.root.Fd()), Name: "."}).clearLocks(); err != nil {
			return pathError("clear the inode flags of", root.dir, err)
		}
	}
	return t.drain(op.Root, func(at At) error {
		// A lock goes with the object. The directory has none any more.
		err := at.despiteLock(func() error {
			return unix.Renameat2(at.FD, at.Name, int(to.root.Fd()), at.Name, unix.RENAME_NOREPLACE)
		})
		if err != nil {
			return fmt.Errorf("move to %s: %w", to.dir, err)
		}
		return each()
	})
}

// Clear removes all that is in the tree. each is called after each object and
// ends it with its error.
func (t *Tree) Clear(each func() error) error { return t.clear(op.Root, each) }

func (t *Tree) clear(path string, each func() error) error {
	defer t.Forget(path)
	return t.drain(path, func(at At) error {
		below := op.JoinPath(path, at.Name)
		var st unix.Stat_t
		if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := t.clear(below, each); err != nil {
				return err
			}
		}
		if err := removeAt(at.FD, at.Name); err != nil {
			return err
		}
		return each()
	})
}

// drain calls take, which takes the object away, for all that is in a directory,
// until that is empty. It has some of the names at a time.
func (t *Tree) drain(path string, take func(At) error) error {
	at, err := t.At(op.JoinPath(path, "."))
	if err != nil {
		return err
	}
	defer at.Close()
	dir := At{FD: at.FD, Name: "."}
	if err := dir.clearLocks(); err != nil {
		return pathError("clear the inode flags of", path, err)
	}
	fd, err := openat(at.FD, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		return pathError("open directory", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	buf := make([]byte, 16<<10)
	for place, taken := int64(0), 0; ; {
		names, next, err := someNames(f, place, buf)
		if err != nil {
			return pathError("read directory", path, err)
		}
		for _, name := range names {
			if err := take(At{FD: at.FD, Name: name}); err != nil {
				return pathError("take away", op.JoinPath(path, name), err)
			}
			taken++
		}
		switch {
		case next != place:
			place = next
		case taken > 0: // from the start again: a place means little in a directory that changes
			place, taken = 0, 0
		default:
			return nil
		}
	}
}
