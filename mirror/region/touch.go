package region

import (
	"errors"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Look says what is at a path. It is asked before an op that moves content or
// may make an object anew. Whether the name is Local it says even with an error.
type Look func(path string) (Stat, error)

// Stat is as much of stat(2) as it takes to tell what an op changes.
type Stat struct {
	Mode  uint32 // type and permissions
	Links uint32 // names
	Size  int64  // bytes
	Ino   uint64
	Local bool // mirrors do not know this name
	// Names returns some of the names in a directory, so many at most. It may be
	// nil.
	Names func(most int) []string
}

// maxTouched is how many marks one op makes at most.
const maxTouched = 7

// touched are the marks of one op. It is a value, so that no op has to
// allocate.
type touched struct {
	marks [maxTouched]Mark
	n     int
	// left is a name that goes, of a file that has others.
	left string
	ino  uint64 // of that file
}

func (t *touched) add(m Mark) {
	t.marks[t.n] = m
	t.n++
}

func (t *touched) all() []Mark { return t.marks[:t.n] }

// entriesOf marks the names of the directory that holds path.
func (t *touched) entriesOf(path string) {
	if path == op.Root {
		t.add(Mark{Path: path})
		return
	}
	dir, _ := op.SplitPath(path)
	t.add(Mark{Path: dir, Scope: Entries})
}

// moved marks what comes to path from somewhere else: all of it, since what the
// other side has at path is of another object.
func (t *touched) moved(path string, of Stat) {
	switch of.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		t.add(Mark{Path: path, Scope: Tree})
	case unix.S_IFREG:
		if m := allOf(path, of); m.Scope == Object { // otherwise the directory's mark covers it
			t.add(m)
		}
	}
}

// allOf marks all of a file. The mark of its directory covers a small one: what
// is behind its end is a hole.
func allOf(path string, of Stat) Mark {
	if of.Size <= op.RegionSize {
		dir, _ := op.SplitPath(path)
		return Mark{Path: dir, Scope: Entries}
	}
	return Mark{Path: path, To: End}
}

// touch returns what o is about to change, as a comparison would have to look
// at it if o were lost or done here alone (RULES.md 1). Where look fails the
// answer is wide.
func touch(o *op.Op, look Look) touched {
	var t touched
	if o.Path == "" && o.Path2 == "" || o.Flags&op.Compare != 0 {
		return t
	}
	switch o.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink, op.Rmdir:
		t.entriesOf(o.Path)
	case op.Unlink:
		t.entriesOf(o.Path)
		t.leaves(o.Path, look)
	case op.Link:
		if o.Path != "" {
			t.add(Mark{Path: o.Path}) // it has one name more
		}
		t.entriesOf(o.Path2)
		t.moved(o.Path2, seen(look, o.Path))
	case op.Rename, op.Hint:
		t.rename(o, look)
	case op.Write:
		t.add(Mark{Path: o.Path, From: o.Off, To: o.Off + int64(len(o.Data))})
	case op.Truncate:
		t.add(Mark{Path: o.Path, From: o.Attr.Size, To: End, cut: true})
	case op.Fallocate:
		t.fallocate(o)
	case op.CopyRange:
		if o.Path2 != "" {
			t.add(Mark{Path: o.Path2, From: o.Off2, To: o.Off2 + o.Len})
		}
	case op.SetAttr, op.SetXattr, op.RemoveXattr:
		t.add(Mark{Path: o.Path})
	case op.Fsync:
		if o.Attr.Valid != 0 {
			t.add(Mark{Path: o.Path})
		}
	case op.Adopt:
		t.adopt(o.Path, look)
	case op.Put:
		t.put(o, look)
	case op.PutLink:
		t.add(Mark{Path: o.Path})
		t.entriesOf(o.Path2)
	case op.PutNames:
		t.add(Mark{Path: o.Path, Scope: Entries})
	}
	return t
}

// Absent reports whether an error of a lookup says that nothing is there.
func Absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENAMETOOLONG)
}

// sight is touch where look may fail, of a process that is out of descriptors for
// one, and the op not: then it may change anything.
func sight(o *op.Op, look Look) touched {
	blind := false
	t := touch(o, func(path string) (Stat, error) {
		st, err := look(path)
		errno := unix.Errno(0)
		blind = blind || errors.As(err, &errno) && !Absent(err)
		return st, err
	})
	if blind {
		t = touched{}
		t.add(Everything)
	}
	return t
}

func (t *touched) rename(o *op.Op, look Look) {
	for i, path := range []string{o.Path, o.Path2} {
		other := []string{o.Path2, o.Path}[i]
		if path == "" {
			continue
		}
		t.entriesOf(path)
		exchange := o.Arg&unix.RENAME_EXCHANGE != 0
		if i == 0 || exchange {
			t.away(path, look)
			t.out(path, other, look)
		}
		if i == 0 && !exchange {
			continue // nothing comes to the old name
		}
		t.moved(path, seen(look, other))
		if there, err := look(path); err == nil && !exchange && !there.Local {
			t.leaves(path, look)
		}
	}
}

// away marks what a directory takes with it when it goes from path: a mirror that
// has it yet would take it for that of the next directory of that name.
func (t *touched) away(path string, look Look) {
	if seen(look, path).Mode&unix.S_IFMT == unix.S_IFDIR {
		t.add(Mark{Path: path, Scope: Tree})
	}
}

// out marks what goes from path to a name that mirrors do not know: for them it
// is removed. A directory takes names with it of files that may have others
// outside; to find these takes longer than to compare everything, should it be lost.
func (t *touched) out(path, to string, look Look) {
	st, err := look(path)
	if there, _ := look(to); err != nil || st.Local || !there.Local {
		return
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		t.add(Everything)
		return
	}
	t.leaves(path, look)
}

// leaves notes that the name path goes. If the file has others they are as
// suspect as it was: what is marked of it stands under a name that is not there
// any more, and a mirror that still ties the two would take what is written to
// the next file of that name for theirs.
func (t *touched) leaves(path string, look Look) {
	if st, err := look(path); err == nil && st.Links > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.left, t.ino = path, st.Ino
	}
}

func (t *touched) fallocate(o *op.Op) {
	m := Mark{Path: o.Path, From: o.Off, To: o.Off + o.Len}
	if o.Arg&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
		m.To = End // all behind it moves
	}
	t.add(m)
}

func (t *touched) adopt(path string, look Look) {
	if path == "" {
		return
	}
	t.entriesOf(path)
	t.moved(path, seen(look, path))
}

// seen is what look says, or the widest it may be.
func seen(look Look, path string) Stat {
	st, err := look(path)
	if err != nil {
		return Stat{Mode: unix.S_IFDIR}
	}
	return st
}

// put marks what a Put may make anew: then all that was in it is gone.
func (t *touched) put(o *op.Op, look Look) {
	t.entriesOf(o.Path)
	if o.Path == op.Root {
		return
	}
	st, err := look(o.Path)
	kind := o.Attr.Mode & unix.S_IFMT
	// A file is kept only if it has the names that it should have.
	named := kind != unix.S_IFREG || o.Arg == 0 || o.Arg == 1 && st.Links == 1
	if err == nil && st.Mode&unix.S_IFMT == kind && o.Flags&op.Fresh == 0 && named {
		t.add(Mark{Path: o.Path})
		return
	}
	t.moved(o.Path, Stat{Mode: o.Attr.Mode, Size: o.Attr.Size})
}
