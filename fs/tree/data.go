package tree

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// write writes all of the data.
func (a applier) write() error {
	return a.onFile(a.Path, func(fd int) error { return writeAll(fd, a.Data, a.Off) })
}

func writeAll(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// copyRange copies exactly Len bytes: the primary did so.
func (a applier) copyRange() error {
	return a.onFile(a.Path, func(from int) error {
		return a.onFile(a.Path2, func(to int) error { return copyAll(from, to, a.Off, a.Off2, a.Len) })
	})
}

func copyAll(from, to int, off, off2, n int64) error {
	for n > 0 {
		k, err := unix.CopyFileRange(from, &off, to, &off2, int(min(n, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return copyByHand(from, to, off, off2, n)
		case err != nil:
			return err
		case k == 0:
			return fmt.Errorf("the source ends %d bytes early: %w", n, io.ErrUnexpectedEOF)
		}
		n -= int64(k) // off and off2 were moved by the call
	}
	return nil
}

func copyByHand(from, to int, off, off2, n int64) error {
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		k, err := unix.Pread(from, buf[:min(n, int64(len(buf)))], off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case k == 0:
			return fmt.Errorf("the source ends %d bytes early: %w", n, io.ErrUnexpectedEOF)
		}
		if err := writeAll(to, buf[:k], off2); err != nil {
			return err
		}
		n, off, off2 = n-int64(k), off+int64(k), off2+int64(k)
	}
	return nil
}

// onFile calls fn with a descriptor of the regular file at path, open for
// reading and writing. The descriptor is kept for the next op on the path.
func (a applier) onFile(path string, fn func(fd int) error) error {
	c, drops := a.files.get(path)
	if c == nil {
		fd, _, err := a.openRegular(path, unix.O_RDWR)
		if err != nil {
			return err
		}
		c = a.files.put(path, fd, drops)
	}
	defer c.release()
	return fn(c.fd)
}

// retry calls fn until no signal interrupts it.
func retry(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
