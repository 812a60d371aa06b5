package fs

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs/op"
)

// errnos is the one table of what callers get to see of errors that are not
// errnos themselves. Whatever is not in it is EIO.
var errnos = []struct {
	err   error
	errno syscall.Errno
}{
	{op.ErrFenced, syscall.EROFS},
	{op.ErrShortage, syscall.EIO},
	{op.ErrUnrecorded, syscall.EIO},
	{op.ErrInterrupted, syscall.EINTR},
	{context.Canceled, syscall.EINTR},
}

// status turns an error into the reply to a request.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	for _, row := range errnos {
		if errors.Is(err, row.err) {
			return fuse.Status(row.errno)
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		return fuse.Status(errno)
	}
	return fuse.EIO
}
