package tree

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Difference is one that Compare has found.
type Difference struct {
	What    string  // in words, about the op's path
	Path    string  // the object that is different
	Regions []int64 // of its data that are different: offsets
}

// about makes differences of one object.
func about(path string, what []string) []Difference {
	var all []Difference
	for _, w := range what {
		all = append(all, Difference{What: w, Path: path})
	}
	return all
}

// Compare says how what is here differs from what a repair op describes. It
// changes nothing. Data is read from the disk, where it is not newer in memory:
// what the kernel keeps of a file hides what became of it there.
func (t *Tree) Compare(o *op.Op) ([]Difference, error) {
	if err := checkPaths(o); err != nil {
		return nil, err
	}
	switch o.Kind {
	case op.Put:
		what, err := t.comparePut(o)
		return about(o.Path, what), err
	case op.PutLink:
		same, err := t.sameFile(o.Path, o.Path2)
		switch {
		case missing(err):
			return about(o.Path2, []string{"is missing"}), nil // the other is what has to be tied to it
		case err != nil || same:
			return nil, err
		}
		return about(o.Path2, []string{fmt.Sprintf("and %q are not names of one file", o.Path2)}), nil
	case op.PutNames:
		return t.compareNames(o)
	case op.Check:
		return t.compareData(o)
	}
	return nil, fmt.Errorf("compare %s: %w", o.Kind, unix.EINVAL)
}

func (t *Tree) comparePut(o *op.Op) ([]string, error) {
	here, _, err := t.Describe(o.Path)
	if missing(err) {
		return []string{"is missing"}, nil
	}
	if err != nil {
		return nil, err
	}
	all := Differences(here, o, "the primary has")
	if o.Arg == 1 && here.Arg > 1 {
		all = append(all, fmt.Sprintf("has %d names, the primary has just this one", here.Arg))
	}
	return all, nil
}

// Differences says how one Put differs from another, whose side is called by
// other.
func Differences(here, there *op.Op, other string) []string {
	a, b := here.Attr, there.Attr
	if x, y := TypeName(a.Mode), TypeName(b.Mode); x != y {
		return []string{fmt.Sprintf("is a %s, %s a %s", x, other, y)}
	}
	var all []string
	differ := func(is bool, what string, x, y any) {
		if is {
			all = append(all, fmt.Sprintf("%s is %v, %s %v", what, x, other, y))
		}
	}
	differ(a.Mode != b.Mode, "mode", fmt.Sprintf("%04o", a.Mode&0o7777), fmt.Sprintf("%04o", b.Mode&0o7777))
	differ(a.UID != b.UID, "owner", a.UID, b.UID)
	differ(a.GID != b.GID, "group", a.GID, b.GID)
	differ(a.Rdev != b.Rdev, "device", fmt.Sprintf("%#x", a.Rdev), fmt.Sprintf("%#x", b.Rdev))
	differ(a.Size != b.Size, "size", a.Size, b.Size)
	differ(a.Flags != b.Flags, "inode flags", fmt.Sprintf("%#x", a.Flags), fmt.Sprintf("%#x", b.Flags))
	differ(a.Mtime != b.Mtime, "mtime", timeText(a.Mtime), timeText(b.Mtime))
	differ(!bytes.Equal(here.Data, there.Data), "link text", strconv.Quote(string(here.Data)), strconv.Quote(string(there.Data)))
	for _, x := range here.Xattrs {
		i := slices.IndexFunc(there.Xattrs, func(y op.Xattr) bool { return y.Name == x.Name })
		if i < 0 {
			all = append(all, fmt.Sprintf("xattr %q is there, %s none", x.Name, other))
		} else {
			y := there.Xattrs[i]
			differ(!bytes.Equal(x.Value, y.Value), "xattr "+strconv.Quote(x.Name), strconv.Quote(string(x.Value)), strconv.Quote(string(y.Value)))
		}
	}
	for _, y := range there.Xattrs {
		if !slices.ContainsFunc(here.Xattrs, func(x op.Xattr) bool { return x.Name == y.Name }) {
			all = append(all, fmt.Sprintf("xattr %q is missing", y.Name))
		}
	}
	return all
}

func timeText(t op.Time) string {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC().Format(time.RFC3339Nano)
}

// TypeName is what a user calls an object with this st_mode.
func TypeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return fmt.Sprintf("thing of type %#o", mode&unix.S_IFMT)
}

func (t *Tree) compareNames(o *op.Op) ([]Difference, error) {
	extra, err := t.extraNames(o)
	if missing(err) {
		return about(o.Path, []string{"is missing, or no directory"}), nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := t.Names(o.Path)
	if err != nil {
		return nil, err
	}
	var all []Difference
	for _, name := range extra {
		all = append(all, Difference{What: fmt.Sprintf("extra name %q", name), Path: op.JoinPath(o.Path, name)})
	}
	for _, name := range o.Names {
		if _, ok := slices.BinarySearchFunc(entries, name, func(e Entry, n string) int { return strings.Compare(e.Name, n) }); !ok {
			all = append(all, Difference{What: fmt.Sprintf("name %q is missing", name), Path: op.JoinPath(o.Path, name)})
		}
	}
	return all, nil
}

// compareData names the ranges whose content differs. Where just the holes
// differ nothing is wrong.
func (t *Tree) compareData(o *op.Op) ([]Difference, error) {
	if err := t.Cold(o.Path, o.Off, max(o.Len, int64(len(o.Data)/DigestSize*op.RegionSize))); err != nil && !missing(err) && !errors.Is(err, unix.ENXIO) {
		return nil, err
	}
	differ, err := t.check(o, contentSize)
	if err != nil {
		return nil, err
	}
	var all []Difference
	for i := 0; i < len(differ); {
		first, from, to := i, differ[i], differ[i]+op.RegionSize
		for i++; i < len(differ) && differ[i] == to; i++ {
			to += op.RegionSize
		}
		all = append(all, Difference{What: fmt.Sprintf("content differs in bytes %d-%d", from, to-1), Path: o.Path, Regions: differ[first:i]})
	}
	return all, nil
}
