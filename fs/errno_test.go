package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
)

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want fuse.Status
	}{
		{nil, fuse.OK},
		{op.ErrFenced, fuse.EROFS},
		{fmt.Errorf("write: %w", op.ErrFenced), fuse.EROFS},
		{op.ErrShortage, fuse.EIO},
		{op.ErrInterrupted, fuse.EINTR},
		{context.Canceled, fuse.EINTR},
		{context.DeadlineExceeded, fuse.EIO},
		{syscall.ENOSPC, fuse.Status(syscall.ENOSPC)},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, fuse.Status(syscall.EMFILE)},
		{errors.New("anything else"), fuse.EIO},
	} {
		if got := fs.Status(tc.err); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.want)
		}
	}
}
