package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// DigestSize is the length of a region's digest in bytes: 12 of the content,
// with holes read as zeros, and 4 of where the holes are. Two files with equal
// content can differ in holes without anybody's fault (ext4 may fill a small
// unwritten extent with zeros when it likes), so a comparison can tell the two
// apart. Part of the wire format.
const DigestSize = contentSize + 4

const contentSize = 12

// extent is a range of a file that is data.
type extent struct{ start, end int64 }

// openRegular opens a regular file and returns its size. Nothing else is ever
// opened: with a device that alone may have effects.
func (t *Tree) openRegular(path string, flags int) (int, int64, error) {
	at, err := t.At(path)
	if err != nil {
		return -1, 0, err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, 0, pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, 0, pathError("open as a regular file", path, unix.ENXIO)
	}
	fd, err := openat(at.FD, at.Name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return -1, 0, pathError("open", path, err)
	}
	return fd, st.Size, nil
}

// openData opens a regular file for reading and returns its size.
func (t *Tree) openData(path string) (*os.File, int64, error) {
	t.Waits()
	fd, size, err := t.openRegular(path, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return nil, 0, err
	}
	return os.NewFile(uintptr(fd), path), size, nil
}

// extents returns the data within [start, end).
func extents(fd int, start, end int64) ([]extent, error) {
	var all []extent
	for at := start; at < end; {
		data, hole, err := nextExtent(fd, at)
		if err != nil {
			return nil, err
		}
		if data >= end {
			break
		}
		all = append(all, extent{data, min(hole, end)})
		at = hole
	}
	return all, nil
}

// nextExtent returns where the next data at or behind at begins and ends. If
// there is none, both are the largest offset there is.
func nextExtent(fd int, at int64) (data, hole int64, err error) {
	if data, err = unix.Seek(fd, at, unix.SEEK_DATA); err == nil {
		hole, err = unix.Seek(fd, data, unix.SEEK_HOLE)
	}
	if errors.Is(err, unix.ENXIO) { // the second time it was cut off meanwhile
		return math.MaxInt64, math.MaxInt64, nil
	}
	return data, hole, err
}

// Digests returns one digest for each region of the file at path that begins
// in [off, off+n) and before its end. Off is aligned to op.RegionSize.
func (t *Tree) Digests(path string, off, n int64) ([]byte, error) {
	f, size, err := t.openData(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end := min(off+n, size)
	if off >= end {
		return nil, nil
	}
	data, err := extents(int(f.Fd()), off, end)
	if err != nil {
		return nil, pathError("find holes of", path, err)
	}
	d := digester{f: f, buf: make([]byte, op.RegionSize)}
	var digests []byte
	for ; off < end; off += op.RegionSize {
		for len(data) > 0 && data[0].end <= off {
			data = data[1:]
		}
		if digests, err = d.region(digests, off, min(off+op.RegionSize, end), data); err != nil {
			return nil, pathError("read", path, err)
		}
	}
	return digests, nil
}

// digester computes digests of one file's regions.
type digester struct {
	f    *os.File
	buf  []byte
	hole []byte // digest of a whole region that is a hole, once there was one
}

// region appends the digest of [start, end), of which data, and maybe more
// behind it, is not a hole.
func (d *digester) region(dst []byte, start, end int64, data []extent) ([]byte, error) {
	whole := end-start == op.RegionSize
	empty := len(data) == 0 || data[0].start >= end
	if whole && empty && d.hole != nil {
		return append(dst, d.hole...), nil
	}
	buf := d.buf[:end-start]
	clear(buf)
	var layout []byte
	for _, e := range data {
		from, to := max(e.start, start), min(e.end, end)
		if from >= to {
			break
		}
		layout = binary.LittleEndian.AppendUint32(layout, uint32(from-start))
		layout = binary.LittleEndian.AppendUint32(layout, uint32(to-start))
		// A file that is cut off while it is read ends in zeros here; whoever
		// needs exactness holds it.
		if _, err := d.f.ReadAt(buf[from-start:to-start], from); err != nil && err != io.EOF {
			return nil, err
		}
	}
	content := xxh3.Hash128(buf).Bytes()
	dst = append(dst, content[:contentSize]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(xxh3.Hash(layout)))
	if whole && empty {
		d.hole = bytes.Clone(dst[len(dst)-DigestSize:])
	}
	return dst, nil
}

// Check compares the regions that o, of kind Check, has digests of, or that it
// says are all hole (no digests, but a length) or none of them (Arg is 1), with
// those of the file here, and returns the offsets of those that differ. A file
// that is not there, or not a file, differs in all.
func (t *Tree) Check(o *op.Op) ([]int64, error) {
	return t.check(o, DigestSize)
}

// check compares the first part bytes of each digest.
func (t *Tree) check(o *op.Op, part int) ([]int64, error) {
	if err := checkPaths(o); err != nil {
		return nil, err
	}
	if o.Off < 0 || o.Off%op.RegionSize != 0 || len(o.Data)%DigestSize != 0 {
		return nil, fmt.Errorf("check %q: offset %d, %d bytes of digests: %w", o.Path, o.Off, len(o.Data), unix.EINVAL)
	}
	switch {
	case len(o.Data) > 0:
	case o.Arg == 1:
		return t.checkNoHole(o, part)
	default:
		return t.checkHole(o, part)
	}
	count := len(o.Data) / DigestSize
	have, err := t.Digests(o.Path, o.Off, int64(count)*op.RegionSize)
	if err != nil && !missing(err) && !errors.Is(err, unix.ENXIO) {
		return nil, err
	}
	var differ []int64
	for i := range count {
		at := i * DigestSize
		if len(have) < at+DigestSize || string(have[at:at+part]) != string(o.Data[at:at+part]) {
			differ = append(differ, o.Off+int64(i)*op.RegionSize)
		}
	}
	return differ, nil
}

// checkHole is check for a range that is one hole on the other side.
func (t *Tree) checkHole(o *op.Op, part int) ([]int64, error) {
	f, size, err := t.openData(o.Path)
	if missing(err) || errors.Is(err, unix.ENXIO) {
		return []int64{o.Off}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := extents(int(f.Fd()), o.Off, min(o.Off+o.Len, size))
	if err != nil {
		return nil, pathError("find holes of", o.Path, err)
	}
	var differ []int64
	d := digester{f: f, buf: make([]byte, op.RegionSize)}
	for _, e := range data {
		for at := e.start / op.RegionSize * op.RegionSize; at < e.end; at += op.RegionSize {
			if len(differ) > 0 && differ[len(differ)-1] == at {
				continue
			}
			if part == contentSize {
				// Data that is zeros is as good as a hole.
				end := min(at+op.RegionSize, size)
				is, err := d.region(nil, at, end, []extent{e})
				if err != nil {
					return nil, pathError("read", o.Path, err)
				}
				hole, err := (&digester{buf: d.buf}).region(nil, at, end, nil)
				if err != nil || bytes.Equal(is[:contentSize], hole[:contentSize]) {
					continue
				}
			}
			differ = append(differ, at)
		}
	}
	return differ, nil
}

// NextData returns where the first region from off on begins that is not all
// hole, or, if there is none, where the next region behind the end of the file
// would begin. Off is aligned to op.RegionSize.
func (t *Tree) NextData(path string, off int64) (int64, error) {
	f, size, err := t.openData(path)
	if err != nil {
		return off, err
	}
	defer f.Close()
	end := (size + op.RegionSize - 1) / op.RegionSize * op.RegionSize
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return max(off, end), nil
	case err != nil:
		return off, pathError("find holes of", path, err)
	}
	return max(off, data/op.RegionSize*op.RegionSize), nil
}

// checkNoHole is check for a range of which no region is all hole on the other
// side.
func (t *Tree) checkNoHole(o *op.Op, part int) ([]int64, error) {
	if part == contentSize {
		return nil, nil
	}
	var differ []int64
	for off := o.Off; off < o.Off+o.Len; {
		from, to, err := t.NextHole(o.Path, off)
		if missing(err) || errors.Is(err, unix.ENXIO) {
			return []int64{o.Off}, nil
		}
		if err != nil {
			return nil, err
		}
		if from == to {
			break
		}
		for at := from; at < min(to, o.Off+o.Len); at += op.RegionSize {
			differ = append(differ, at)
		}
		off = to
	}
	return differ, nil
}

// NextHole returns the next regions in a row, from off on, that are all hole, or
// zeros that were never written. If no more are the range is empty and at the
// end of the file. Off is aligned to op.RegionSize, and so are they, if need be
// beyond the end.
func (t *Tree) NextHole(path string, off int64) (from, to int64, err error) {
	f, size, err := t.openData(path)
	if err != nil {
		return off, off, err
	}
	defer f.Close()
	roundUp := func(n int64) int64 { return (n + op.RegionSize - 1) / op.RegionSize * op.RegionSize }
	from = off
	for at := off; at < size; {
		data, hole, err := nextExtent(int(f.Fd()), at)
		if err != nil {
			return off, off, pathError("find holes of", path, err)
		}
		if data >= size {
			break
		}
		written, err := written(f, extent{data, hole})
		if err != nil {
			return off, off, pathError("find holes of", path, err)
		}
		for _, e := range written {
			if to = e.start / op.RegionSize * op.RegionSize; to > from {
				return from, to, nil
			}
			from = roundUp(e.end)
		}
		at = hole
	}
	end := max(off, roundUp(size))
	return min(from, end), end, nil
}

// maxWrite bounds the data of one emitted Write.
const maxWrite = 1 << 20

// PutRange emits the ops that make [off, off+n) of the file at path, as far as
// it goes, equal on the other side, holes included. It emits nothing only
// where the file has ended. The data of an emitted op is valid until emit
// returns.
func (t *Tree) PutRange(path string, off, n int64, emit func(*op.Op) error) error {
	f, size, err := t.openData(path)
	if err != nil {
		return err
	}
	defer f.Close()
	end := min(off+n, size)
	if off >= end {
		return nil
	}
	data, err := extents(int(f.Fd()), off, end)
	if err != nil {
		return pathError("find holes of", path, err)
	}
	if len(data) != 1 || data[0] != (extent{off, end}) {
		punch := end - off
		if end == size {
			// Beyond the end: a hole of less than a block would stay data.
			punch = (punch + op.RegionSize - 1) / op.RegionSize * op.RegionSize
		}
		err := emit(&op.Op{Kind: op.Fallocate, Path: path, Off: off, Len: punch, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE})
		if err != nil {
			return err
		}
	}
	if end == size && (len(data) == 0 || data[len(data)-1].end < end) {
		// It ends in a hole, which no write makes.
		if err := emit(&op.Op{Kind: op.Truncate, Path: path, Attr: op.Attr{Valid: op.AttrSize, Size: size}}); err != nil {
			return err
		}
	}
	var buf []byte
	for _, e := range data {
		for at := e.start; at < e.end; {
			k := min(e.end-at, maxWrite)
			if int64(len(buf)) < k {
				buf = make([]byte, k)
			}
			got, err := f.ReadAt(buf[:k], at)
			if err != nil && err != io.EOF {
				return pathError("read", path, err)
			}
			if got == 0 {
				return nil // cut off meanwhile
			}
			if err := emit(&op.Op{Kind: op.Write, Path: path, Off: at, Data: buf[:got]}); err != nil {
				return err
			}
			at += int64(got)
		}
	}
	return nil
}
