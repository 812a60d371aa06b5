package wire

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
)

// corked is a connection below TLS, which reads and writes a record of at most
// 16 KiB at a time, or below yamux. What it writes while the cork is in goes out in one piece,
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
	c = quick(c)
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

// writeTogether writes all pieces, in one system call if the connection can.
// (Not by writev(2), of which the race detector knows nothing: it takes what it
// reads elsewhere for proof that the write has happened before.)
func writeTogether(c net.Conn, pieces ...[]byte) error {
	var below *corked
	switch c := c.(type) {
	case encrypted:
		below = c.below
	case *corked:
		below = c
	}
	if below != nil {
		below.cork()
	}
	var err error
	for _, p := range pieces {
		if len(p) > 0 && err == nil {
			_, err = c.Write(p)
		}
	}
	if below != nil {
		if flushed := below.uncork(); err == nil {
			err = flushed
		}
	}
	return err
}
