package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/mountinfo"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// maxWrite is the largest write and read that the kernel sends, in bytes.
const maxWrite = 1 << 20

// readAhead is how far the kernel reads ahead, in KiB.
const readAhead = 1024

// ErrMounted says that something is mounted where we were to clean up.
var ErrMounted = errors.New("something is mounted there and alive")

// Mount is a file system that is mounted.
type Mount struct {
	fs    *FS
	point string
	dev   string        // major:minor
	done  chan struct{} // closed by the goroutine that serves, at its end
}

// Mount mounts f and returns when the mount answers. Neither may the mount
// point lie inside of the replica nor the replica inside of the mount point:
// whoever reached for the replica would reach into the mount.
func (f *FS) Mount(mountpoint string) (*Mount, error) {
	point, err := filepath.Abs(mountpoint)
	if err == nil {
		point, err = filepath.EvalSymlinks(point)
	}
	if err != nil {
		return nil, fmt.Errorf("mount point: %w", err)
	}
	replica, err := filepath.Abs(f.tree.Dir())
	if err == nil {
		replica, err = filepath.EvalSymlinks(replica)
	}
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	if op.Within(point, replica) || op.Within(replica, point) {
		return nil, fmt.Errorf("mount point %s and replica %s lie inside of one another: choose a mount point elsewhere", point, replica)
	}
	dev, err := f.attach(point)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	f.serveOn(dev)
	m := &Mount{fs: f, point: point, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		f.run()
	}()
	m.settle()
	return m, nil
}

// protocolOptions is what the kernel and we agree on.
func (f *FS) protocolOptions() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                     "standbyfs",
		MaxBackground:            64,
		MaxWrite:                 maxWrite,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		EnableAcl:                f.hasACLs(),
		Debug:                    f.opts.Debug,
		Logger:                   slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
		// Writes say themselves when they clear set-ID bits, instead of the kernel
		// asking for security.capability before each.
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO |
			// Only a directory's default access list says whether a umask counts.
			fuse.CAP_DONT_MASK | fuse.CAP_SETXATTR_EXT,
		// The kernel must not write past us.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
	}
}

// settle brings the new mount into shape. It is the only time that this process
// touches its own mount, before anybody else can and while all its threads are
// free to answer.
func (m *Mount) settle() {
	// A Go program that opens a file asks the kernel to watch it, without giving
	// up its processor: where it is this very process (in tests), garbage
	// collection could wait for it for ever. The kernel stops forwarding these
	// questions once one was answered with ENOSYS, which go-fuse does for this name.
	if fd, err := openat(unix.AT_FDCWD, filepath.Join(m.point, ".go-fuse-epoll-hack"), unix.O_RDONLY, 0); err == nil {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		unix.Close(fd)
	}
	mounts, err := mountinfo.At(m.point)
	if err != nil || len(mounts) == 0 {
		m.fs.log.Warn("the mount is not in /proc/self/mountinfo", "mount", m.point, "error", err)
		return
	}
	m.dev = mounts[len(mounts)-1].Dev
	knob := "/sys/class/bdi/" + m.dev + "/read_ahead_kb"
	if err := os.WriteFile(knob, fmt.Append(nil, readAhead), 0); err != nil {
		m.fs.log.Warn("read-ahead stays at the kernel's default: large reads are slower", "error", err)
	}
}

// Done is closed when the file system was unmounted, by us or by umount(8), and
// everything that it held is put away.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount unmounts. While files are open it tries again until ctx ends; then it
// takes the mount away from whoever uses it, which is lazy. It takes it away as
// well from other mount namespaces (containers, `ip netns exec`) that were made
// while it was mounted and have it still: until then it is served. Calls that
// wait for mirrors end with ctx, too.
func (m *Mount) Unmount(ctx context.Context) (lazy bool, err error) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := m.detach(unix.UMOUNT_NOFOLLOW)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) {
			return false, fmt.Errorf("unmount %s: %w", m.point, err)
		}
		select {
		case <-m.done:
			return false, nil
		case <-retry.C:
			continue
		case <-ctx.Done():
		}
		// MNT_FORCE makes the kernel end the connection, so that we can end, too.
		if err := m.detach(unix.UMOUNT_NOFOLLOW | unix.MNT_DETACH | unix.MNT_FORCE); err != nil {
			return false, fmt.Errorf("detach %s: %w", m.point, err)
		}
		lazy = true
		break
	}
	select {
	case <-m.done:
		return lazy, nil
	case <-ctx.Done():
	}
	m.fs.stop()
	aborted, err := abort(m.dev)
	if err != nil {
		return false, fmt.Errorf("end the connection of %s: %w", m.point, err)
	}
	return lazy || aborted, nil
}

// detach unmounts what is ours: not what somebody mounted over it, and nothing
// if it is gone already.
func (m *Mount) detach(flags int) error {
	mounts, err := mountinfo.At(m.point)
	if err != nil {
		return err
	}
	for i, mt := range mounts {
		if mt.Dev != m.dev {
			continue
		}
		if i != len(mounts)-1 {
			return unix.EBUSY
		}
		return unix.Unmount(m.point, flags)
	}
	return nil
}

// Close waits until nothing is served any more. It does not unmount.
func (m *Mount) Close() error {
	<-m.done
	return nil
}

// CleanStale detaches what a server that died left mounted at mountpoint. It is
// fine if there is nothing. What is alive is left alone: ErrMounted.
func CleanStale(mountpoint string) error {
	point, err := filepath.Abs(mountpoint)
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	// The mount point itself cannot be asked whether it is a link if it is dead.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(point)); err == nil {
		point = filepath.Join(dir, filepath.Base(point))
	}
	for {
		mounts, err := mountinfo.At(point)
		if err != nil {
			return err
		}
		if len(mounts) == 0 {
			return nil
		}
		// statfs asks the server each time; what stat says may be cached.
		var st unix.Statfs_t
		err = restart(func() error { return unix.Statfs(point, &st) })
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			return fmt.Errorf("%s: %s: %w (umount it first, or choose another mount point)", point, mounts[len(mounts)-1].Type, ErrMounted)
		}
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach the dead mount %s: %w", point, err)
		}
	}
}
