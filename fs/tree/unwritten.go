package tree

import (
	"bytes"
	"errors"
	"io"
	"os"
	"unsafe"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Space that was allocated and never written counts as data for lseek(2) as soon
// as somebody has read it: what is in memory may be newer than the disk (Linux,
// fs/iomap/seek.c). XFS allocates such space behind the end of a file that grows,
// without being asked. A comparison of holes that took it for data would not look
// at what another replica has in its place.

// fiemap is struct fiemap of linux/fiemap.h, with room for some extents.
type fiemap struct {
	start, length           uint64
	flags, mapped, count, _ uint32
	extents                 [64]struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
}

const (
	fsIocFiemap     = 0xC020660B // _IOWR('f', 11, struct fiemap)
	extentUnwritten = 0x800      // FIEMAP_EXTENT_UNWRITTEN
	extentLast      = 0x1        // FIEMAP_EXTENT_LAST
)

// written returns what of e, which is data for lseek(2), was written: all but
// regions of unwritten space that read as zeros.
func written(f *os.File, e extent) ([]extent, error) {
	all := []extent{e}
	for at := e.start; at < e.end; {
		m := fiemap{start: uint64(at), length: uint64(e.end - at)}
		m.count = uint32(len(m.extents))
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&m)))
		if errno != 0 || m.mapped == 0 {
			break // a file system that does not tell, or has not yet decided
		}
		for _, x := range m.extents[:m.mapped] {
			at = int64(x.logical + x.length)
			if x.flags&extentUnwritten == 0 {
				continue
			}
			var err error
			if all, err = withoutZeros(f, all, extent{max(int64(x.logical), e.start), min(at, e.end)}); err != nil {
				return nil, err
			}
		}
		if m.extents[m.mapped-1].flags&extentLast != 0 {
			break
		}
	}
	return all, nil
}

// withoutZeros takes the regions of the unwritten extent u that read as zeros out
// of data, whose last extent holds u.
func withoutZeros(f *os.File, data []extent, u extent) ([]extent, error) {
	buf, zeros := make([]byte, op.RegionSize), make([]byte, op.RegionSize)
	for at := u.start; at < u.end; {
		end := min(at/op.RegionSize*op.RegionSize+op.RegionSize, u.end)
		n, err := f.ReadAt(buf[:end-at], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if bytes.Equal(buf[:n], zeros[:n]) {
			last := &data[len(data)-1]
			behind := extent{end, last.end}
			if last.end = at; last.start == last.end {
				data = data[:len(data)-1]
			}
			if behind.start == behind.end {
				break
			}
			data = append(data, behind)
		}
		at = end
	}
	return data, nil
}
