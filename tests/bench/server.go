package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// The servers that this program is itself, in processes of their own. They say
// when they are ready, and end when their standard input does.

// serveLoopback is go-fuse's loopback example with its settings, but for
// three: it mounts without fusermount, others may use the mount, and
// passthrough is off, with which the kernel would write past the daemon.
func serveLoopback(args []string) error {
	if len(args) != 2 {
		return errors.New("serve-loopback wants a directory and a mount point")
	}
	root, err := gofs.NewLoopbackRoot(args[0])
	if err != nil {
		return err
	}
	second := time.Second
	server, err := gofs.Mount(args[1], root, &gofs.Options{
		AttrTimeout:     &second,
		EntryTimeout:    &second,
		NullPermissions: true,
		MountOptions: fuse.MountOptions{
			AllowOther:           true,
			DirectMount:          true,
			FsName:               args[0],
			Name:                 "loopback",
			Options:              []string{"default_permissions"},
			DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		},
	})
	if err != nil {
		return err
	}
	if err := untilTold("ready"); err != nil {
		return err
	}
	if err := server.Unmount(); err != nil {
		return err
	}
	server.Wait()
	return nil
}

// serveNull is our file system with the null Committer.
func serveNull(args []string) error {
	if len(args) != 2 {
		return errors.New("serve-null wants a directory and a mount point")
	}
	t, err := tree.Open(args[0])
	if err != nil {
		return err
	}
	defer t.Close()
	f, err := fs.New(t, fs.Null{}, fs.Options{Alone: true})
	if err != nil {
		return err
	}
	m, err := f.Mount(args[1])
	if err != nil {
		return err
	}
	if err := untilTold("ready"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = m.Unmount(ctx)
	return errors.Join(err, m.Close())
}

// network is a network to addresses with a delay in each direction. The line
// that it says is where the ways to them begin.
func network(args []string) error {
	if len(args) < 2 {
		return errors.New("network wants a delay and addresses")
	}
	delay, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	slow := harness.Lane{Delay: delay}
	var near []string
	for _, addr := range args[1:] {
		p, err := harness.ListenProxy(addr)
		if err != nil {
			return err
		}
		defer p.Close()
		p.Set(harness.Fault{Lanes: [...]harness.Lane{harness.Up: slow, harness.Down: slow}})
		near = append(near, p.Addr())
	}
	return untilTold(strings.Join(near, " "))
}

// untilTold says a line, when the server is ready, and returns when it is to
// end.
func untilTold(line string) error {
	raiseFiles()
	// Not given back: what ends the process must not come a second time.
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM, unix.SIGINT)
	if _, err := fmt.Println(line); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-told:
	case <-gone:
	}
	return nil
}

// raiseFiles raises the limit of open files, as the program does.
func raiseFiles() {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		files.Cur = files.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	}
}
