package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// never is how long a test waits for what must happen.
const never = 20 * time.Second

func TestOpsLane(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		d, a := pair(t, LaneOps, c)
		if d.Lane() != LaneOps || a.Lane() != LaneOps {
			t.Errorf("lanes %q and %q", d.Lane(), a.Lane())
		}
		if c != nil && (d.PeerName() != "node" || a.PeerName() != "node") {
			t.Errorf("peers %q and %q, want the certificate's node", d.PeerName(), a.PeerName())
		}
		echo(t, d.Log(), a.Log(), "log there")
		echo(t, a.Log(), d.Log(), "log back")
		echo(t, d.Control(), a.Control(), "control there")
		echo(t, a.Control(), d.Control(), "control back")
		echo(t, d.Log(), a.Log(), strings.Repeat("more than any buffer", 1<<18))
	})
}

func TestBulkLane(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		d, a := pair(t, LaneBulk, c)
		if d.Log() != nil || d.Control() != nil {
			t.Error("a bulk session has no log and no control stream")
		}
		for range 3 {
			out, err := d.Open()
			if err != nil {
				t.Fatal(err)
			}
			in, err := a.Accept()
			if err != nil {
				t.Fatal(err)
			}
			echo(t, out, in, "there")
			echo(t, in, out, "back")
			out.Close()
			in.Close()
		}
		d.Close()
		if _, err := d.Open(); err == nil {
			t.Error("a closed session opens a stream")
		}
		if _, err := a.Accept(); !errors.Is(err, io.EOF) {
			t.Errorf("the peer closed: error %v, want EOF", err)
		}
	})
}

// Garbage ends a session and nothing else, whatever it looks like.
func TestGarbage(t *testing.T) {
	c := certificates(t)
	preface := string(LaneOps) + "\n"
	for name, said := range map[string]string{
		"a long line":      strings.Repeat("x", 4096),
		"a web browser":    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"zeros":            strings.Repeat("\x00", 4096),
		"garbage on top":   preface + strings.Repeat("\xff", 4096),
		"a third stream":   preface + syn(1) + data(1, "L") + syn(3) + data(3, "X"),
		"two logs":         preface + syn(1) + data(1, "L") + syn(3) + data(3, "L"),
		"too much data":    preface + syn(1) + "\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff",
		"a window of 4 Gi": preface + syn(1) + "\x00\x01\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\x01",
	} {
		t.Run(name, func(t *testing.T) {
			for _, tc := range []*tls.Config{nil, c.Server} {
				conn, raw := tcp(t)
				got := result(func() error { _, err := Accept(t.Context(), conn, tc); return err })
				if _, err := io.WriteString(raw, said); err != nil {
					t.Fatal(err)
				}
				raw.(*net.TCPConn).CloseWrite() // fails where it was dropped already
				wants(t, "acceptor", await(t, got), "connection from")
			}
		})
	}
}

// syn is yamux's header that opens a stream, data one record of it.
func syn(id byte) string {
	return "\x00\x01\x00\x01\x00\x00\x00" + string(rune(id)) + "\x00\x00\x00\x00"
}

func data(id byte, s string) string {
	return "\x00\x00\x00\x00\x00\x00\x00" + string(rune(id)) + "\x00\x00\x00" + string(rune(len(s))) + s
}

// A connection that is cut unblocks readers and writers at both ends.
func TestVanish(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		var server, client *tls.Config
		if c != nil {
			server, client = c.Server, c.Client
		}
		addr, accepted := serve(t, server)
		cut := newCutter(t, addr)
		d, err := Dial(t.Context(), cut.addr, LaneOps, client)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		a := await(t, accepted)
		if a.err != nil {
			t.Fatal(a.err)
		}
		defer a.session.Close()
		blocked := block(d, a.session)
		cut.cut()
		for range cap(blocked) {
			if err := await(t, blocked); err == nil {
				t.Error("a call on a session without connection returned no error")
			}
		}
	})
}

// block starts a read of every stream and a write without end at either end.
// The channel has room for what all of them return.
func block(sessions ...*Session) chan error {
	blocked := make(chan error, 3*len(sessions))
	for _, s := range sessions {
		for _, c := range []net.Conn{s.Log(), s.Control()} {
			go func() {
				_, err := c.Read(make([]byte, 1))
				for err == nil { // the other end writes as well
					_, err = c.Read(make([]byte, 1))
				}
				blocked <- err
			}()
		}
		go func() {
			var err error
			for p := make([]byte, 1<<20); err == nil; {
				_, err = s.Log().Write(p)
			}
			blocked <- err
		}()
	}
	return blocked
}

// cutter passes one connection on until it is cut.
type cutter struct {
	addr string
	cut  func()
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		stop := context.AfterFunc(ctx, func() {
			// Reset, not closed: the worst a network does and still tells.
			in.(*net.TCPConn).SetLinger(0)
			out.(*net.TCPConn).SetLinger(0)
			in.Close()
			out.Close()
		})
		defer stop()
		back := result(func() error { _, err := io.Copy(in, out); return err })
		io.Copy(out, in)
		<-back
	}()
	t.Cleanup(func() {
		l.Close()
		cut()
		<-done
	})
	return &cutter{l.Addr().String(), cut}
}

// Close unblocks everything at this end, and the other end hears of it.
func TestCloseUnblocks(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		d, a := pair(t, LaneOps, c)
		blocked := block(d, a)
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for range cap(blocked) {
			if err := await(t, blocked); err == nil {
				t.Error("a call on a closed session returned no error")
			}
		}
		if err := d.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
}

// What was written before Close arrives: a goodbye is the last thing written.
func TestLastWords(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		d, a := pair(t, LaneOps, c)
		goodbye, err := AppendMessage(nil, KindGoodbye, Goodbye{Reason: strings.Repeat("stops ", 10000)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Control().Write(goodbye); err != nil {
			t.Fatal(err)
		}
		d.Close()
		h, _, err := NewReader(a.Control()).Next()
		if err != nil || h.Kind != KindGoodbye {
			t.Errorf("kind %d, error %v", h.Kind, err)
		}
	})
}

// A log whose reader stands still takes a window's worth and then blocks its
// writer, while the control stream goes on in both directions.
func TestFullLogDoesNotBlockControl(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		d, a := pair(t, LaneOps, c)
		write := func(n int) <-chan error {
			return result(func() error { _, err := d.Log().Write(make([]byte, n)); return err })
		}
		window := int(muxConfig(LaneOps).MaxStreamWindowSize) - 1 // the stream's name was a byte
		if err := await(t, write(window)); err != nil {
			t.Fatal(err)
		}
		const more = 1 << 20
		held := write(more)
		for range 100 {
			echo(t, d.Control(), a.Control(), "alive?")
			echo(t, a.Control(), d.Control(), "alive!")
		}
		select {
		case err := <-held:
			t.Fatalf("more than a window was taken although nobody reads (%v)", err)
		default:
		}
		read := result(func() int64 {
			n, _ := io.Copy(io.Discard, a.Log())
			return n
		})
		if err := await(t, held); err != nil {
			t.Errorf("the writer that was held up: %v", err)
		}
		d.Close()
		if got := await(t, read); got != int64(window+more) {
			t.Errorf("%d bytes were written and %d read", window+more, got)
		}
	})
}

// A control message written beside a busy log is not behind all of it.
func TestRecordsAreBounded(t *testing.T) {
	var sizes []int
	c := records{recorder{write: func(p []byte) { sizes = append(sizes, len(p)) }}}
	if n, err := c.Write(make([]byte, 3*maxRecord+5)); n != 3*maxRecord+5 || err != nil {
		t.Errorf("%d bytes, error %v", n, err)
	}
	if len(sizes) != 4 || sizes[0] != maxRecord || sizes[3] != 5 {
		t.Errorf("records of %v bytes", sizes)
	}
}

// recorder is a connection that only takes note of writes.
type recorder struct {
	net.Conn
	write func(p []byte)
}

func (r recorder) Write(p []byte) (int, error) {
	r.write(p)
	return len(p), nil
}
