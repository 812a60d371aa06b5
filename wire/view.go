package wire

import "github.com/standbyfs/standbyfs/fs/op"

// MethodView is the call of the bulk lane that a ViewRequest is for.
const MethodView = "view"

// ViewRequest asks a node for what it has at a path, as it is on its disk. Whoever
// asks keeps it from changing.
type ViewRequest struct {
	Volume  string  `json:"volume"`
	Path    []byte  `json:"path"`
	Regions []int64 `json:"regions,omitempty"` // offsets of those whose digests are wanted
	// Data asks for what makes [From, To) of a file's data, at most ViewBytes.
	Data bool  `json:"data,omitempty"`
	From int64 `json:"from,omitempty"`
	To   int64 `json:"to,omitempty"`
	// Names asks for some of a directory's names, from behind After on.
	Names bool   `json:"names,omitempty"`
	After []byte `json:"after,omitempty"`
}

// ViewBytes bounds the data and the names of one ViewAnswer.
const ViewBytes = 1 << 20

// ViewAnswer is what a node has at a path.
type ViewAnswer struct {
	Node    op.NodeID `json:"node"`
	Put     []byte    `json:"put,omitempty"` // the frame of an op Put; none: there is nothing
	Dev     uint64    `json:"dev,omitempty"`
	Ino     uint64    `json:"ino,omitempty"`
	Links   uint32    `json:"links,omitempty"`
	Digests [][]byte  `json:"digests,omitempty"`
	Data    []byte    `json:"data,omitempty"`  // frames of ops
	Names   [][]byte  `json:"names,omitempty"` // none: there are no more
}
