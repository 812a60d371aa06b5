package fs_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// full is a Committer on a disk without room, which says when it was asked.
type full struct {
	recorder
	room  atomic.Bool
	asked chan struct{}
}

func (c *full) Commit(ctx context.Context, o *op.Op, apply func() error) (op.Ack, error) {
	if !c.room.Load() {
		c.asked <- struct{}{}
		return nil, unix.ENOSPC
	}
	return c.recorder.Commit(ctx, o, apply)
}

// TestRoomOfForgotten sees a call without room wait for files that the kernel
// has forgotten, and fail if there are none.
func TestRoomOfForgotten(t *testing.T) {
	c := &full{asked: make(chan struct{}, 1)}
	m := mount(t, c, fs.Options{Alone: true})
	want(t, "mkdir without room", os.Mkdir(m.Dir+"/d", 0o755), unix.ENOSPC)
	<-c.asked

	end := m.fs.Forgetting()
	returned := start(func() error { return os.Mkdir(m.Dir+"/d", 0o755) })
	<-c.asked
	waits(t, returned)
	c.room.Store(true)
	end()
	must(t, returns(t, returned))

	write(t, m.Dir+"/f", "x")
	before, _ := m.fs.Forgets()
	must(t, os.Remove(m.Dir+"/f"))
	eventually(t, "the file is forgotten", func() bool {
		taken, ended := m.fs.Forgets()
		return taken > before && ended == taken
	})
}
