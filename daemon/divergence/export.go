package divergence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// Exported says what an export has made of one object.
type Exported struct {
	Path Path   `json:"path"`
	To   string `json:"to"` // below the directory of the export
	// Whole: every byte was kept, or is still in the very file that it was in.
	Whole bool   `json:"whole"`
	Text  string `json:"text"`
}

// FilesDir is where in an export the files are.
const FilesDir = "files"

// Export makes in dir, which is new or empty, what stood in the replica when the
// divergence began, as far as it was kept, with a copy of the manifest. Of a
// file of which only ranges were kept the rest is the replica's of today.
func (a *Archive) Export(replica *tree.Tree, dir string) ([]Exported, error) {
	if err := emptyDir(dir); err != nil {
		return nil, err
	}
	if err := copyFile(filepath.Join(a.dir, manifestFile), filepath.Join(dir, manifestFile)); err != nil {
		return nil, fmt.Errorf("export the manifest: %w", err)
	}
	to, err := tree.Open(dir)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	x := export{a: a, from: replica, to: to, stray: a.stray(replica), taken: make(map[string]bool)}
	if err := x.directory(FilesDir); err != nil {
		return nil, err
	}
	var all []Exported
	for _, r := range a.Objects {
		e, err := x.object(r)
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, x.finish()
}

func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer f.Close()
	switch names, err := f.Readdirnames(1); {
	case len(names) > 0:
		return fmt.Errorf("export: %s is not empty (it holds %q): name a new directory", dir, names[0])
	case err != nil && err != io.EOF:
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.Open(from)
	if err != nil {
		return err
	}
	defer text.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, text)
	return errors.Join(err, f.Close())
}

// export is one run of it.
type export struct {
	a        *Archive
	from, to *tree.Tree
	stray    map[tree.Inode]string
	taken    map[string]bool // paths of objects, not of directories that were made for them
	last     []*op.Op        // what has to be put once more when all is in place
}

// object makes one object under each of its names.
func (x *export) object(r *Relic) (Exported, error) {
	e := Exported{Path: r.Paths[0], Whole: true}
	fail := func(err error) (Exported, error) {
		return e, fmt.Errorf("export %q: %w", string(r.Paths[0]), err)
	}
	to, err := x.place(r, string(r.Paths[0]))
	if err != nil {
		return fail(err)
	}
	e.To = to
	put := r.put(to)
	// Flags may forbid what is still to be done.
	bare := *put
	bare.Attr.Flags = 0
	if err := x.to.ApplyLenient(&bare); err != nil {
		return fail(err)
	}
	if put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
		if e.Whole, e.Text, err = x.data(r, to); err != nil {
			return fail(err)
		}
	}
	for _, path := range r.Paths[1:] {
		name, err := x.place(r, string(path))
		if err == nil {
			err = x.to.ApplyLenient(&op.Op{Kind: op.PutLink, Path: to, Path2: name})
		}
		if err != nil {
			return fail(err)
		}
	}
	if r.Object == nil {
		e.Whole, e.Text = false, "its description is damaged: mode and owner are not known"
	}
	x.last = append(x.last, put)
	return e, nil
}

// put describes the object under another path.
func (r *Relic) put(path string) *op.Op {
	if r.Object == nil {
		return (&Object{Mode: unix.S_IFREG | 0o600, Size: r.Size()}).Put(path)
	}
	return r.Object.Put(path)
}

// place returns where an object that stood at path comes to stand, and makes the
// directories above. Another object may have taken that place before: one that
// came to it while the divergence was open.
func (x *export) place(r *Relic, path string) (string, error) {
	for n := 1; ; n++ {
		top := FilesDir
		if n > 1 {
			top = fmt.Sprintf("%s-later-%d", FilesDir, n)
		}
		to := top
		if path != op.Root {
			to = op.JoinPath(top, path)
		}
		err := x.directory(parent(to))
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // ELOOP: a symbolic link
			continue
		}
		if err != nil {
			return "", err
		}
		here, _, err := x.to.Describe(to)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		case x.taken[to]:
		case err != nil:
			x.taken[to] = true
			return to, nil
		case r.Object != nil && r.Object.Directory() && here.Attr.Mode&unix.S_IFMT == unix.S_IFDIR:
			x.taken[to] = true
			return to, nil
		}
	}
}

func parent(path string) string {
	dir, _ := op.SplitPath(path)
	return dir
}

// directory makes a directory and those above it, where they are not.
func (x *export) directory(path string) error {
	here, _, err := x.to.Describe(path)
	switch {
	case err == nil && here.Attr.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%q: %w", path, unix.ENOTDIR)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := x.directory(parent(path)); err != nil {
		return err
	}
	return x.to.Apply(&op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
}

// data fills a file, first with what was not kept.
func (x *export) data(r *Relic, to string) (whole bool, text string, err error) {
	whole, text = true, "whole"
	emit := func(o *op.Op) error {
		o.Path = to
		if o.Kind == op.Truncate {
			return nil // it has its size
		}
		return x.to.ApplyLenient(o)
	}
	if gaps := r.missing(); len(gaps) > 0 {
		var base string
		if base, whole, text = x.base(r, gaps); base != "" {
			for _, gap := range gaps {
				if err := x.from.PutRange(base, gap.from, gap.to-gap.from, emit); err != nil {
					return false, text, err
				}
			}
		}
	}
	err = x.a.contents(r, func(s Stored, content []byte) error {
		if s.Hole {
			return x.to.ApplyLenient(&op.Op{Kind: op.Fallocate, Path: to, Off: s.Off, Len: s.Len, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE})
		}
		return x.to.ApplyLenient(&op.Op{Kind: op.Write, Path: to, Off: s.Off, Data: content})
	})
	return whole, text, err
}

// base finds the file of today that has what was not kept, and says what that is
// worth.
func (x *export) base(r *Relic, gaps []span) (path string, whole bool, text string) {
	var n int64
	for _, gap := range gaps {
		n += gap.to - gap.from
	}
	kept := "kept ranges"
	if len(r.Ranges) == 0 {
		kept = "kept attributes"
	}
	id := x.a.inode(r)
	path = string(r.Paths[0])
	now, is, err := x.from.Describe(path)
	if err == nil && is.Key() == id {
		return path, true, fmt.Sprintf("%s over the replica's file of today, which has the other %d bytes", kept, n)
	}
	if moved, ok := x.stray[id]; ok {
		return moved, true, fmt.Sprintf("%s over the replica's file of today, now %q, which has the other %d bytes", kept, moved, n)
	}
	if err == nil && now.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
		return path, false, fmt.Sprintf("NOT WHOLE: %s over another file that stands at this path today: the other %d bytes are that one's", kept, n)
	}
	return "", false, fmt.Sprintf("NOT WHOLE: the file of which the other %d bytes were is not there any more: they are zeros", n)
}

// finish sets what the making of the others has changed, and the flags.
func (x *export) finish() error {
	for _, put := range x.last {
		if err := x.to.ApplyLenient(put); err != nil {
			return fmt.Errorf("export %q: %w", put.Path, err)
		}
	}
	return nil
}

// inode is the object's in the replica.
func (a *Archive) inode(r *Relic) tree.Inode {
	id := tree.Inode{Dev: a.Device, Ino: r.Inode}
	if r.Device != 0 {
		id.Dev = r.Device
	}
	return id
}

// stray finds files of which only ranges were kept and that are not where they
// were. What the replica does not say is treated as not there.
func (a *Archive) stray(replica *tree.Tree) map[tree.Inode]string {
	lost := make(map[tree.Inode]string)
	for _, r := range a.Objects {
		if r.Gone || len(r.missing()) == 0 {
			continue
		}
		if _, is, err := replica.Describe(string(r.Paths[0])); err != nil || is.Key() != a.inode(r) {
			lost[a.inode(r)] = ""
		}
	}
	if len(lost) == 0 {
		return lost
	}
	found := make(map[tree.Inode]string)
	_ = replica.Walk(func(path string, _ *op.Op, id tree.Inode) error {
		if _, ok := lost[id.Key()]; ok {
			found[id.Key()] = path
		}
		return nil
	})
	return found
}
