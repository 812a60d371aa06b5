package divergence

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

const region = op.RegionSize

// epoch is the one that took over.
var epoch = op.Epoch{Number: 4, Owner: 0xa}

// node is a replica that is being made equal, and what keeps its divergence.
type node struct {
	t     *testing.T
	dir   string
	state string
	tree  *tree.Tree
	k     *Keeper
}

func newTree(t *testing.T) (string, *tree.Tree) {
	t.Helper()
	dir := t.TempDir()
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return dir, tr
}

func newNode(t *testing.T) *node {
	n := &node{t: t, state: t.TempDir()}
	n.dir, n.tree = newTree(t)
	return n
}

func (n *node) config() Config {
	return Config{StateDir: n.state, Tree: n.tree, Epoch: epoch, Before: op.Epoch{Number: 3, Owner: 0xb}}
}

// keep starts a process that keeps, with the configuration changed.
func (n *node) keep(change ...func(*Config)) {
	n.t.Helper()
	cfg := n.config()
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if n.k, err = Open(cfg); err != nil {
		n.t.Fatal(err)
	}
}

// try applies ops as the mirror's applier does, as if all of them had been
// received at once.
func (n *node) try(ops ...*op.Op) error {
	n.t.Helper()
	for i, o := range ops {
		if err := n.k.Before(o, slices.Values(ops[i+1:])); err != nil {
			return err
		}
		if err := n.tree.ApplyLenient(o); err != nil {
			continue
		}
		if err := n.k.After(o); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) do(ops ...*op.Op) {
	n.t.Helper()
	if err := n.try(ops...); err != nil {
		n.t.Fatal(err)
	}
}

// only returns the one divergence of the node.
func (n *node) only() *Archive {
	n.t.Helper()
	all, err := List(n.state)
	if err != nil || len(all) != 1 {
		n.t.Fatalf("%d divergences, %v: want one", len(all), err)
	}
	return all[0]
}

func (n *node) export() (string, []Exported) {
	n.t.Helper()
	dir := filepath.Join(n.t.TempDir(), "export")
	made, err := n.only().Export(n.tree, dir)
	if err != nil {
		n.t.Fatal(err)
	}
	return dir, made
}

// has puts objects into the replica as they were before the divergence.
func (n *node) has(ops ...*op.Op) {
	n.t.Helper()
	for _, o := range ops {
		if err := n.tree.Apply(o); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) put(path string, change func(*op.Op)) *op.Op {
	n.t.Helper()
	o, _, err := n.tree.Describe(path)
	if err != nil {
		n.t.Fatal(err)
	}
	change(o)
	return o
}

// kept lists what is kept, in short.
func (n *node) kept() []string {
	n.t.Helper()
	all, err := List(n.state)
	if err != nil {
		n.t.Fatal(err)
	}
	var text []string
	for _, a := range all {
		for _, r := range a.Objects {
			var paths []string
			for _, p := range r.Paths {
				paths = append(paths, p.String())
			}
			line := strings.Join(paths, "=")
			for _, s := range r.Ranges {
				line += fmt.Sprintf(" %d+%d", s.Off, s.Len)
				if s.Hole {
					line += "h"
				}
			}
			if r.Gone {
				line += " gone"
			}
			text = append(text, line+" by "+r.Why)
		}
	}
	return text
}

// wantBack exports and reads one file.
func (n *node) wantBack(path, want string) {
	n.t.Helper()
	dir, _ := n.export()
	if got, err := os.ReadFile(filepath.Join(dir, FilesDir, path)); err != nil || string(got) != want {
		n.t.Errorf("%s comes back as %.40q, %v; want %.40q", path, got, err, want)
	}
}

func (n *node) file(name string) string {
	return filepath.Join(n.state, folder, n.only().ID, name)
}

func (n *node) read(path string) []byte {
	n.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

func create(path string) *op.Op {
	return &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o100644}}
}

func mkdir(path string) *op.Op {
	return &op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o40755}}
}

func write(path string, off int64, data string) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte(data)}
}

func unlink(path string) *op.Op { return &op.Op{Kind: op.Unlink, Path: path} }

func rename(path, path2 string) *op.Op { return &op.Op{Kind: op.Rename, Path: path, Path2: path2} }
