package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// device is an open /dev/fuse that is mounted. Requests are waited for in the
// runtime's poller, like everything that comes from the network: a thread that
// stood in read(2) would keep its processor from the rest of the program. Where
// nothing travels there is no rest to speak of, and the thread costs half.
type device struct {
	file *os.File
	conn syscall.RawConn // file's, for the poller

	// Many goroutines write at once, which an os.File does not allow: a message
	// that waits for the kernel's locks must not hold up the reply that frees
	// them. So they write to fd.
	mu sync.RWMutex // held shared while fd is written to, exclusive to close it
	fd int          // file's; -1 once closed
}

// attach mounts a new device at point.
func (f *FS) attach(point string) (*device, error) {
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		return nil, err
	}
	flags := unix.O_RDWR
	if !f.opts.Alone {
		flags |= unix.O_NONBLOCK // for the poller
	}
	// go-fuse would open it without O_CLOEXEC, and children would keep the mount
	// alive.
	fd, err := openat(unix.AT_FDCWD, "/dev/fuse", flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	var options uintptr
	if !f.opts.Suid {
		options |= unix.MS_NOSUID
	}
	if !f.opts.Dev {
		options |= unix.MS_NODEV
	}
	if f.noAtime {
		options |= unix.MS_NOATIME
	}
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,default_permissions,allow_other",
		fd, st.Mode&unix.S_IFMT, os.Geteuid(), os.Getegid(), maxWrite)
	if err := unix.Mount(f.opts.Name, point, "fuse.standbyfs", options, data); err != nil {
		unix.Close(fd)
		return nil, err
	}
	d := &device{file: os.NewFile(uintptr(fd), "/dev/fuse"), fd: fd}
	if d.conn, err = d.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, unix.Unmount(point, unix.MNT_DETACH), d.file.Close())
	}
	return d, nil
}

// read waits for a request. It belongs to one goroutine at a time.
func (d *device) read(request []byte) (n int, err error) {
	read := func(fd int) bool {
		err = restart(func() error {
			n, err = unix.Read(fd, request)
			return err
		})
		return !errors.Is(err, unix.EAGAIN)
	}
	wait := d.conn.Read(func(fd uintptr) bool { return read(int(fd)) })
	// To the poller an unmount is an error without a name. The device has one.
	if wait != nil && read(d.fd) {
		return n, err
	}
	return n, errors.Join(err, wait)
}

// waits reports whether there is a request to be read.
func (d *device) waits() bool {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents == unix.POLLIN
}

// write gives the kernel a whole message.
func (d *device) write(message []byte) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return restart(func() error {
		_, err := unix.Write(d.fd, message)
		return err
	})
}

// close closes the device once nobody uses it. Later calls fail with EBADF.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file.Close()
	d.fd = -1
}

// abort ends the connection of the file system major:minor, wherever it is
// mounted, and reports whether there was one. The file system that does this
// need not be mounted for it.
func abort(dev string) (aborted bool, err error) {
	_, minor, _ := strings.Cut(dev, ":")
	context, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, fmt.Errorf("open fusectl: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return false, fmt.Errorf("set up fusectl: %w", err)
	}
	control, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("mount fusectl: %w", err)
	}
	defer unix.Close(control)
	fd, err := openat(control, minor+"/abort", unix.O_WRONLY, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s/abort of fusectl: %w", minor, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("1")); err != nil {
		return false, fmt.Errorf("write to %s/abort of fusectl: %w", minor, err)
	}
	return true, nil
}

// gone reports whether an error of the device says that it is not mounted any
// more.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBADF)
}
