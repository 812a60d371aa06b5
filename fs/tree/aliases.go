package tree

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Aliases calls found for every name in the tree, but for directories, whose
// inode number is wanted. It reads directories and nothing else: a million names
// take a second or two. Whatever is renamed meanwhile may be missed, and a number
// may be of another file system that is mounted in the tree.
func (t *Tree) Aliases(wanted func(ino uint64) bool, found func(path string, ino uint64) error) error {
	err := t.aliases(op.Root, make([]byte, 64<<10), wanted, found)
	if missing(err) {
		return nil
	}
	return err
}

func (t *Tree) aliases(dir string, buf []byte, wanted func(uint64) bool, found func(string, uint64) error) error {
	t.Waits()
	f, err := t.openList(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var below []string
	for {
		n, err := unix.Getdents(int(f.Fd()), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return pathError("read directory", dir, err)
		}
		if n == 0 {
			break
		}
		for e := range entriesIn(buf[:n]) {
			path := op.JoinPath(dir, e.name)
			kind := e.kind
			if kind == unix.DT_UNKNOWN {
				st, err := t.Stat(path)
				if missing(err) {
					continue
				}
				if err != nil {
					return err
				}
				kind = uint8(st.Mode & unix.S_IFMT >> 12)
			}
			if kind == unix.DT_DIR {
				below = append(below, e.name)
			} else if wanted(e.ino) {
				if err := found(path, e.ino); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range below {
		if err := t.aliases(op.JoinPath(dir, name), buf, wanted, found); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// dirent is one entry as getdents64(2) returns it.
type dirent struct {
	ino  uint64
	kind uint8
	name string
}

// entriesIn yields the entries of a buffer that getdents64(2) has filled, but
// for "." and "..".
func entriesIn(buf []byte) func(yield func(dirent) bool) {
	const length, kind, name = 16, 18, 19 // where these are; the inode comes first
	return func(yield func(dirent) bool) {
		for len(buf) > name {
			size := int(binary.NativeEndian.Uint16(buf[length:]))
			text, _, _ := bytes.Cut(buf[name:size], []byte{0})
			e := dirent{binary.NativeEndian.Uint64(buf), buf[kind], string(text)}
			buf = buf[size:]
			if e.name != "." && e.name != ".." && !yield(e) {
				return
			}
		}
	}
}
