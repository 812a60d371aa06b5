package wire

import (
	"bufio"
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// corked is a connection below TLS, which reads and writes a record of at most
// 16 KiB at a time. What it writes while the cork is in goes out in one piece,
// and as much is read at once as there is: one system call instead of many, and
// one wake-up of the peer.
type corked struct {
	net.Conn
	in *bufio.Reader // belongs to the one who reads

	mu  sync.Mutex // guards all below; a reader may write, too: alerts and new keys
	put bool       // the cork is in
	buf []byte
}

func newCorked(c net.Conn) *corked {
	return &corked{Conn: c, in: bufio.NewReaderSize(c, mergeSize)}
}

// Read reads what has come.
func (c *corked) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write writes p, or keeps it while the cork is in.
func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.put {
		c.buf = append(c.buf, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// cork puts the cork in.
func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put = true
}

// uncork pulls it out and writes what was kept.
func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put = false
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// encrypted is a TLS connection that writes several pieces as one. It has one
// writer at a time.
type encrypted struct {
	*tls.Conn
	below *corked
}

// writeTogether writes all pieces, by one system call if the connection can.
func writeTogether(c net.Conn, pieces ...[]byte) error {
	pieces = slices.DeleteFunc(pieces, func(p []byte) bool { return len(p) == 0 })
	e, ok := c.(encrypted)
	if !ok {
		_, err := (*net.Buffers)(&pieces).WriteTo(c)
		return err
	}
	e.below.cork()
	var err error
	for _, p := range pieces {
		if _, err = e.Write(p); err != nil {
			break
		}
	}
	if below := e.below.uncork(); err == nil {
		err = below
	}
	return err
}
