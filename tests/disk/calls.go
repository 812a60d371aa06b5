package disk

import (
	"context"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an object of a directory whose system calls fail by plan. What does
// not fail is done to the directory behind.
type node struct {
	*fs.LoopbackNode
	faults *faults
}

// newLayer returns the root of a layer over a directory.
func newLayer(dir string, f *faults) (fs.InodeEmbedder, error) {
	root, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		return nil, err
	}
	return &node{root.(*fs.LoopbackNode), f}, nil
}

// WrapChild makes every object a node.
func (n *node) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{child.(*fs.LoopbackNode), n.faults}
}

// fails reports whether a call about the node fails, or about a name in it.
func (n *node) fails(call, name string) (syscall.Errno, bool) {
	return n.faults.fails(Call{Name: call, Path: path.Join(n.Path(n.Root()), name)})
}

func (n *node) failsAt(call string, off int64, length int) (syscall.Errno, bool) {
	return n.faults.fails(Call{Name: call, Path: n.Path(n.Root()), Off: off, Len: int64(length)})
}

// Lookup is a call that finds a name.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno, fails := n.fails("lookup", name); fails {
		return nil, errno
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

// Open is open(2) of a file that is there.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno, fails := n.fails("open", ""); fails {
		return nil, 0, errno
	}
	return n.LoopbackNode.Open(ctx, flags)
}

// Create is open(2) of a file that is not.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno, fails := n.fails("create", name); fails {
		return nil, nil, 0, errno
	}
	return n.LoopbackNode.Create(ctx, name, flags, mode, out)
}

// Mkdir is mkdir(2).
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno, fails := n.fails("mkdir", name); fails {
		return nil, errno
	}
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

// Mknod is mknod(2).
func (n *node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno, fails := n.fails("mknod", name); fails {
		return nil, errno
	}
	return n.LoopbackNode.Mknod(ctx, name, mode, dev, out)
}

// Symlink is symlink(2).
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno, fails := n.fails("symlink", name); fails {
		return nil, errno
	}
	return n.LoopbackNode.Symlink(ctx, target, name, out)
}

// Link is link(2); its path is the new one.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno, fails := n.fails("link", name); fails {
		return nil, errno
	}
	return n.LoopbackNode.Link(ctx, target.(*node).LoopbackNode, name, out)
}

// Setxattr is setxattr(2).
func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	if errno, fails := n.fails("setxattr", ""); fails {
		return errno
	}
	return n.LoopbackNode.Setxattr(ctx, attr, data, flags)
}

// Rename is rename(2); its path is the old one.
func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno, fails := n.fails("rename", name); fails {
		return errno
	}
	return n.LoopbackNode.Rename(ctx, name, parent.(*node).LoopbackNode, newName, flags)
}

// Unlink is unlink(2).
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if errno, fails := n.fails("unlink", name); fails {
		return errno
	}
	return n.LoopbackNode.Unlink(ctx, name)
}

// Rmdir is rmdir(2).
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if errno, fails := n.fails("rmdir", name); fails {
		return errno
	}
	return n.LoopbackNode.Rmdir(ctx, name)
}

// Setattr is chmod(2), truncate(2) and the like.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno, fails := n.fails("setattr", ""); fails {
		return errno
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

// Read is read(2) of what the kernel does not have.
func (n *node) Read(ctx context.Context, f fs.FileHandle, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno, fails := n.failsAt("read", off, len(buf)); fails {
		return nil, errno
	}
	return f.(fs.FileReader).Read(ctx, buf, off)
}

// Write is write(2).
func (n *node) Write(ctx context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno, fails := n.failsAt("write", off, len(data)); fails {
		return uint32(len(data)), errno
	}
	return f.(fs.FileWriter).Write(ctx, data, off)
}

// Fsync is fsync(2) and fdatasync(2), of a directory without a file handle.
func (n *node) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	if errno, fails := n.fails("fsync", ""); fails {
		return errno
	}
	if sync, ok := f.(fs.FileFsyncer); ok {
		return sync.Fsync(ctx, flags)
	}
	return 0 // nothing here loses power
}
