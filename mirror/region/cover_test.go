package region_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// replica is what stands in a tree.
type replica struct {
	objects map[string]*op.Op
	ids     map[string]tree.Inode
	names   map[tree.Inode][]string // sorted
	paths   []string                // in the order of a walk
	tree    *tree.Tree
}

func snapshot(t *testing.T, tr *tree.Tree) *replica {
	t.Helper()
	r := &replica{objects: map[string]*op.Op{}, ids: map[string]tree.Inode{}, names: map[tree.Inode][]string{}, tree: tr}
	err := tr.Walk(func(path string, put *op.Op, id tree.Inode) error {
		r.objects[path], r.ids[path] = put, id.Key()
		r.names[id.Key()] = append(r.names[id.Key()], path)
		r.paths = append(r.paths, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// group is all names of what is at path.
func (r *replica) group(path string) []string { return r.names[r.ids[path]] }

// cover tells what a comparison of marks finds.
type cover map[string][]region.Mark

func newCover(marks []region.Mark) cover {
	c := cover{}
	for _, m := range marks {
		c[m.Path] = append(c[m.Path], m)
	}
	return c
}

// at reports whether path has a mark that is like that.
func (c cover) at(path string, is func(region.Mark) bool) bool {
	for _, m := range c[path] {
		if is(m) {
			return true
		}
	}
	return false
}

// whole reports whether all of path is compared.
func (c cover) whole(path string) bool {
	for {
		if c.at(path, func(m region.Mark) bool { return m.Scope == region.Tree }) {
			return true
		}
		if path == op.Root {
			return false
		}
		path, _ = op.SplitPath(path)
	}
}

// looks reports whether what is at path is looked at at all: its attributes are.
func (c cover) looks(path string) bool {
	if len(c[path]) > 0 || c.whole(path) {
		return true
	}
	dir, _ := op.SplitPath(path)
	return path != op.Root && c.at(dir, func(m region.Mark) bool { return m.Scope != region.Object })
}

// data reports whether a region of a file's data is compared. Just one side has
// only a hole there: that is found with less.
func (c cover) data(path string, off int64, hole bool) bool {
	if c.whole(path) || c.at(path, func(m region.Mark) bool { return m.Scope == region.Object && m.From <= off && off < m.To }) {
		return true
	}
	dir, _ := op.SplitPath(path)
	return c.at(dir, func(m region.Mark) bool {
		return m.Scope == region.Children || m.Scope == region.Entries && (off == 0 || hole)
	})
}

// lacks returns what no mark covers of the differences, where p is the primary
// that makes m equal.
func (c cover) lacks(who string, p, m *replica) (lacks []string) {
	say := func(path, format string, args ...any) {
		lacks = append(lacks, fmt.Sprintf("%q, if %s is the primary: %s", path, who, fmt.Sprintf(format, args...)))
	}
	anew := map[string]bool{} // what is made anew, or removed, with all that is in it
	within := func(path string) bool {
		for ; path != op.Root; path, _ = op.SplitPath(path) {
			if anew[path] {
				return true
			}
		}
		return false
	}
	for _, path := range p.paths {
		if within(path) {
			continue
		}
		have, is := p.objects[path], m.objects[path]
		group := []string{path}
		if have.Attr.Mode&unix.S_IFMT != unix.S_IFDIR {
			group = p.group(path) // it is looked at by all names
		}
		looks := false
		for _, name := range group {
			looks = looks || c.looks(name)
		}
		if is == nil || (is.Attr.Mode^have.Attr.Mode)&unix.S_IFMT != 0 || string(is.Data) != string(have.Data) {
			if anew[path] = true; !looks {
				say(path, "%v stands there, on the other side %v", have, is)
			}
			continue
		}
		for _, differ := range tree.Differences(have, is, "the other has") {
			if !looks {
				say(path, "%s", differ)
			}
		}
		if have.Attr.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		tied := strings.Join(group, "|") == strings.Join(m.group(path), "|")
		if !tied && !looks {
			say(path, "is tied to %q, on the other side to %q", group, m.group(path))
		}
		// What is not the same file by all its names is compared whole.
		if have.Attr.Mode&unix.S_IFMT == unix.S_IFREG && !(looks && strings.Join(group, "|") != strings.Join(m.group(group[0]), "|")) {
			c.lacksData(path, group, p, m, say)
		}
	}
	for _, path := range m.paths {
		if p.objects[path] != nil || within(path) {
			continue
		}
		if anew[path] = true; !c.looks(path) {
			say(path, "is on the other side only")
		}
	}
	return lacks
}

// lacksData is lacks for the data of a file that both have.
func (c cover) lacksData(path string, group []string, p, m *replica, say func(path, format string, args ...any)) {
	size := max(p.objects[path].Attr.Size, m.objects[path].Attr.Size)
	x, errX := p.tree.Digests(path, 0, size)
	y, errY := m.tree.Digests(path, 0, size)
	if errX != nil || errY != nil {
		say(path, "%v, %v", errX, errY)
		return
	}
	for at := 0; at < max(len(x), len(y)); at += tree.DigestSize {
		off := int64(at / tree.DigestSize * op.RegionSize)
		here, there := at < len(x), at < len(y)
		if here && there && string(x[at:at+tree.DigestSize]) == string(y[at:at+tree.DigestSize]) {
			continue
		}
		hole, holeThere := isHole(p.tree, path, off), isHole(m.tree, path, off)
		if hole && holeThere || sameBytes(p.tree, m.tree, path, off) {
			continue // one ends here, or before
		}
		found := false
		for _, name := range group {
			found = found || c.data(name, off, hole != holeThere)
		}
		if !found {
			say(path, "content differs at %d", off)
		}
	}
}

// isHole reports whether a region is nothing but a hole, or behind the end.
func isHole(t *tree.Tree, path string, off int64) bool {
	st, err := t.Stat(path)
	next, err2 := t.NextData(path, off)
	return err == nil && err2 == nil && (next > off || off >= st.Size)
}

// sameBytes compares a region in which just one of two files ends.
func sameBytes(a, b *tree.Tree, path string, off int64) bool {
	var bytes [2][op.RegionSize]byte
	ends := false
	for i, t := range []*tree.Tree{a, b} {
		f, err := os.Open(filepath.Join(t.Dir(), path))
		if err != nil {
			return false
		}
		n, _ := f.ReadAt(bytes[i][:], off)
		f.Close()
		ends = ends || n < len(bytes[i])
	}
	return ends && bytes[0] == bytes[1]
}
