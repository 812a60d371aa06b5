package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// sockets returns both ends of a connection. The first one is a socket.
func sockets(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	s, ok := quick(ours).(*socket)
	if !ok {
		t.Fatal("a TCP connection is no socket")
	}
	return s, theirs
}

// More than the kernel holds is written to the end, and read to the end.
func TestSocketCarriesAll(t *testing.T) {
	s, theirs := sockets(t)
	want := bytes.Repeat([]byte("sixteen letters."), 2<<20)
	got := result(func() []byte {
		b, _ := io.ReadAll(theirs)
		theirs.Write(b)
		theirs.Close()
		return b
	})
	if n, err := s.Write(want); n != len(want) || err != nil {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	if err := s.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(s)
	if !bytes.Equal(back, want) || err != nil {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(want), err)
	}
	if !bytes.Equal(await(t, got), want) {
		t.Error("something else arrived")
	}
}

// Errors are those of package net: deadlines, the end, a reset, closing.
func TestSocketErrors(t *testing.T) {
	s, theirs := sockets(t)
	p := make([]byte, 1<<20)
	if err := s.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past the deadline: %d, %v", n, err)
	}
	if n, err := s.Write(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write past the deadline: %d, %v", n, err)
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := theirs.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	var network *net.OpError
	if n, err := s.Read(p); n != 0 || !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &network) {
		t.Errorf("read after a reset: %d, %v", n, err)
	}
	if n, err := s.Write(p); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after a reset: %d, %v", n, err)
	}
	s.Close()
	if n, err := s.Read(p); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after closing: %d, %v", n, err)
	}
}
