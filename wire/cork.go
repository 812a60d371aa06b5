package wire

import (
	"crypto/tls"
	"net"
	"sync"
)

// corked is a connection below TLS, which writes a record of at most 16 KiB at
// a time. What it writes while the cork is in goes out in one piece: one system
// call, and one wake-up of the peer.
type corked struct {
	net.Conn

	mu  sync.Mutex // guards all below; a reader may write, too: alerts and new keys
	in  bool
	buf []byte
}

// Write writes p, or keeps it while the cork is in.
func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in {
		c.buf = append(c.buf, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// cork puts the cork in.
func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = true
}

// uncork pulls it out and writes what was kept.
func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = false
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// encrypted is a TLS connection whose every Write goes out in one piece. It has
// one writer.
type encrypted struct {
	*tls.Conn
	below *corked
}

// Write encrypts and writes p.
func (e encrypted) Write(p []byte) (int, error) {
	e.below.cork()
	n, err := e.Conn.Write(p)
	if below := e.below.uncork(); err == nil && below != nil {
		n, err = 0, below
	}
	return n, err
}
