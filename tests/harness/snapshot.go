package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot is everything about a directory that a replica must have, by path.
// It is read with plain system calls and shares no code with what it checks.
type Snapshot map[string]Object

// Object is one object of a Snapshot.
type Object struct {
	Mode     uint32
	UID, GID uint32
	Rdev     uint64
	Nlink    uint64
	Size     int64 // of files and symbolic links: a directory's depends on its past
	Mtime    unix.Timespec
	Link     string // a symbolic link's text
	Xattrs   string // all of them, sorted
	Sum      string // of a file's bytes that are not zero, and where they are
	Data     string // where SEEK_DATA and SEEK_HOLE find data
	First    string // the first path of the same inode
}

// Aspects says what Differences leaves out.
type Aspects struct {
	// ClockMtimes leaves out the mtimes that the clock has set. Those set by
	// hand are told by being before ExplicitBefore.
	ClockMtimes bool
	// Holes leaves out where the holes are.
	Holes bool
}

// ExplicitBefore is the second before which lie all times that tests set by
// hand, and after which lie those that a clock has set.
const ExplicitBefore = 1_200_000_000

// ReadSnapshot reads the tree below dir. Times of last access and change are
// not part of it.
func ReadSnapshot(dir string) (Snapshot, error) {
	s := Snapshot{}
	inodes := map[uint64]string{}
	if err := s.read(dir, ".", inodes); err != nil {
		return nil, err
	}
	return s, nil
}

func (s Snapshot) read(dir, path string, inodes map[uint64]string) error {
	full := dir + "/" + path
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return fmt.Errorf("stat %q: %w", full, err)
	}
	o := Object{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev, Nlink: st.Nlink, Mtime: st.Mtim}
	if first, ok := inodes[st.Ino]; ok {
		o.First = first
	} else {
		o.First = path
		inodes[st.Ino] = path
	}
	var err error
	if o.Xattrs, err = readXattrs(full); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		o.Size = st.Size
		buf := make([]byte, 4096)
		n, err := unix.Readlink(full, buf)
		if err != nil {
			return fmt.Errorf("readlink %q: %w", full, err)
		}
		o.Link = string(buf[:n])
	case unix.S_IFREG:
		o.Size = st.Size
		if o.Sum, o.Data, err = readContent(full); err != nil {
			return err
		}
	}
	s[path] = o
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	names, err := ReadNames(full)
	if err != nil {
		return err
	}
	for _, name := range names {
		below := name
		if path != "." {
			below = path + "/" + name
		}
		if err := s.read(dir, below, inodes); err != nil {
			return err
		}
	}
	return nil
}

// ReadNames returns the sorted names in a directory.
func ReadNames(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", dir, err)
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return nil, fmt.Errorf("reading directory %q: %w", dir, err)
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func readXattrs(path string) (string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || size == 0 && err == nil {
		return "", nil
	}
	list := make([]byte, size)
	if err == nil {
		size, err = unix.Llistxattr(path, list)
	}
	if err != nil {
		return "", fmt.Errorf("listing xattrs of %q: %w", path, err)
	}
	names := strings.Split(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00")
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("xattr %q of %q: %w", name, path, err)
		}
		fmt.Fprintf(&out, "%s=%q ", name, value[:n])
	}
	return out.String(), nil
}

// readContent returns a digest of a file's bytes, the same whatever holes it
// has, and a list of its data segments.
func readContent(path string) (sum, data string, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", "", fmt.Errorf("open %q: %w", path, err)
	}
	defer unix.Close(fd)
	const block = 4096
	var zero, buf []byte // made for a file that has data: others are many
	hash := sha256.New()
	var segments strings.Builder
	first, last := int64(0), int64(-1) // segments that touch are one
	for off := int64(0); ; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return "", "", fmt.Errorf("seeking data in %q from %d: %w", path, off, err)
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return "", "", fmt.Errorf("seeking a hole in %q from %d: %w", path, start, err)
		}
		if buf == nil {
			zero, buf = make([]byte, block), make([]byte, 64*block)
		}
		if start != last {
			if last >= 0 {
				fmt.Fprintf(&segments, "%d-%d ", first, last)
			}
			first = start
		}
		last = end
		for at := start &^ (block - 1); at < end; {
			n, err := unix.Pread(fd, buf[:min(int64(len(buf)), end-at)], at)
			if err != nil {
				return "", "", fmt.Errorf("reading %q at %d: %w", path, at, err)
			}
			if n == 0 {
				break
			}
			for i := 0; i < n; i += block {
				part := buf[i:min(i+block, n)]
				if bytes.Equal(part, zero[:len(part)]) {
					continue
				}
				binary.Write(hash, binary.LittleEndian, at+int64(i))
				hash.Write(bytes.TrimRight(part, "\x00"))
			}
			at += int64(n)
		}
		off = end
	}
	if last >= 0 {
		fmt.Fprintf(&segments, "%d-%d ", first, last)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:8]), segments.String(), nil
}

// Differences returns a sentence for each thing in which two snapshots differ.
func Differences(a, b Snapshot, without Aspects) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(a)) {
		other, ok := b[path]
		if !ok {
			out = append(out, fmt.Sprintf("%q is only in the first", path))
			continue
		}
		x, y := a[path].reduced(without), other.reduced(without)
		if x != y {
			out = append(out, fmt.Sprintf("%q differs:\n\t%+v\n\t%+v", path, x, y))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[path]; !ok {
			out = append(out, fmt.Sprintf("%q is only in the second", path))
		}
	}
	return out
}

// reduced returns o without what is not compared.
func (o Object) reduced(without Aspects) Object {
	if without.Holes {
		o.Data = ""
	}
	if without.ClockMtimes && o.Mtime.Sec >= ExplicitBefore {
		o.Mtime = unix.Timespec{Sec: ExplicitBefore}
	}
	return o
}
