package tree

import (
	"errors"
	"io/fs"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Reread has the data of the file at path read from the disk again, and with
// below that of all files below it. After a write-back that failed the kernel
// takes its pages for clean: what is read is what was written, until they are
// dropped, and no fsync tries again. The caller has called Sync, so that whatever
// is dirty yet is not lost by it.
//
// What is not a regular file is passed over: of names and attributes a file
// system whose disk fails them shows nothing else than what it has.
func (t *Tree) Reread(path string, below bool) error {
	return t.WalkFrom(path, func(at string, put *op.Op, _ Inode) error {
		switch put.Attr.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if err := t.reread(at); !missing(err) {
				return err
			}
		case unix.S_IFDIR:
			if !below {
				return fs.SkipDir
			}
		}
		return nil
	})
}

func (t *Tree) reread(path string) error {
	f, _, err := t.openData(path)
	if errors.Is(err, unix.ENXIO) {
		return nil // something else stands there now
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return pathError("drop cached pages of", path, err)
	}
	return nil
}
