package fs

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// inode is one object of the replica that the kernel knows, or that something
// here needs to stay known. It has no descriptor while it has a name.
type inode struct {
	id  uint64 // the kernel's node ID, never used twice
	typ uint32 // S_IFMT bits

	// mu orders the changes of this object; see order.go.
	mu sync.Mutex

	// Guarded by table.mu.
	key     key
	lookups uint64 // references that the kernel holds
	pins    int    // links of known children, and whoever else called pin
	links   links  // the known names; a directory has one, the root none
	nlink   uint32 // how many names there are, as far as we were told

	// orphan reaches an inode without known names; otherwise it is nil. It is
	// set and cleared while FS.names is held exclusively, or while nobody else
	// knows the inode.
	orphan *descriptor

	open []*handle // guarded by handles.mu

	// broken is set for good when a local fsync failed: the kernel reports the
	// loss once, and a second fsync must not pass for a success.
	broken atomic.Bool

	// uncapped is the process (thread) for which the kernel has removed the
	// file's capabilities a moment ago, or 0; see keeps.
	uncapped atomic.Uint32
}

// key names an object of the backing file system.
type key struct{ dev, ino uint64 }

func keyOf(st *unix.Stat_t) key { return key{st.Dev, st.Ino} }

func (n *inode) isDir() bool { return n.typ == unix.S_IFDIR }

// table holds all known inodes. An inode stays while the kernel or a known
// child refers to it, so that its path can always be told.
type table struct {
	mu    sync.Mutex // guards all fields here and those of the inodes that say so
	nodes map[uint64]*inode
	byKey map[key]*inode // only inodes that have a name somewhere: a number without one may be used again
	most  int            // how many there were at most since the maps were made
	next  uint64
	root  *inode
}

func newTable(root *unix.Stat_t) *table {
	r := &inode{id: fuse.FUSE_ROOT_ID, typ: unix.S_IFDIR, key: keyOf(root), lookups: 1, nlink: 1}
	return &table{
		nodes: map[uint64]*inode{r.id: r},
		byKey: map[key]*inode{r.key: r},
		next:  r.id + 1,
		root:  r,
	}
}

// get returns the inode that the kernel means by id, or nil.
func (t *table) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[id]
}

// enter returns the inode that st describes and that was found as name in
// parent, with that many more references by the kernel and pins. The caller
// holds FS.names, so that name still means it.
func (t *table) enter(parent *inode, name string, st *unix.Stat_t, lookups uint64, pins int) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKey[keyOf(st)]
	if n == nil || n.typ != st.Mode&unix.S_IFMT {
		n = t.add(st)
		t.byKey[n.key] = n
	}
	n.nlink = uint32(st.Nlink)
	n.lookups += lookups
	n.pins += pins
	if parent != nil && n != t.root {
		t.attach(n, link{parent, name})
	}
	return n
}

// enterNameless makes an inode that has no name yet and is reached through d.
func (t *table) enterNameless(st *unix.Stat_t, d *descriptor) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.add(st)
	n.lookups, n.nlink, n.orphan = 1, 0, d
	return n
}

func (t *table) add(st *unix.Stat_t) *inode {
	n := &inode{id: t.next, typ: st.Mode & unix.S_IFMT, key: keyOf(st)}
	t.next++
	t.nodes[n.id] = n
	t.most = max(t.most, len(t.nodes))
	return n
}

// attach makes l a known name of n. A directory has one name: if it had
// another, it was moved.
func (t *table) attach(n *inode, l link) {
	if !n.links.add(l) {
		return
	}
	l.parent.pins++
	if n.isDir() && len(n.links.all) > 1 {
		t.detach(n, n.links.all[0])
	}
}

func (t *table) detach(n *inode, l link) {
	if n.links.remove(l) {
		t.unpinned(l.parent)
	}
}

// unpinned takes one pin back. The descriptors of what is dropped by it are
// not closed here: only inodes with names are pinned.
func (t *table) unpinned(n *inode) {
	n.pins--
	t.drop(n)
}

// drop removes an inode that nobody refers to any more and returns its
// descriptor, if it has one. The caller holds mu.
func (t *table) drop(n *inode) (orphan *descriptor) {
	if n.lookups > 0 || n.pins > 0 || n == t.root || t.nodes[n.id] != n {
		return nil
	}
	delete(t.nodes, n.id)
	if t.byKey[n.key] == n {
		delete(t.byKey, n.key)
	}
	t.shrink()
	for _, l := range n.links.all {
		t.unpinned(l.parent)
	}
	n.links = links{}
	orphan, n.orphan = n.orphan, nil
	return orphan
}

// shrink makes the maps anew when they have become far too large: a map keeps
// the room that it once needed. The caller holds mu.
func (t *table) shrink() {
	const enough, few = 1 << 14, 16
	if t.most < enough || len(t.nodes) > t.most/few {
		return
	}
	nodes, byKey := make(map[uint64]*inode, len(t.nodes)), make(map[key]*inode, len(t.byKey))
	maps.Copy(nodes, t.nodes)
	maps.Copy(byKey, t.byKey)
	t.nodes, t.byKey, t.most = nodes, byKey, len(nodes)
}

// forget takes back references that the kernel held.
func (t *table) forget(n *inode, lookups uint64) {
	t.release(n, func() { n.lookups -= min(lookups, n.lookups) })
}

// pin keeps n known until unpin.
func (t *table) pin(n *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.pins++
}

// unpin takes a pin back.
func (t *table) unpin(n *inode) { t.release(n, func() { n.pins-- }) }

func (t *table) release(n *inode, change func()) {
	t.mu.Lock()
	change()
	orphan := t.drop(n)
	t.mu.Unlock()
	orphan.release() // may free a large file: not under the lock
}

// find returns the known inode that st describes, or nil, and whether its last
// known name is about to go if one goes.
func (t *table) find(st *unix.Stat_t) (n *inode, last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = t.byKey[keyOf(st)]
	return n, n != nil && len(n.links.all) <= 1
}

// linked records one more name of n, by which it is reached if it had none. The
// caller holds FS.names exclusively.
func (t *table) linked(n *inode, parent *inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.nlink++
	t.byKey[n.key] = n
	t.attach(n, link{parent, name})
	n.orphan.release()
	n.orphan = nil
}

// unlinked records that a name of n went. If it was the last known one, n is
// reached through orphan from now on, which is nil otherwise. The caller holds
// FS.names exclusively.
func (t *table) unlinked(n *inode, parent *inode, name string, orphan *descriptor) {
	t.mu.Lock()
	if n.nlink > 0 && !n.isDir() {
		n.nlink--
	} else {
		n.nlink = 0
	}
	if n.nlink == 0 && t.byKey[n.key] == n {
		delete(t.byKey, n.key)
	}
	if n.orphan == nil {
		n.orphan, orphan = orphan, nil
	}
	t.detach(n, link{parent, name})
	dropped := t.drop(n)
	t.mu.Unlock()
	orphan.release()
	dropped.release()
}

// moved records that n, or with two inodes both, changed names with each other.
func (t *table) moved(n *inode, from, to link, other *inode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n == other {
		return // two names of one file
	}
	for _, m := range []struct {
		n        *inode
		from, to link
	}{{n, from, to}, {other, to, from}} {
		// The new parent is pinned before the old one is let go.
		if m.n != nil && m.n.links.find(m.from) >= 0 {
			t.attach(m.n, m.to)
			t.detach(m.n, m.from)
		}
	}
}

// path returns a known path of n: of several the first one that is good, or
// just the first one, and false where n may have a better one that is not
// known. An object may have very many names, and every change of it comes by
// here: no more of them are put together than have to be looked at. The caller
// holds FS.names, at least shared.
func (t *table) path(n *inode, good func(path string) bool) (path string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n == t.root {
		return op.Root, true
	}
	all := n.isDir() || n.nlink <= uint32(len(n.links.all))
	for _, l := range n.links.all {
		dir, ok := t.dirPath(l.parent)
		if !ok {
			continue
		}
		p := op.JoinPath(dir, l.name)
		if all && len(n.links.all) == 1 || good(p) {
			return p, true
		}
		if path == "" {
			path = p
		}
	}
	return path, all
}

func (t *table) dirPath(n *inode) (string, bool) {
	size, depth := 0, 0
	for d := n; d != t.root; d = d.links.all[0].parent {
		if len(d.links.all) == 0 {
			return "", false
		}
		size += len(d.links.all[0].name) + 1
		depth++
	}
	if depth == 0 {
		return op.Root, true
	}
	buf := make([]byte, size)
	for d := n; d != t.root; d = d.links.all[0].parent {
		name := d.links.all[0].name
		size -= len(name) + 1
		copy(buf[size:], "/")
		copy(buf[size+1:], name)
	}
	return string(buf[1:]), true
}

// size returns how many inodes are known.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.nodes)
}

// close drops everything once the kernel can ask no more.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		n.orphan.release()
		n.orphan = nil
	}
}
