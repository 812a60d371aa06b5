package region

import (
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// kin knows names that are of one file since one of them was linked to another
// lately: each leads to the next one, in a ring. It is a hint. Directories on the
// way are renamed, and what is not known any more is asked of the replica.
type kin map[string]string

// maxKin bounds it. Who makes more links than that forgets the others.
const maxKin = 16384

// maxRing is how far a ring is followed.
const maxRing = 64

// follow takes down what an op has done to names.
func (k kin) follow(kind op.Kind, arg uint32, path, path2 string) {
	switch {
	case path == "" || path2 == "" && kind != op.Unlink:
	case kind == op.Link || kind == op.PutLink:
		k.link(path, path2)
	case kind == op.Unlink:
		k.leave(path)
	case kind == op.Rename && arg&unix.RENAME_EXCHANGE == 0:
		k.leave(path2)
		if next, ok := k[path]; ok {
			if before := k.before(path); before != "" {
				k[before] = path2
			}
			if next == path {
				next = path2
			}
			k[path2] = next
			delete(k, path)
		}
	}
}

func (k kin) link(path, other string) {
	k.leave(other)
	if len(k) >= maxKin {
		clear(k)
	}
	next, ok := k[path]
	if !ok {
		next = path
	}
	k[path], k[other] = other, next
}

func (k kin) leave(path string) {
	if next, ok := k[path]; ok {
		if before := k.before(path); before != "" {
			k[before] = next
		}
		delete(k, path)
	}
}

// before returns the name that leads to path, or "".
func (k kin) before(path string) string {
	for at := range k.of(path) {
		if k[at] == path {
			return at
		}
	}
	return ""
}

// of yields the names that may be of the same file as path.
func (k kin) of(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		at := path
		for range maxRing {
			next, ok := k[at]
			if !ok || next == path || !yield(next) {
				return
			}
			at = next
		}
	}
}
