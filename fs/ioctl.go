package fs

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// Commands that package unix does not have.
const (
	fsGetVersion = 0x80087601
	fsGetXattr   = 0x801c581f
	fsSetXattr   = 0x401c5820
)

// The flags that FS_IOC_FSSETXATTR has for those of op.InodeFlags, by bits of
// their own, and the size of its struct fsxattr. Of its other members ext4 has
// the project only.
var xflags = map[uint32]uint32{
	0x8: op.InodeImmutable, 0x10: op.InodeAppend, 0x20: op.InodeSync, 0x40: op.InodeNoatime, 0x80: op.InodeNodump,
}

const fsXattrSize = 28

// Ioctl reads and sets the flags of chattr(1). The kernel has looked whether the
// caller may. The version is, like the inode's number, that of the inode below.
func (f *front) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, arg []byte, _ *fuse.IoctlOut, buf []byte) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	switch in.Cmd {
	case unix.FS_IOC_GETFLAGS, fsGetVersion:
		return status(ioctl(h.fd, in.Cmd, buf, 4)) // whatever the command's number says, it is an int
	case fsGetXattr:
		return status(ioctl(h.fd, in.Cmd, buf, fsXattrSize))
	case unix.FS_IOC_SETFLAGS, fsSetXattr:
		return f.setFlags(cancel, in, h, arg)
	}
	return fuse.Status(syscall.ENOTTY)
}

func ioctl(fd int, command uint32, buf []byte, size int) error {
	if len(buf) < size {
		return unix.EINVAL
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(command), uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
		return errno
	}
	return nil
}

// layout are the flags that say how a file lies on the disk below. Each replica
// has its own: whether they are set or not is nobody's wish, and most programs
// that set flags leave them out. (ext4 ignores all of them but FS_EXTENT_FL.)
const layout = 0x80000 | // FS_EXTENT_FL
	0x1000 | // FS_INDEX_FL
	0x10000000 | // FS_INLINE_DATA_FL
	0x40000 | // FS_HUGE_FILE_FL
	0x200000 | // FS_EA_INODE_FL
	0x800 | // FS_ENCRYPT_FL
	0x100000 | // FS_VERITY_FL
	0x100 | 0x200 | 0x400 // FS_DIRTY_FL, FS_COMPRBLK_FL, FS_NOCOMP_FL

// setFlags sets those flags that travel. To change any other is refused: a
// mirror would not have it.
func (f *front) setFlags(cancel <-chan struct{}, in *fuse.IoctlIn, h *handle, arg []byte) fuse.Status {
	if err := f.admit(cancel); err != nil {
		return status(err)
	}
	ack, err := func() (op.Ack, error) {
		path, end := f.begin(h.n)
		defer end()
		have, err := tree.InodeFlags(h.fd)
		if err != nil {
			return nil, err
		}
		want, err := asked(in.Cmd, h.fd, arg, have)
		if err != nil {
			return nil, err
		}
		want = want&^layout | have&layout
		if (want^have)&^op.InodeFlags != 0 {
			return nil, unix.EOPNOTSUPP
		}
		o := &op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrFlags, Flags: want & op.InodeFlags}}
		return f.change(cancel, o, func() error {
			return ioctl(h.fd, unix.FS_IOC_SETFLAGS, binary.NativeEndian.AppendUint32(nil, want), 4)
		})
	}()
	if err != nil {
		return status(err)
	}
	f.server.distrustAttr(in.NodeId) // the ctime has moved, which the kernel does not expect
	return f.after(&in.InHeader, nil, nil, ack)
}

// asked returns the flags that a file with the flags have gets by a command.
func asked(command uint32, fd int, arg []byte, have uint32) (want uint32, err error) {
	if command == unix.FS_IOC_SETFLAGS {
		if len(arg) < 4 {
			return 0, unix.EINVAL
		}
		return binary.NativeEndian.Uint32(arg), nil
	}
	if len(arg) < fsXattrSize {
		return 0, unix.EINVAL
	}
	var now [fsXattrSize]byte
	if err := ioctl(fd, fsGetXattr, now[:], fsXattrSize); err != nil {
		return 0, err
	}
	const project = 12
	if binary.NativeEndian.Uint32(now[project:]) != binary.NativeEndian.Uint32(arg[project:]) {
		return 0, unix.EOPNOTSUPP
	}
	was, is := binary.NativeEndian.Uint32(now[:]), binary.NativeEndian.Uint32(arg)
	want = have
	for bit, flag := range xflags {
		switch {
		case (was^is)&bit == 0:
		case is&bit != 0:
			want |= flag
		default:
			want &^= flag
		}
		was &^= bit
		is &^= bit
	}
	const informative = 1 << 31 // FS_XFLAG_HASATTR
	if (was^is)&^uint32(informative) != 0 {
		return 0, unix.EOPNOTSUPP
	}
	return want, nil
}
