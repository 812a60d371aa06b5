package fs_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// recorder is a Committer that keeps every op in its order, as a mirror would
// get it.
type recorder struct {
	local func(path string) bool // paths that do not travel; nil: none

	mu     sync.Mutex // guards all below
	tree   *tree.Tree // set before the first op that needs it
	ops    []*op.Op
	refuse error // what Commit returns instead of doing anything
}

func (r *recorder) Mirrored(path string) bool { return r.local == nil || !r.local(path) }

// over says which tree is below the mount.
func (r *recorder) over(t *tree.Tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tree = t
}

func (r *recorder) Admit(context.Context) error { return nil }

func (r *recorder) Commit(_ context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	r.mu.Lock()
	refuse, tree := r.refuse, r.tree
	r.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	if err := apply(); err != nil {
		return nil, err
	}
	switch {
	case o.Kind == op.Adopt:
		return op.Done, tree.State(o.Path, r.keep)
	case o.Kind == op.CopyRange && o.Path2 == "":
		return op.Done, nil
	case o.Kind == op.CopyRange && o.Path == "":
		return op.Done, tree.PutRange(o.Path2, o.Off2, o.Len, r.keep)
	}
	return op.Done, r.keep(o)
}

func (r *recorder) keep(o *op.Op) error {
	c := *o
	c.Data = bytes.Clone(o.Data)
	c.Names = slices.Clone(o.Names)
	c.Xattrs = slices.Clone(o.Xattrs)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, &c)
	return nil
}

// taken returns the ops so far, of the given kinds if there are any.
func (r *recorder) taken(kinds ...op.Kind) []*op.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ops []*op.Op
	for _, o := range r.ops {
		if len(kinds) == 0 || slices.Contains(kinds, o.Kind) {
			ops = append(ops, o)
		}
	}
	return ops
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = err
}

// replay applies what was recorded to a new directory and compares it with the
// one below the mount, which must be unmounted.
func (r *recorder) replay(t *testing.T, backing string) {
	t.Helper()
	primary, err := tree.Open(backing)
	must(t, err)
	defer primary.Close()
	mirror, err := tree.Open(t.TempDir())
	must(t, err)
	defer mirror.Close()
	// What a resync would have brought first.
	root, _, err := primary.Describe(op.Root)
	must(t, err)
	must(t, mirror.Apply(&op.Op{Kind: op.Put, Path: op.Root, Attr: root.Attr, Xattrs: nil}))
	for i, o := range r.taken() {
		if o.Path == "" {
			continue
		}
		if err := mirror.Apply(o); err != nil {
			t.Fatalf("op %d, %v: %v", i, o, err)
		}
	}
	differences, err := tree.Diff(primary, mirror)
	must(t, err)
	if len(r.taken(op.Fallocate)) > 0 {
		// Whether allocated space that was never written is a hole depends on what
		// of it is in the page cache.
		differences = slices.DeleteFunc(differences, func(d string) bool { return strings.Contains(d, "holes differ") })
	}
	for i, d := range differences {
		if i == 20 {
			t.Fatalf("and %d more", len(differences)-i)
		}
		t.Error(d)
	}
}
