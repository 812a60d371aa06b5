package harness

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
)

// routine is a node that runs in this process.
type routine struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	err    error         // what it returned; read after ended
}

// NoUmask clears the process's umask, as the program does: modes come from the
// kernel with the caller's umask applied. A package whose tests run nodes or
// mounts in their own process calls it in its TestMain.
func NoUmask() { unix.Umask(0) }

// inProcess starts a node as daemon.Run in a goroutine.
func inProcess(t testing.TB, n *Node) (instance, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := n.Config
	cfg.Replica, cfg.StateDir, cfg.Mountpoint = n.Replica, n.StateDir, n.Mountpoint
	cfg.Name, cfg.Listen = n.Name, n.Addr
	cfg.Logger = slog.New(slog.NewTextHandler(logTo(t, n.Name), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ready := make(chan string, 1)
	cfg.Ready = func(line string) { ready <- line }
	r := &routine{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = daemon.Run(ctx, cfg)
	}()
	select {
	case line := <-ready:
		t.Logf("%s: ready: %s", n.Name, line)
		return r, nil
	case <-r.ended:
		cancel()
		if r.err == nil {
			r.err = errNotReady
		}
		return nil, r.err
	case <-time.After(patience):
		cancel()
		return nil, errors.New("it does not become ready")
	}
}

func (r *routine) stop() error {
	r.cancel()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(patience):
		return errors.New("it does not end")
	}
}

func (r *routine) done() <-chan struct{} { return r.ended }
func (r *routine) pid() int              { return os.Getpid() }
