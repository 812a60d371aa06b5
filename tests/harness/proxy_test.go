package harness

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// dialEcho returns a connection through a proxy to a server that sends back
// what it gets.
func dialEcho(t *testing.T) (*Proxy, func() net.Conn) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	p := NewProxy(t, listener.Addr().String())
	return p, func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// echo sends text and reads as much back, for at most a minute.
func echo(c net.Conn, text string) (string, error) {
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	back := make([]byte, len(text))
	n, err := io.ReadFull(c, back)
	return string(back[:n]), err
}

func TestProxyForwards(t *testing.T) {
	_, dial := dialEcho(t)
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
	c := dial()
	go c.Write([]byte(big))
	back := make([]byte, len(big))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != big {
		t.Fatalf("1 MiB through the proxy: %v, equal %t", err, string(back) == big)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(back); n != 0 || err != io.EOF {
		t.Fatalf("after half a close: %d, %v; want EOF", n, err)
	}
}

func TestProxyDelays(t *testing.T) {
	p, dial := dialEcho(t)
	p.Set(MustFault("delay(30ms)"))
	c := dial()
	start := time.Now()
	if _, err := echo(c, "x"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("round trip took %s, want at least 60ms", took)
	}
}

func TestProxyIsSlow(t *testing.T) {
	p, dial := dialEcho(t)
	p.Set(MustFault("up:slow(100000)"))
	c := dial()
	start := time.Now()
	if _, err := echo(c, string(make([]byte, 10000))); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("10 kB at 100 kB/s took %s", took)
	}
}

func TestProxyStallsAndGoesOn(t *testing.T) {
	p, dial := dialEcho(t)
	c := dial()
	p.Set(MustFault("down:stall"))
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 4)
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(back); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read through a stall: %d, %v", n, err)
	}
	p.Set(Good)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != "late" {
		t.Fatalf("after the stall: %q, %v", back, err)
	}
}

func TestProxySwallows(t *testing.T) {
	p, dial := dialEcho(t)
	c := dial()
	if _, err := echo(c, "good"); err != nil {
		t.Fatal(err)
	}
	p.Set(MustFault("up:blackhole"))
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read from a black hole: %d, %v", n, err)
	}
	// The stream has a hole now. Nothing behind it may ever arrive.
	p.Set(Good)
	if _, err := c.Write([]byte("behind")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read behind a black hole: %d, %v", n, err)
	}
	if got, err := echo(dial(), "new"); err != nil || got != "new" {
		t.Fatalf("a new connection: %q, %v", got, err)
	}
}

func TestProxyCutsAndResets(t *testing.T) {
	for _, tt := range []struct {
		fault string
		want  error
	}{{"cut", io.EOF}, {"reset", syscall.ECONNRESET}} {
		t.Run(tt.fault, func(t *testing.T) {
			p, dial := dialEcho(t)
			c := dial()
			if _, err := echo(c, "good"); err != nil {
				t.Fatal(err)
			}
			p.Set(MustFault(tt.fault))
			if n, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
				t.Errorf("an open connection: %d, %v; want %v", n, err, tt.want)
			}
			// A new one may end before dialling it returns.
			if c, err := net.Dial("tcp", p.Addr()); err == nil {
				if _, err := echo(c, "x"); err == nil {
					t.Error("a new connection works")
				}
				c.Close()
			}
			p.Set(Good)
			if _, err := echo(dial(), "x"); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestProxyClosesAndFlips(t *testing.T) {
	p, dial := dialEcho(t)
	p.Set(MustFault("down:close(3)"))
	if got, err := echo(dial(), "abcdef"); got != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("close(3): %q, %v", got, err)
	}
	p.Set(MustFault("up:flip(2)"))
	if got, err := echo(dial(), "abc"); got != "acc" || err != nil {
		t.Errorf("flip(2): %q, %v", got, err)
	}
}
