package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// What multiplexing costs: encoded 4K writes go from one process to another,
// which decodes them and acknowledges cumulatively, once over the log stream of
// a session as between primary and mirror, and once over a bare connection.
// Nothing is applied. As many callers as there are threads wait for their acks,
// and what they have encoded meanwhile is written at once, as in package mirror.

// stream is one end of what carries frames.
type stream struct {
	io.ReadWriter
	close func() error
}

// dialStream connects as a configuration says.
func dialStream(ctx context.Context, name, addr, certificates string) (stream, error) {
	var client *tls.Config
	if name != "yamux-plain" && name != "bare-plain" {
		c, err := wire.LoadTLS(certificates)
		if err != nil {
			return stream{}, err
		}
		client = c.Client
	}
	if name == "yamux-tls" || name == "yamux-plain" {
		s, err := wire.Dial(ctx, addr, wire.LaneOps, client)
		if err != nil {
			return stream{}, err
		}
		return stream{s.Log(), s.Close}, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return stream{}, err
	}
	if client != nil {
		client = client.Clone()
		client.ServerName = "127.0.0.1"
		conn = tls.Client(conn, client)
	}
	return stream{conn, conn.Close}, nil
}

// acceptStream is the other end.
func acceptStream(ctx context.Context, name string, conn net.Conn, server *tls.Config) (stream, error) {
	switch name {
	case "yamux-plain", "bare-plain":
		server = nil
	}
	if name == "yamux-tls" || name == "yamux-plain" {
		s, err := wire.Accept(ctx, conn, server)
		if err != nil {
			return stream{}, err
		}
		return stream{s.Log(), s.Close}, nil
	}
	if server != nil {
		conn = tls.Server(conn, server)
	}
	return stream{conn, conn.Close}, nil
}

// bringWire starts the receiving process.
func (s *system) bringWire(ctx context.Context, root, self string) error {
	ca := filepath.Join(root, "ca")
	if err := wire.InitCA(ca); err != nil {
		return err
	}
	var err error
	if s.secret, err = wire.Issue(ca, "node", nil); err != nil {
		return err
	}
	s.mount, s.dir = "", root
	s.address, err = s.serve(ctx, root, "receiver", exec.Command(self, "serve-wire", s.Name, s.secret))
	return err
}

// serveWire receives from one sender after the other.
func serveWire(args []string) error {
	if len(args) != 2 {
		return errors.New("serve-wire wants a configuration and a directory of certificates")
	}
	c, err := wire.LoadTLS(args[1])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				end := context.AfterFunc(ctx, func() { conn.Close() })
				defer end()
				s, err := acceptStream(ctx, args[0], conn, c.Server)
				if err == nil {
					err = receive(s)
					s.close()
				}
				if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
					fmt.Println("receive:", err)
				}
			})
		}
	})
	err = untilTold(l.Addr().String())
	stop()
	l.Close()
	serving.Wait()
	return err
}

// receiver decodes what comes and acknowledges it before it waits for more.
type receiver struct {
	s    stream
	last op.LSN
	due  bool
	buf  []byte
}

func (r *receiver) Read(p []byte) (int, error) {
	if r.due {
		r.due = false
		r.buf = wire.AppendAck(r.buf[:0], 1, wire.Ack{Applied: r.last})
		if _, err := r.s.Write(r.buf); err != nil {
			return 0, err
		}
	}
	return r.s.Read(p)
}

func receive(s stream) error {
	r := &receiver{s: s}
	frames := wire.NewReader(r)
	var o op.Op
	for {
		h, payload, err := frames.Next()
		if err != nil {
			return err
		}
		if err := wire.DecodeOp(h, payload, &o); err != nil {
			return err
		}
		r.last, r.due = h.LSN, true
	}
}

// sender gathers the frames of callers and wakes them when they are
// acknowledged.
type sender struct {
	s    stream
	wake chan struct{}

	mu      sync.Mutex // guards all below
	pending []byte
	lsn     op.LSN
	offset  uint64
	waiting []caller // in the order of their ops
	failed  error
}

type caller struct {
	lsn  op.LSN
	done chan error
}

// send orders a frame and waits for its ack.
func (s *sender) send(frame []byte, done chan error) error {
	s.mu.Lock()
	if s.failed != nil {
		defer s.mu.Unlock()
		return s.failed
	}
	s.lsn++
	s.offset += uint64(len(frame))
	wire.Seal(frame, s.lsn, s.offset)
	s.pending = append(s.pending, frame...)
	s.waiting = append(s.waiting, caller{s.lsn, done})
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return <-done
}

// write sends what has gathered, until wake is closed.
func (s *sender) write() {
	var spare []byte
	for range s.wake {
		s.mu.Lock()
		out := s.pending
		s.pending, spare = spare[:0], out
		s.mu.Unlock()
		if len(out) > 0 {
			if _, err := s.s.Write(out); err != nil {
				s.fail(err)
			}
		}
	}
}

// read takes acks until the stream ends.
func (s *sender) read() {
	frames := wire.NewReader(s.s)
	for {
		_, payload, err := frames.Next()
		var a wire.Ack
		if err == nil {
			a, err = wire.DecodeAck(payload)
		}
		if err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		n := 0
		for n < len(s.waiting) && s.waiting[n].lsn <= a.Applied {
			s.waiting[n].done <- nil
			n++
		}
		s.waiting = append(s.waiting[:0], s.waiting[n:]...)
		s.mu.Unlock()
	}
}

func (s *sender) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	for _, c := range s.waiting {
		c.done <- s.failed
	}
	s.waiting = nil
}

// loadWire sends writes of so many callers at a time.
func loadWire(l *loader) error {
	to, err := dialStream(context.Background(), l.Config, l.Address, l.Secret)
	if err != nil {
		return err
	}
	s := &sender{s: to, wake: make(chan struct{}, 1)}
	var owned sync.WaitGroup
	owned.Go(s.write)
	owned.Go(s.read)
	// Callers are goroutines here, as they are in the daemon.
	l.light = true
	err = l.timed("op", true, func(thread int) (step, error) {
		done := make(chan error, 1)
		o := op.Op{Kind: op.Write, Path: fmt.Sprintf("file%d", thread), Data: payload(l.Size, l.Seed)}
		var frame []byte
		return func(i int) error {
			o.Off = int64(i%1024) * int64(l.Size)
			var err error
			if frame, err = wire.AppendOp(frame[:0], 1, &o); err != nil {
				return err
			}
			return s.send(frame, done)
		}, nil
	})
	close(s.wake)
	err = errors.Join(err, to.close())
	owned.Wait()
	return err
}
