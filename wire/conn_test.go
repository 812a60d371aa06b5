package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// What gathers while a write is under way goes out in one.
func TestWritesMerge(t *testing.T) {
	ours, theirs := net.Pipe()
	underWay, goOn := make(chan struct{}), make(chan struct{})
	writes := 0
	m := newMerging(slowConn{ours, func() {
		if writes++; writes == 1 {
			underWay <- struct{}{}
			<-goOn
		}
	}}, ours)
	read := result(func() string {
		b, _ := io.ReadAll(theirs)
		return string(b)
	})
	want := ""
	write := func(s string) {
		if n, err := m.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%d bytes, error %v", n, err)
		}
		want += s
	}
	write("first")
	await(t, underWay)
	for range 100 {
		write("header")
		write("body")
	}
	close(goOn)
	m.Close()
	if got := await(t, read); got != want {
		t.Errorf("%d bytes arrived of %d, or in another order", len(got), len(want))
	}
	if writes != 2 {
		t.Errorf("%d writes, want 2: the one under way, and the rest", writes)
	}
}

// Large writes and small ones arrive in their order, whoever sends them.
func TestLargeWritesKeepOrder(t *testing.T) {
	ours, theirs := net.Pipe()
	m := newMerging(ours, ours)
	read := result(func() []byte {
		b, _ := io.ReadAll(theirs)
		return b
	})
	var want []byte
	for i := range 500 {
		p := bytes.Repeat([]byte{byte(i)}, []int{12, directSize, 12, 300, directSize - 1, 2*mergeSize + 1}[i%6])
		if n, err := m.Write(p); n != len(p) || err != nil {
			t.Fatalf("write %d: %d bytes, %v", i, n, err)
		}
		want = append(want, p...)
		clear(p) // it is the caller's again
	}
	m.Close()
	if got := await(t, read); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived of %d, or in another order", len(got), len(want))
	}
}

// slowConn calls a function before each write.
type slowConn struct {
	net.Conn
	before func()
}

func (c slowConn) Write(p []byte) (int, error) {
	c.before()
	return c.Conn.Write(p)
}

// A peer that does not read costs one buffer, then it holds the writer up.
func TestMergingIsBounded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	m := newMerging(ours, ours)
	wrote := result(func() error {
		_, err := m.Write(make([]byte, 4*mergeSize))
		return err
	})
	got := make([]byte, mergeSize)
	if _, err := io.ReadFull(theirs, got); err != nil { // it goes on as room comes
		t.Fatal(err)
	}
	m.mu.Lock()
	size := cap(m.pending) + cap(m.spare)
	m.mu.Unlock()
	if size > 2*mergeSize {
		t.Errorf("%d bytes are held back", size)
	}
	select {
	case err := <-wrote:
		t.Fatalf("the writer was not held up: %v", err)
	default:
	}
	m.Close()
	if err := await(t, wrote); !errors.Is(err, errClosed) {
		t.Errorf("the writer was told %v", err)
	}
}

// An error of the connection reaches the writer.
func TestMergingFails(t *testing.T) {
	ours, theirs := net.Pipe()
	m := newMerging(ours, ours)
	theirs.Close()
	wrote := result(func() error {
		for {
			if _, err := m.Write(make([]byte, 100)); err != nil {
				return err
			}
		}
	})
	if err := await(t, wrote); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the writer was told %v", err)
	}
	m.Close()
	<-m.done
}
