package tree

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// sequence makes random ops over a few paths, so that they meet often.
type sequence struct {
	*rand.Rand
	tree *Tree // what the ops are for: copies must know how long a file is
}

func (r sequence) name() string { return string("abc\xff"[r.IntN(4)]) }

func (r sequence) path() string {
	path := r.name()
	for range r.IntN(3) {
		path = op.JoinPath(path, r.name())
	}
	return path
}

func (r sequence) attr(kind uint32) op.Attr {
	return op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime,
		Mode:  kind | [...]uint32{0o644, 0o755, 0o4711, 0o2755, 0o1777, 0}[r.IntN(6)],
		UID:   r.Uint32N(3), GID: r.Uint32N(3),
		Mtime: op.Time{Sec: r.Int64N(5) - 2, Nsec: r.Uint32N(3) * 333333333},
	}
}

func (r sequence) data() []byte {
	return []byte(strings.Repeat(string("\x00xy"[r.IntN(3)]), 1+r.IntN([...]int{10, 5000, 2 * region}[r.IntN(3)])))
}

func (r sequence) next() *op.Op {
	path, path2 := r.path(), r.path()
	off := r.Int64N([...]int64{10, 5000, 4 * region}[r.IntN(3)])
	switch r.IntN(20) {
	case 0, 1:
		return &op.Op{Kind: op.Create, Path: path, Attr: r.attr(0)}
	case 2, 3:
		return &op.Op{Kind: op.Mkdir, Path: path, Attr: r.attr(0)}
	case 4:
		return &op.Op{Kind: op.Mknod, Path: path, Attr: r.attr([...]uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR}[r.IntN(3)])}
	case 5:
		a := r.attr(0)
		a.Mode = unix.S_IFLNK | 0o777
		return &op.Op{Kind: op.Symlink, Path: path, Data: []byte(path2), Attr: a}
	case 6, 7:
		return &op.Op{Kind: op.Link, Path: path, Path2: path2}
	case 8:
		return &op.Op{Kind: op.Unlink, Path: path}
	case 9:
		return &op.Op{Kind: op.Rmdir, Path: path}
	case 10, 11:
		return &op.Op{Kind: op.Rename, Path: path, Path2: path2, Arg: [...]uint32{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[r.IntN(4)]}
	case 12, 13:
		return &op.Op{Kind: op.Write, Path: path, Off: off, Data: r.data()}
	case 14:
		return &op.Op{Kind: op.Truncate, Path: path, Attr: op.Attr{Valid: op.AttrSize, Size: off}}
	case 15:
		file, _, err := r.tree.Describe(path)
		if err == nil && file.Attr.Size > region && r.IntN(2) == 0 {
			// Just what can succeed: ext4 moves the mtime before it looks.
			return &op.Op{Kind: op.Fallocate, Path: path, Off: 4096, Len: 8192, Arg: [...]uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[r.IntN(2)]}
		}
		return &op.Op{Kind: op.Fallocate, Path: path, Off: off, Len: 1 + r.Int64N(region), Arg: [...]uint32{
			unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE}[r.IntN(2)]}
	case 16:
		from, _, err := r.tree.Describe(path)
		if err != nil || off >= from.Attr.Size {
			return r.next()
		}
		return &op.Op{Kind: op.CopyRange, Path: path, Path2: path2, Off: off, Off2: r.Int64N(2 * region), Len: 1 + r.Int64N(from.Attr.Size-off)}
	case 17:
		return &op.Op{Kind: op.SetAttr, Path: path, Attr: r.attr(0)}
	case 18:
		name := [...]string{"user.a", "user.b", "trusted.c", "security.capability", "system.posix_acl_access", "system.posix_acl_default"}[r.IntN(6)]
		value := r.data()[:1]
		switch {
		case strings.HasPrefix(name, "system."):
			value = []byte(acl)
		case strings.HasPrefix(name, "security."):
			value = []byte(capability)
		}
		return &op.Op{Kind: op.SetXattr, Path: path, Name: name, Data: value}
	}
	return &op.Op{Kind: op.RemoveXattr, Path: path, Name: [...]string{"user.a", "system.posix_acl_access"}[r.IntN(2)]}
}

// do applies an op to its tree, and returns whether it could be.
func (r sequence) do(o *op.Op) bool {
	if put, _, err := r.tree.Describe(o.Path); o.Kind == op.SetAttr && err == nil {
		o.Attr.Mode = put.Attr.Mode&unix.S_IFMT | o.Attr.Mode&0o7777 // st_mode, as the primary has it
	}
	return r.tree.Apply(o) == nil
}

// results fills in what an op brought about on the primary.
func results(t *testing.T, tr *Tree, o *op.Op) {
	t.Helper()
	if object := (applier{tr, o, false}).object(); object != "" {
		put, _, err := tr.Describe(object)
		if err != nil {
			t.Fatal(err)
		}
		size := o.Attr.Size
		o.Attr = put.Attr
		switch {
		case o.Kind == op.Truncate:
			o.Attr.Size = size
			o.Attr.Valid = op.AttrMode | op.AttrMtime | op.AttrSize
		case o.Kind.Data() || o.Kind == op.Link || o.Kind == op.SetXattr || o.Kind == op.RemoveXattr:
			o.Attr.Valid = op.AttrMode | op.AttrMtime
		default:
			o.Attr.Valid &^= op.AttrSize
		}
	}
	mtime := func(path string) op.Time {
		dir, _ := op.SplitPath(path)
		put, _, err := tr.Describe(dir)
		if err != nil {
			t.Fatal(err)
		}
		return put.Attr.Mtime
	}
	switch o.Kind {
	case op.Create, op.Mkdir, op.Mknod, op.Symlink, op.Unlink, op.Rmdir:
		o.Dir = mtime(o.Path)
	case op.Link:
		o.Dir2 = mtime(o.Path2)
	case op.Rename:
		o.Dir, o.Dir2 = mtime(o.Path), mtime(o.Path2)
	}
}

// seeds runs a test with several seeds; the name says which, to run it again.
func seeds(t *testing.T, n uint64, test func(t *testing.T, r *rand.Rand)) {
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { test(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

// What ops do to one tree, with their results they do to another.
func TestRandomOps(t *testing.T) {
	seeds(t, 8, func(t *testing.T, r *rand.Rand) {
		a, b := newTree(t), newTree(t)
		ext4(t, a)
		primary := sequence{r, a}
		done := 0
		for done < 150 {
			o := primary.next()
			if !primary.do(o) {
				continue
			}
			done++
			results(t, a, o)
			if err := b.Apply(o); err != nil {
				t.Fatalf("op %d: %v", done, err)
			}
		}
		same(t, a, b)
	})
}

// A repair makes any tree equal to any other.
func TestRandomRepair(t *testing.T) {
	seeds(t, 16, func(t *testing.T, r *rand.Rand) {
		a, b := newTree(t), newTree(t)
		ext4(t, a)
		// They have a past in common, mostly.
		for left := r.IntN(100); left > 0; {
			o := sequence{r, a}.next()
			if !(sequence{r, a}).do(o) {
				continue
			}
			left--
			results(t, a, o)
			apply(t, b, o)
		}
		for _, tr := range []*Tree{a, b} {
			for left := r.IntN(100); left > 0; {
				if (sequence{r, tr}).do(sequence{r, tr}.next()) {
					left--
				}
			}
		}
		repair(t, a, b)
		same(t, a, b)
		if t.Failed() {
			t.Logf("the first is\n%s", render(t, a))
		}
		emit := func(o *op.Op) error {
			return unexpected(words(b.Compare(o)))
		}
		if err := describeAll(a, emit); err != nil {
			t.Error(err)
		}
	})
}

// unexpected makes an error of differences.
func unexpected(differences []string, err error) error {
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("a comparison says %q", differences)
	}
	return err
}

// repair makes b equal to a as a resync does (mirror/resync.go).
func repair(t *testing.T, a, b *Tree) {
	t.Helper()
	err := describeAll(a, func(o *op.Op) error {
		if o.Kind != op.Check {
			return b.ApplyLenient(o)
		}
		differ, err := b.Check(o)
		if err != nil {
			return err
		}
		for _, off := range differ {
			if err := a.PutRange(o.Path, off, op.RegionSize, b.ApplyLenient); err != nil {
				return err
			}
		}
		// Data moves the mtime and takes capabilities away.
		again, _, err := a.Describe(o.Path)
		if err != nil {
			return err
		}
		again.Arg = 0
		return b.ApplyLenient(again)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// describeAll emits the repair ops for a whole tree.
func describeAll(a *Tree, emit func(*op.Op) error) error {
	first := map[Inode]string{}
	return a.Walk(func(path string, put *op.Op, id Inode) error {
		kind := put.Attr.Mode & unix.S_IFMT
		if id.Nlink > 1 && kind != unix.S_IFDIR {
			if other, ok := first[id.Key()]; ok {
				if err := emit(&op.Op{Kind: op.PutLink, Path: other, Path2: path}); err != nil {
					return err
				}
			} else {
				first[id.Key()] = path
				put.Flags |= op.Fresh
			}
		}
		if err := emit(put); err != nil {
			return err
		}
		switch kind {
		case unix.S_IFDIR:
			entries, err := a.Names(path)
			if err != nil {
				return err
			}
			o := &op.Op{Kind: op.PutNames, Path: path, Dir: put.Attr.Mtime}
			for _, e := range entries {
				o.Names = append(o.Names, e.Name)
			}
			return emit(o)
		case unix.S_IFREG:
			digests, err := a.Digests(path, 0, put.Attr.Size)
			if err != nil || len(digests) == 0 {
				return err
			}
			return emit(&op.Op{Kind: op.Check, Path: path, Data: digests})
		}
		return nil
	})
}
