package fs

import (
	"cmp"
	"slices"
)

// Locks, in the order in which they are taken:
//
//  1. FS.names, the tree lock. Exclusive: rename, link, unlink, rmdir, the
//     search for unknown names, HoldAll. Shared: every other op. While it is
//     held shared, no name that exists goes away or changes its meaning, so
//     that the path of an inode is exact.
//  2. inode.mu, which orders the changes of one object: a file's data and
//     attributes, a directory's entries. Several of them are locked by lockPair
//     and lockAll only, sorted by node ID. Whoever holds names exclusively needs none.
//  3. table.mu, times.mu, handles.mu: leaves. Nothing is called under them.
//
// 1 and 2 are held over the local system call and the taking of a position,
// never over the wait for a mirror. The kernel's own locks do not do: it does
// not order writeback of mappings, parallel direct writes, sources of
// copy_file_range and renames of ancestors against each other.

// lockPair locks two inodes, which may be the same or nil, and returns the
// function that unlocks them.
func lockPair(a, b *inode) (unlock func()) {
	switch {
	case a == nil:
		a = b
	case b == nil || a == b:
	case a.id > b.id:
		b.mu.Lock()
		a.mu.Lock()
		return func() { a.mu.Unlock(); b.mu.Unlock() }
	default:
		a.mu.Lock()
		b.mu.Lock()
		return func() { b.mu.Unlock(); a.mu.Unlock() }
	}
	if a == nil {
		return func() {}
	}
	a.mu.Lock()
	return a.mu.Unlock
}

// lockAll is lockPair for any number of inodes.
func lockAll(all []*inode) (unlock func()) {
	all = slices.DeleteFunc(all, func(n *inode) bool { return n == nil })
	slices.SortFunc(all, func(a, b *inode) int { return cmp.Compare(a.id, b.id) })
	all = slices.Compact(all)
	for _, n := range all {
		n.mu.Lock()
	}
	return func() {
		for _, n := range slices.Backward(all) {
			n.mu.Unlock()
		}
	}
}
