package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketName is the node's socket in its state directory.
const socketName = "admin.sock"

// A unix socket's address holds 108 bytes, a state directory's path may be
// longer. Both sides therefore open the directory and name the socket through
// its descriptor.
func through(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName)
}

func openDir(stateDir string) (*os.File, error) {
	fd, err := unix.Open(stateDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", stateDir, err)
	}
	return os.NewFile(uintptr(fd), stateDir), nil
}

// listener is the node's socket. It keeps the directory open, because its
// address leads through it, and removes the socket when it is closed.
type listener struct {
	net.Listener
	dir *os.File
}

// Listen binds the socket of stateDir. The caller holds the state directory's
// lock, so a socket that stands there belongs to a process that is gone.
func Listen(stateDir string) (net.Listener, error) {
	dir, err := openDir(stateDir)
	if err != nil {
		return nil, err
	}
	l, err := listenIn(dir)
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("listen on %s/%s: %w", stateDir, socketName, err)
	}
	return &listener{Listener: l, dir: dir}, nil
}

func listenIn(dir *os.File) (net.Listener, error) {
	if err := unix.Unlinkat(int(dir.Fd()), socketName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: through(dir), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := unix.Fchmodat(int(dir.Fd()), socketName, 0o600, 0); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect the socket: %w", err)
	}
	return l, nil
}

// Close removes the socket. It may be called twice.
func (l *listener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	unlink := unix.Unlinkat(int(l.dir.Fd()), socketName, 0)
	return errors.Join(err, unlink, l.dir.Close())
}

// dial connects to the node of stateDir, or returns ErrNotRunning.
func dial(ctx context.Context, stateDir string) (net.Conn, error) {
	dir, err := openDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ErrNotRunning, stateDir)
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", through(dir))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody answers at %s/%s", ErrNotRunning, stateDir, socketName)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s/%s: %w", stateDir, socketName, err)
	}
	return conn, nil
}
