package daemon

import (
	"fmt"
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// view says what this node has at a path, to a primary that compares replicas or
// mends its own by this one. It changes nothing.
func (n *node) view(q *wire.ViewRequest) (*wire.ViewAnswer, error) {
	path := string(q.Path)
	if err := op.CheckPath(path); err != nil {
		return nil, err
	}
	if q.To-q.From > wire.ViewBytes {
		return nil, fmt.Errorf("%d bytes of %q at once: at most %d", q.To-q.From, path, wire.ViewBytes)
	}
	v, err := n.tree.View(path, q.Regions)
	if err != nil {
		return nil, err
	}
	a := &wire.ViewAnswer{Node: n.store.Get().Node, Dev: v.ID.Dev, Ino: v.ID.Ino, Links: v.ID.Nlink, Digests: v.Digests}
	if v.Put == nil {
		return a, nil
	}
	if a.Put, err = appendOp(nil, v.Put); err != nil {
		return nil, err
	}
	if q.Data {
		if err := n.tree.Cold(path, q.From, q.To-q.From); err != nil {
			return nil, err
		}
		err = n.tree.PutRange(path, q.From, q.To-q.From, func(o *op.Op) (err error) {
			a.Data, err = appendOp(a.Data, o)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if q.Names {
		entries, err := n.tree.Names(path)
		if err != nil {
			return nil, err
		}
		a.Names = someNames(entries, string(q.After))
	}
	return a, nil
}

// someNames returns the first names behind after, within wire.ViewBytes.
func someNames(entries []tree.Entry, after string) [][]byte {
	var names [][]byte
	bytes := 0
	for _, e := range entries {
		if strings.Compare(e.Name, after) <= 0 {
			continue
		}
		if bytes += len(e.Name) + 8; bytes > wire.ViewBytes {
			break
		}
		names = append(names, []byte(e.Name))
	}
	return names
}

// appendOp appends a whole frame, which stands in no stream.
func appendOp(dst []byte, o *op.Op) ([]byte, error) {
	start := len(dst)
	dst, err := wire.AppendOp(dst, 0, o)
	if err == nil {
		wire.Seal(dst[start:], 0, 0)
	}
	return dst, err
}
