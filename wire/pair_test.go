package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// certificates makes a CA and a node's certificates, signed by it.
func certificates(t *testing.T) *TLS {
	t.Helper()
	dir := t.TempDir()
	if err := InitCA(dir); err != nil {
		t.Fatal(err)
	}
	return issued(t, dir, "node")
}

func issued(t *testing.T, dir, name string) *TLS {
	t.Helper()
	to, err := Issue(dir, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadTLS(to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// accepted is what Accept made of a connection.
type accepted struct {
	session *Session
	err     error
}

// serve accepts one connection and hands it to Accept.
func serve(t *testing.T, tc *tls.Config) (addr string, result <-chan accepted) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan accepted, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			c <- accepted{err: err}
			return
		}
		s, err := Accept(t.Context(), conn, tc)
		c <- accepted{s, err}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String(), c
}

// pair returns both ends of a session.
func pair(t *testing.T, lane Lane, c *TLS) (dialer, acceptor *Session) {
	t.Helper()
	var server, client *tls.Config
	if c != nil {
		server, client = c.Server, c.Client
	}
	addr, result := serve(t, server)
	d, err := Dial(t.Context(), addr, lane, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	a := await(t, result)
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Cleanup(func() { a.session.Close() })
	return d, a.session
}

// await returns what comes from a channel, and fails if nothing does.
func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(never):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// result runs fn in a goroutine and returns what it returns.
func result[T any](fn func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- fn() }()
	return c
}

// echo sends one way and expects it at the other end.
func echo(t *testing.T, from, to net.Conn, what string) {
	t.Helper()
	sent := result(func() error { _, err := io.WriteString(from, what); return err })
	got := make([]byte, len(what))
	read := result(func() error { _, err := io.ReadFull(to, got); return err })
	if err := errors.Join(await(t, sent), await(t, read)); err != nil {
		t.Fatal(err)
	}
	if string(got) != what {
		t.Fatalf("sent %q, got %q", what, got)
	}
}

// kinds runs a test with and without encryption.
func kinds(t *testing.T, test func(t *testing.T, c *TLS)) {
	t.Run("plain", func(t *testing.T) { test(t, nil) })
	t.Run("tls", func(t *testing.T) { test(t, certificates(t)) })
}

// wants fails unless err names all of what.
func wants(t *testing.T, who string, err error, what ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", who)
		return
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: error %q does not say %q", who, err, w)
		}
	}
}

// tcp returns the two ends of a loopback connection.
func tcp(t *testing.T) (accepted, dialed net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialed, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dialed.Close()
		accepted.Close()
	})
	return accepted, dialed
}
