package tree

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Diff returns every difference between two trees that nobody changes: names,
// types, modes, owners, devices, xattrs, sizes, content, holes, mtimes, and
// which names are of one file. It is for tests and for people.
func Diff(a, b *Tree) ([]string, error) {
	d := differ{a: a, b: b, groups: make(map[Inode]Inode), back: make(map[Inode]Inode)}
	if err := d.object(op.Root); err != nil {
		return nil, err
	}
	return d.found, nil
}

type differ struct {
	a, b         *Tree
	groups, back map[Inode]Inode // which file of one is which of the other
	found        []string
}

func (d *differ) say(path, format string, args ...any) {
	d.found = append(d.found, fmt.Sprintf("%q: %s", path, fmt.Sprintf(format, args...)))
}

func (d *differ) object(path string) error {
	x, idX, err := d.a.Describe(path)
	if err != nil {
		return err
	}
	y, idY, err := d.b.Describe(path)
	if err != nil {
		return err
	}
	for _, s := range Differences(x, y, "the other has") {
		d.say(path, "%s", s)
	}
	if x.Attr.Mode&unix.S_IFMT != y.Attr.Mode&unix.S_IFMT {
		return nil
	}
	switch x.Attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return d.directory(path)
	case unix.S_IFREG:
		err = d.data(path, x.Attr.Size, y.Attr.Size)
	}
	d.links(path, idX, idY)
	return err
}

func (d *differ) directory(path string) error {
	x, err := d.a.Names(path)
	if err != nil {
		return err
	}
	y, err := d.b.Names(path)
	if err != nil {
		return err
	}
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Name < y[0].Name:
			d.say(op.JoinPath(path, x[0].Name), "the other has it not")
			x = x[1:]
		case len(x) == 0 || y[0].Name < x[0].Name:
			d.say(op.JoinPath(path, y[0].Name), "only the other has it")
			y = y[1:]
		default:
			if err := d.object(op.JoinPath(path, x[0].Name)); err != nil {
				return err
			}
			x, y = x[1:], y[1:]
		}
	}
	return nil
}

// links notes which files correspond, and says so where that is not one to one.
func (d *differ) links(path string, x, y Inode) {
	if x.Nlink != y.Nlink {
		d.say(path, "has %d names, the other has %d", x.Nlink, y.Nlink)
	}
	there, seen := d.groups[x.Key()]
	here, taken := d.back[y.Key()]
	if seen && there != y.Key() || taken && here != x.Key() {
		d.say(path, "is not tied to the same names")
	}
	d.groups[x.Key()], d.back[y.Key()] = y.Key(), x.Key()
}

func (d *differ) data(path string, sizeX, sizeY int64) error {
	const step = 64 * op.RegionSize
	for off := int64(0); off < min(sizeX, sizeY); off += step {
		x, err := d.a.Digests(path, off, step)
		if err != nil {
			return err
		}
		y, err := d.b.Digests(path, off, step)
		if err != nil {
			return err
		}
		for at := 0; at < min(len(x), len(y)); at += DigestSize {
			region := off + int64(at/DigestSize*op.RegionSize)
			switch {
			case !bytes.Equal(x[at:at+contentSize], y[at:at+contentSize]):
				d.say(path, "content differs in bytes %d-%d", region, region+op.RegionSize-1)
			case !bytes.Equal(x[at:at+DigestSize], y[at:at+DigestSize]):
				if same, err := d.sameOnDisk(path, region); err != nil {
					return err
				} else if !same {
					d.say(path, "holes differ in bytes %d-%d", region, region+op.RegionSize-1)
				}
			}
		}
	}
	return nil
}

// sameOnDisk compares one region again with nothing of it in memory: a page of
// an unwritten extent counts as data merely because somebody has read it
// (Linux, fs/iomap/seek.c).
func (d *differ) sameOnDisk(path string, region int64) (bool, error) {
	var digests [2][]byte
	for i, t := range []*Tree{d.a, d.b} {
		f, _, err := t.openData(path)
		if err != nil {
			return false, err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		if err != nil {
			return false, pathError("drop from memory", path, err)
		}
		if digests[i], err = t.Digests(path, region, op.RegionSize); err != nil {
			return false, err
		}
	}
	return bytes.Equal(digests[0], digests[1]), nil
}
