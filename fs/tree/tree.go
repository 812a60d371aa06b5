// Package tree is a plain directory as a state machine: it applies ops, says
// what is where, compares regions, and walks. Primary and mirror run the same
// code. It knows no network and no order: the caller brings the ops one after
// the other.
//
//	at.go       the one way to an object: directory descriptor and name
//	apply.go    ops that change the replica, strictly
//	data.go     those that change a file's data
//	results.go  the attributes and times that ops carry
//	lenient.go  the same during a resync: what is in the way makes way
//	put.go      repair ops: make an object equal to a description
//	hint.go     a rename that may save sending content
//	loss.go     what an op takes away
//	describe.go reading descriptions: attributes, xattrs, names; chattr.go inode flags
//	aliases.go  all names of a file
//	quiet.go    reading symbolic links without a trace
//	region.go   file data in regions: digests, holes, ranges
//	unwritten.go  space that only looks like data
//	survey.go   many small objects at once
//	compare.go  a description against what is here, in words
//	view.go     what is at a path, from the disk; unnamed.go a file in the making
//	state.go    a whole subtree as ops
//	clone.go    a copy of the tree that shares its data
//	diff.go     two trees against each other
//	digest.go   one digest of a whole tree, for people
//	sync.go     files to stable storage, many at once; reread.go past what is in memory
//	fault.go    errors that are the disk's fault
//
// No function follows a symbolic link, and none leaves the root.
package tree

import (
	"errors"
	"fmt"
	"os"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Tree is an open directory tree. Apply and ApplyLenient are called by one
// goroutine at a time; all else may run beside them.
type Tree struct {
	dir   string
	root  *os.File
	quiet int      // see quietly
	dirs  *fdCache // descriptors of directories, for At
	files *fdCache // writable descriptors of files, for Apply

	// Waits is called before what is likely to wait for the disk. It does nothing
	// unless it is set, before anything else is called.
	Waits func()
	// Around is given each op to apply and each sync of everything, then without
	// an op, and runs it or returns an error of its own. Tests of crashes and of
	// failing disks set it, before anything else is called; else it is nil.
	Around func(o *op.Op, do func() error) error
}

// How many descriptors a Tree keeps open at most, of each kind.
const (
	cachedDirs  = 128
	cachedFiles = 64
)

// Open opens the tree below dir, which must be a directory.
func Open(dir string) (*Tree, error) {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	// A process that may not have many keeps an eighth of them.
	few := max(1, MaxDescriptors()/16)
	return &Tree{
		dir: dir, root: f, quiet: quietly(int(f.Fd())),
		dirs: newFDCache(min(cachedDirs, few)), files: newFDCache(min(cachedFiles, few)),
		Waits: func() {},
	}, nil
}

// MaxDescriptors is how many descriptors this process may have.
func MaxDescriptors() int {
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &most); err != nil {
		most.Cur = 1024 // what systems give at least
	}
	return int(min(most.Cur, 1<<30))
}

// Dir returns the path that the tree was opened by.
func (t *Tree) Dir() string { return t.dir }

// Close closes all descriptors. Nothing else may run any more.
func (t *Tree) Close() error {
	t.dirs.drop(".")
	t.files.drop(".")
	if t.quiet >= 0 {
		unix.Close(t.quiet)
	}
	return t.root.Close()
}

// ErrReplaced says that the directory is not the one that was opened.
var ErrReplaced = errors.New("the replica's directory was removed or replaced while it is in use: stop the node, put the directory back, and start it again")

// Settle forgets every descriptor that is kept, so that all that follows is
// found by its name, and makes sure that the root is still the directory at
// Dir: who changes a replica behind the node's back must not fool a repair.
func (t *Tree) Settle() error {
	t.Forget(op.Root)
	var here, there unix.Stat_t
	if err := unix.Fstat(int(t.root.Fd()), &here); err != nil {
		return pathError("stat", t.dir, err)
	}
	err := unix.Stat(t.dir, &there)
	if err != nil && !missing(err) {
		return pathError("stat", t.dir, err)
	}
	if err != nil || here.Dev != there.Dev || here.Ino != there.Ino {
		return fmt.Errorf("%s: %w", t.dir, ErrReplaced)
	}
	return nil
}

// Sync returns once all of the file system that holds the tree is on stable
// storage. An error of a write-back since the last call is reported once
// (syncfs(2), Linux 5.8).
func (t *Tree) Sync() error {
	sync := func() error { return unix.Syncfs(int(t.root.Fd())) }
	if around := t.Around; around != nil {
		bare := sync
		sync = func() error { return around(nil, bare) }
	}
	if err := sync(); err != nil {
		return fmt.Errorf("sync %s: %w", t.dir, err)
	}
	return nil
}

// OpenForSync returns a descriptor of what has to be synced to make the object
// at path durable: itself, or, where it cannot be opened for that, its
// directory. That of a file which was just written to is open already.
func (t *Tree) OpenForSync(path string) (Pinned, error) {
	if c, _ := t.files.get(path); c != nil {
		return Pinned{c}, nil
	}
	at, err := t.At(path)
	if err != nil {
		return Pinned{}, err
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(at.FD, at.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Pinned{}, pathError("stat", path, err)
	}
	name := at.Name
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFREG && k != unix.S_IFDIR {
		name = "."
	}
	fd, err := openat(at.FD, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return Pinned{}, pathError("open", path, err)
	}
	return Pinned{&cachedFD{cache: t.files, fd: fd, users: 1}}, nil
}

// pathError says what was done to which path of the tree.
func pathError(what, path string, err error) error {
	return &os.PathError{Op: what, Path: path, Err: err}
}

// openat opens a name in a directory. It is never inherited and never waits
// for a fifo's other end.
func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
