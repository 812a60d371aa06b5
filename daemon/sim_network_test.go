// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// simNetwork connects simulated nodes, by address. What is on its way arrives
// in order and after a delay; a link that is cut swallows everything, also what
// its connections still carry, until it is healed, and then these are broken.
// No write ever waits, as if all buffers were large.
//
// What arrives, or is swallowed, are whole frames of yamux: it reads one with a
// mutex held, and the clock of a bubble stands still while anybody waits for one.
type simNetwork struct {
	mu        sync.Mutex // guards all below, and all connections
	seed      uint64
	dice      map[[2]string]*rand.Rand // of each direction: what goes elsewhere does not change it
	listeners map[string]*simListener
	conns     map[*simConn]bool // one end of each
	cut       map[[2]string]bool
	slow      time.Duration // the longest delay of a piece, and of a new connection
}

func newSimNetwork(seed uint64) *simNetwork {
	return &simNetwork{
		seed: seed, dice: make(map[[2]string]*rand.Rand), listeners: make(map[string]*simListener), conns: make(map[*simConn]bool),
		cut: make(map[[2]string]bool), slow: 2 * time.Millisecond,
	}
}

func link(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// sever cuts the link between two nodes, or heals it.
func (n *simNetwork) sever(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link(a, b)] = cut
	for c := range n.conns {
		switch {
		case link(c.from, c.to) != link(a, b):
		case cut:
			for _, end := range []*simConn{c, c.other} {
				end.other.holed = end.other.holed || len(end.pieces) > 0
				end.pieces = nil
			}
		case c.holed || c.other.holed: // what was swallowed does not come again
			c.reset()
		}
	}
}

// heal makes all links whole and quick.
func (n *simNetwork) heal(addrs []string) {
	for _, a := range addrs {
		for _, b := range addrs {
			n.sever(a, b, false)
		}
	}
	n.delay(2 * time.Millisecond)
}

func (n *simNetwork) delay(most time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow = most
}

// gone takes a node off the network at once. Loud, its peers hear that their
// connections are broken; otherwise they hear nothing any more.
func (n *simNetwork) gone(addr string, loud bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.listeners[addr]; l != nil {
		l.end()
	}
	for c := range n.conns {
		if c.from != addr && c.to != addr {
			continue
		}
		if loud {
			c.reset()
			continue
		}
		for _, end := range []*simConn{c, c.other} {
			end.holed = true
			if end.from == addr {
				end.broken = syscall.ECONNRESET // nobody there writes any more
				end.tell()
			}
		}
	}
}

// jitter is a random delay on the way from one node to another one. The caller
// holds mu.
func (n *simNetwork) jitter(from, to string) time.Duration {
	way := [2]string{from, to}
	if n.dice[way] == nil {
		h := fnv.New64a()
		_, _ = io.WriteString(h, from+" "+to) // never fails
		n.dice[way] = rand.New(rand.NewPCG(n.seed, h.Sum64()))
	}
	return time.Duration(n.dice[way].Int64N(int64(n.slow) + 1))
}

type simListener struct {
	network *simNetwork
	addr    string
	queue   chan *simConn
	ended   chan struct{}
}

func (n *simNetwork) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &simListener{network: n, addr: addr, queue: make(chan *simConn, 1000), ended: make(chan struct{})}
	n.listeners[addr] = l
	return l
}

// Accept waits for a connection.
func (l *simListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (l *simListener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.end()
	return nil
}

func (l *simListener) end() {
	if l.network.listeners[l.addr] == l {
		delete(l.network.listeners, l.addr)
		close(l.ended)
	}
}

// Addr returns the listener's address.
func (l *simListener) Addr() net.Addr { return simAddr(l.addr) }

type simAddr string

func (simAddr) Network() string  { return "sim" }
func (a simAddr) String() string { return string(a) }

// dial connects from one node to another one.
func (n *simNetwork) dial(ctx context.Context, from, to string) (net.Conn, error) {
	n.mu.Lock()
	wait := n.jitter(from, to)
	n.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	if n.cut[link(from, to)] {
		n.mu.Unlock()
		<-ctx.Done()
		return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
	}
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	a := &simConn{network: n, from: from, to: to, news: make(chan struct{})}
	b := &simConn{network: n, from: to, to: from, news: make(chan struct{}), other: a}
	a.other = b
	n.conns[a] = true
	l.queue <- b
	return a, nil
}

// simConn is one end of a connection. The network's lock guards it.
type simConn struct {
	network  *simNetwork
	from, to string
	other    *simConn

	whole     []byte        // written here, and not yet all of a frame
	greeted   bool          // the line before the frames was sent
	pieces    []piece       // on their way to this end
	ended     bool          // the other end has closed: io.EOF behind the pieces
	broken    error         // what both directions fail with
	holed     bool          // something that this end wrote was swallowed
	news      chan struct{} // closed and renewed when any of this changes
	read, put time.Time     // deadlines
}

type piece struct {
	data []byte
	due  time.Time
}

func (c *simConn) tell() {
	close(c.news)
	c.news = make(chan struct{})
}

func (c *simConn) reset() {
	for _, end := range []*simConn{c, c.other} {
		if end.broken == nil {
			end.broken = syscall.ECONNRESET
			end.pieces = nil
			end.tell()
		}
	}
	delete(c.network.conns, c)
	delete(c.network.conns, c.other)
}

// Read waits until something has arrived.
func (c *simConn) Read(p []byte) (int, error) {
	for {
		c.network.mu.Lock()
		n, wait, err := c.take(p)
		news := c.news
		c.network.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take returns what has arrived, or how long to wait for the next change that
// time brings. The caller holds mu.
func (c *simConn) take(p []byte) (int, time.Duration, error) {
	now, wait := time.Now(), time.Hour
	if !c.read.IsZero() {
		if wait = c.read.Sub(now); wait <= 0 {
			return 0, 0, os.ErrDeadlineExceeded
		}
	}
	switch {
	case c.broken != nil:
		return 0, 0, c.broken
	case len(c.pieces) > 0:
		first := &c.pieces[0]
		if due := first.due.Sub(now); due > 0 {
			return 0, min(wait, due), nil
		}
		n := copy(p, first.data)
		if first.data = first.data[n:]; len(first.data) == 0 {
			c.pieces = c.pieces[1:]
		}
		return n, 0, nil
	case c.ended:
		return 0, 0, io.EOF
	}
	return 0, wait, nil
}

// Write sends a copy of p.
func (c *simConn) Write(p []byte) (int, error) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.broken != nil:
		return 0, c.broken
	case !c.put.IsZero() && !time.Now().Before(c.put):
		return 0, os.ErrDeadlineExceeded
	}
	c.whole = append(c.whole, p...)
	frames := c.frames()
	if len(frames) == 0 {
		return len(p), nil
	}
	to := c.other
	if c.holed || n.cut[link(c.from, c.to)] {
		c.holed = true
		return len(p), nil
	}
	due := time.Now().Add(n.jitter(c.from, c.to))
	if last := len(to.pieces) - 1; last >= 0 && to.pieces[last].due.After(due) {
		due = to.pieces[last].due
	}
	to.pieces = append(to.pieces, piece{frames, due})
	to.tell()
	return len(p), nil
}

// frames takes all whole frames from what was written.
func (c *simConn) frames() []byte {
	end := 0
	if !c.greeted {
		if end = bytes.IndexByte(c.whole, '\n') + 1; end == 0 {
			return nil
		}
		c.greeted = true
	}
	const header = 12
	for len(c.whole)-end >= header {
		size := header
		if c.whole[end+1] == 0 { // the type: data
			size += int(binary.BigEndian.Uint32(c.whole[end+8:]))
		}
		if len(c.whole)-end < size {
			break
		}
		end += size
	}
	frames := c.whole[:end:end]
	c.whole = append([]byte(nil), c.whole[end:]...)
	return frames
}

var errSimClosed = errors.New("simulated connection closed")

// Close ends both directions. What was written still arrives.
func (c *simConn) Close() error {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.broken == nil {
		c.broken = errSimClosed
		c.tell()
	}
	if !c.holed && !n.cut[link(c.from, c.to)] {
		c.other.ended = true
		c.other.tell()
	}
	if c.other.broken != nil {
		delete(n.conns, c)
		delete(n.conns, c.other)
	}
	return nil
}

// SetDeadline sets both deadlines.
func (c *simConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline ends a Read that waits then.
func (c *simConn) SetReadDeadline(t time.Time) error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.read = t
	c.tell()
	return nil
}

// SetWriteDeadline has writes from then on fail.
func (c *simConn) SetWriteDeadline(t time.Time) error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.put = t
	return nil
}

// LocalAddr returns the address of this end's node.
func (c *simConn) LocalAddr() net.Addr { return simAddr(c.from) }

// RemoteAddr returns the address of the other end's node.
func (c *simConn) RemoteAddr() net.Addr { return simAddr(c.to) }
