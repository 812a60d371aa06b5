package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// SurveySize is the length of a child's digest in a Survey. Part of the wire
// format, as is what it is made of: see child.
const SurveySize = 16

// surveyors is how many children are read at a time: with nothing in memory it
// takes a disk several requests to be busy.
const surveyors = 4

// Survey returns a digest of each of these children of a directory: of all that
// Describe says of it, and, of a file, of its first region, with holes read as
// zeros. A child that is not there has no digest but zeros.
func (t *Tree) Survey(dir string, names []string) ([]byte, error) {
	digests := make([]byte, len(names)*SurveySize)
	var all errgroup.Group
	all.SetLimit(surveyors)
	step := max(1, (len(names)+surveyors-1)/surveyors)
	for from := 0; from < len(names); from += step {
		all.Go(func() error {
			buf := make([]byte, op.RegionSize)
			for i := from; i < min(from+step, len(names)); i++ {
				d, err := t.child(op.JoinPath(dir, names[i]), buf)
				switch {
				case err == nil:
					copy(digests[i*SurveySize:], d[:])
				case !missing(err):
					return err
				}
			}
			return nil
		})
	}
	return digests, all.Wait()
}

// child is the xxh3-128 of what stands at path: the numbers of its Put as
// varints (mode, owner, group, device, size, seconds and nanoseconds of its
// mtime, inode flags, number of names), each text with its length before it
// (link text, name and value of each xattr), and, of a file, the xxh3-128 of its
// first region.
func (t *Tree) child(path string, buf []byte) (digest [SurveySize]byte, err error) {
	put, _, err := t.Describe(path)
	if err != nil {
		return digest, err
	}
	a := &put.Attr
	var b []byte
	for _, n := range []int64{int64(a.Mode), int64(a.UID), int64(a.GID), int64(a.Rdev), a.Size, a.Mtime.Sec, int64(a.Mtime.Nsec), int64(a.Flags), int64(put.Arg)} {
		b = binary.AppendVarint(b, n)
	}
	text := func(s []byte) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(put.Data)
	for _, x := range put.Xattrs {
		text([]byte(x.Name))
		text(x.Value)
	}
	if a.Mode&unix.S_IFMT == unix.S_IFREG && a.Size > 0 {
		f, _, err := t.openData(path)
		if err != nil {
			return digest, err
		}
		n, err := f.ReadAt(buf[:min(a.Size, op.RegionSize)], 0)
		if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
			return digest, pathError("read", path, err)
		}
		content := xxh3.Hash128(buf[:n]).Bytes()
		b = append(b, content[:]...)
	}
	return xxh3.Hash128(b).Bytes(), nil
}

// CheckSurvey compares the children that o, of kind Survey, has digests of with
// what is here, and returns the names of those that differ. With op.Compare it
// reads the disk, as Compare does. Both sides ask the disk for all of them first.
func (t *Tree) CheckSurvey(o *op.Op) ([]string, error) {
	if err := checkPaths(o); err != nil {
		return nil, err
	}
	if len(o.Data) != len(o.Names)*SurveySize {
		return nil, fmt.Errorf("survey of %q: %d names with %d bytes of digests: %w", o.Path, len(o.Names), len(o.Data), unix.EINVAL)
	}
	for _, name := range o.Names {
		if path := op.JoinPath(o.Path, name); op.CheckPath(path) != nil {
			return nil, fmt.Errorf("survey of %q: %q is no name: %w", o.Path, name, unix.EINVAL)
		}
	}
	if err := t.ReadAhead(o.Path, o.Names, o.Flags&op.Compare != 0); err != nil {
		return nil, err
	}
	have, err := t.Survey(o.Path, o.Names)
	if err != nil {
		return nil, err
	}
	var differ []string
	for i, name := range o.Names {
		if at := i * SurveySize; string(have[at:at+SurveySize]) != string(o.Data[at:at+SurveySize]) {
			differ = append(differ, name)
		}
	}
	return differ, nil
}

// ReadAhead brings into memory what Survey reads of these children, several at a
// time. With cold it comes from the disk, as by Cold, and only then there are
// errors: what is just a hint may fail.
func (t *Tree) ReadAhead(dir string, names []string, cold bool) error {
	t.Waits()
	var all errgroup.Group
	all.SetLimit(surveyors)
	for some := range slices.Chunk(names, max(1, (len(names)+surveyors-1)/surveyors)) {
		all.Go(func() error {
			for _, name := range some {
				err := t.readAhead(op.JoinPath(dir, name), cold)
				if err != nil && cold && !missing(err) && !errors.Is(err, unix.ENXIO) {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

func (t *Tree) readAhead(path string, cold bool) error {
	fd, size, err := t.openRegular(path, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return advise(fd, path, 0, min(size, op.RegionSize), cold)
}

// advise has the kernel begin to read [off, off+n) of a file, and before, with
// cold, forget what it has in memory that is not newer than the disk.
func advise(fd int, path string, off, n int64, cold bool) error {
	if n <= 0 {
		return nil // 0 would mean up to the end
	}
	if cold {
		if err := unix.Fadvise(fd, off, n, unix.FADV_DONTNEED); err != nil {
			return pathError("drop from memory", path, err)
		}
	}
	if err := unix.Fadvise(fd, off, n, unix.FADV_WILLNEED); err != nil {
		return pathError("read ahead", path, err)
	}
	return nil
}
