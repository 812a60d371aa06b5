package tree

import (
	"errors"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Cold has the kernel forget what it keeps in memory of [off, off+n) of the file
// at path, unless it is newer than what is on the disk, and begin to read it
// anew.
func (t *Tree) Cold(path string, off, n int64) error {
	f, size, err := t.openData(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return advise(int(f.Fd()), path, off, min(n, size-off), true)
}

// View is what is at a path, for comparing it with what others have there.
type View struct {
	Put     *op.Op // as Describe returns it; nil: there is nothing
	ID      Inode
	Digests [][]byte // of the content of regions, as on the disk; empty beyond the end
}

// View returns what is at path, and digests of the regions at the given offsets
// of it if it is a file.
func (t *Tree) View(path string, regions []int64) (View, error) {
	put, id, err := t.Describe(path)
	if missing(err) {
		return View{Digests: make([][]byte, len(regions))}, nil
	}
	if err != nil {
		return View{}, err
	}
	v := View{Put: put, ID: id}
	for _, off := range regions {
		var digest []byte
		err := t.Cold(path, off, op.RegionSize)
		if err == nil {
			digest, err = t.Digests(path, off, op.RegionSize)
		}
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return View{}, err
		}
		v.Digests = append(v.Digests, digest[:min(len(digest), contentSize)])
	}
	return v, nil
}
