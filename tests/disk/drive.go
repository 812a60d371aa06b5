package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// drive is a disk drive with a volatile write cache, as a loop device sees it: a
// file. What was written is seen by reads at once, in now. It is on the platter
// once a flush has ended, which is an fsync of the file. A power cut loses a
// seeded choice of what was written since.
type drive struct {
	fs.Inode
	size   int64
	faults *faults

	mu      sync.Mutex // guards all below; held over the I/O of each request
	now     *os.File   // what reads see
	platter *os.File   // what a power cut leaves
	cached  []extent   // written since the last flush, in order
	flushes int
	// dark is set by a power cut. Requests hang until released is closed, and fail
	// then.
	dark     bool
	released chan struct{}
}

// extent is one write that is not on the platter.
type extent struct {
	off  int64
	data []byte
}

// sector is what a drive writes whole or not at all, in bytes.
const sector = 512

// newDrive opens a drive whose platter is the file at path. Beside it lies what
// its cache holds.
func newDrive(path string, f *faults) (*drive, error) {
	platter, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := platter.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.OpenFile(path+".now", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := copySparse(now, platter, st.Size()); err != nil {
		return nil, err
	}
	return &drive{size: st.Size(), faults: f, now: now, platter: platter, released: make(chan struct{})}, nil
}

// copySparse copies what is not a hole.
func copySparse(to, from *os.File, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		data, err := unix.Seek(int(from.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(from, data, end-data)); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// request takes mu, or waits for the end of a drive without power and fails.
func (d *drive) request() syscall.Errno {
	d.mu.Lock()
	if !d.dark {
		return 0
	}
	d.mu.Unlock()
	<-d.released
	return syscall.EIO
}

// Open gives the loop device its file. Nothing of it is kept by the kernel:
// each of its requests is seen here.
func (d *drive) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Getattr says how large the drive is.
func (d *drive) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blksize = fuse.S_IFREG|0o600, uint64(d.size), 4096
	return 0
}

// Read reads what was written last.
func (d *drive) Read(_ context.Context, _ fs.FileHandle, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := d.request(); errno != 0 {
		return nil, errno
	}
	defer d.mu.Unlock()
	if errno, fails := d.faults.fails(Call{Name: "read", Off: off, Len: int64(len(buf))}); fails {
		return fuse.ReadResultData(make([]byte, len(buf))), errno
	}
	n, err := d.now.ReadAt(buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(buf[:n]), 0
}

// Write writes into the cache.
func (d *drive) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := d.request(); errno != 0 {
		return 0, errno
	}
	defer d.mu.Unlock()
	if errno, fails := d.faults.fails(Call{Name: "write", Off: off, Len: int64(len(data))}); fails {
		return uint32(len(data)), errno
	}
	if _, err := d.now.WriteAt(data, off); err != nil {
		return 0, fs.ToErrno(err)
	}
	d.cached = append(d.cached, extent{off, append([]byte(nil), data...)})
	return uint32(len(data)), 0
}

// Fsync is a flush: all that was written is on the platter when it returns.
func (d *drive) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if errno := d.request(); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	if errno, fails := d.faults.fails(Call{Name: "flush"}); fails {
		return errno
	}
	for _, e := range d.cached {
		if _, err := d.platter.WriteAt(e.data, e.off); err != nil {
			return fs.ToErrno(err)
		}
	}
	d.cached = nil
	d.flushes++
	return 0
}

// cut takes the power away: each write since the last flush is on the platter,
// or is not, or some of its sectors are. A drive orders nothing that no flush
// lies between, so any choice is one that a real one may make.
func (d *drive) cut(seed uint64) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dark {
		return "", errors.New("there is no power to cut")
	}
	d.dark = true
	random := rand.New(rand.NewPCG(seed, 0))
	// Whole cuts differ, too: from all but lost to all but kept.
	keep, tear := random.Float64(), random.Float64()/4
	kept, torn := 0, 0
	for _, e := range d.cached {
		if random.Float64() >= keep {
			continue
		}
		tears := random.Float64() < tear
		if tears {
			torn++
		} else {
			kept++
		}
		for at := 0; at < len(e.data); at += sector {
			if tears && random.IntN(2) == 0 {
				continue
			}
			if _, err := d.platter.WriteAt(e.data[at:min(at+sector, len(e.data))], e.off+int64(at)); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("seed %d: of %d writes since the last of %d flushes %d are kept, %d torn", seed, len(d.cached), d.flushes, kept, torn), nil
}

// release fails all requests that a cut has left hanging.
func (d *drive) release() { close(d.released) }

// drives is the directory with the one file in it.
type drives struct {
	fs.Inode
	drive *drive
}

// driveFile is the drive's name in the file system that serves it.
const driveFile = "drive"

// OnAdd makes the one file.
func (r *drives) OnAdd(ctx context.Context) {
	r.AddChild(driveFile, r.NewPersistentInode(ctx, r.drive, fs.StableAttr{Mode: fuse.S_IFREG}), true)
}
