package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// chunkSize is how much a proxy reads at once, and chunkQueue how many such
// reads may be under way in a direction: together more than a delay of 100 ms
// needs at the speeds that tests reach.
const (
	chunkSize  = 32 << 10
	chunkQueue = 256
)

// Proxy is a faulty TCP network between whoever dials Addr and a target. Its
// fault can be changed at any time and takes effect on open connections, also
// on bytes that are under way.
type Proxy struct {
	listener net.Listener
	target   string
	pumps    sync.WaitGroup // the accept loop and every goroutine of a connection
	bytes    atomic.Int64   // delivered, in both directions

	mu      sync.Mutex // guards all below
	fault   Fault
	changed chan struct{}      // closed and replaced with each change of fault
	open    map[*link]struct{} // connections with both ends
	seen    int                // connections so far
	closed  bool
}

// NewProxy starts a proxy to target on a loopback port. It is closed in the
// test's Cleanup.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := newProxy(t, target)
	t.Cleanup(p.Close)
	return p
}

// newProxy is NewProxy for a caller who closes the proxy.
func newProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := ListenProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ListenProxy is NewProxy outside of a test. The caller closes the proxy.
func ListenProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for a proxy: %w", err)
	}
	p := &Proxy{listener: listener, target: target, changed: make(chan struct{}), open: map[*link]struct{}{}}
	p.pumps.Go(p.accept)
	return p, nil
}

// Addr is the address to dial instead of the target's.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set replaces the network's fault. With cut and reset all connections end
// before it returns.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	var end []*link
	if f.Cut || f.Reset {
		for l := range p.open {
			end = append(end, l)
		}
	}
	p.mu.Unlock()
	for _, l := range end {
		l.end(f.Reset)
	}
}

// Conns returns how many connections have been through so far.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// Bytes returns how many bytes have been delivered so far, in both directions:
// all that TCP carried for its users.
func (p *Proxy) Bytes() int64 { return p.bytes.Load() }

// Close ends all connections and waits for the proxy's goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	var end []*link
	for l := range p.open {
		end = append(end, l)
	}
	p.mu.Unlock()
	p.listener.Close()
	for _, l := range end {
		l.end(false)
	}
	p.pumps.Wait()
}

// now returns the fault in force and a channel that is closed when it changes.
func (p *Proxy) now() (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.connect(near.(*net.TCPConn)) })
	}
}

// connect makes a link of an accepted connection and starts its pumps.
func (p *Proxy) connect(near *net.TCPConn) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{near: near, done: ctx.Done(), cancel: cancel}
	far, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		l.end(false)
		return
	}
	l.far = far.(*net.TCPConn)

	p.mu.Lock()
	refuse := p.closed || p.fault.Cut || p.fault.Reset
	reset := p.fault.Reset
	if !refuse {
		p.open[l] = struct{}{}
		p.seen++
	}
	p.mu.Unlock()
	if refuse {
		l.end(reset)
		return
	}

	var both sync.WaitGroup
	both.Go(func() { p.pump(l, Up, l.near, l.far) })
	both.Go(func() { p.pump(l, Down, l.far, l.near) })
	both.Wait()
	l.end(false)
	p.mu.Lock()
	delete(p.open, l)
	p.mu.Unlock()
}

// link is one connection through the proxy: both its ends.
type link struct {
	near, far *net.TCPConn
	done      <-chan struct{} // closed by end
	cancel    context.CancelFunc
	once      sync.Once
}

// end closes both ends, with a TCP reset if asked to.
func (l *link) end(reset bool) {
	l.once.Do(func() {
		l.cancel()
		for _, c := range []*net.TCPConn{l.near, l.far} {
			if c == nil {
				continue
			}
			if reset {
				c.SetLinger(0)
			}
			c.Close()
		}
	})
}

// chunk is what one read brought, and when.
type chunk struct {
	data []byte
	at   time.Time
}

// pump carries one direction of a link. A reader stamps what arrives, this
// goroutine delivers it when the fault in force lets it. While it may not, the
// queue fills up and then the sender's buffers do, as on a real network.
func (p *Proxy) pump(l *link, d Direction, from, to *net.TCPConn) {
	queue := make(chan chunk, chunkQueue)
	p.pumps.Go(func() {
		defer close(queue)
		buf := make([]byte, chunkSize)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case queue <- chunk{bytes.Clone(buf[:n]), time.Now()}:
				case <-l.done:
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					l.end(true) // a reset travels as a reset
				}
				return
			}
		}
	})

	var (
		sent int64     // bytes seen of this direction
		lost bool      // some of them were swallowed
		free time.Time // when a slow lane has delivered all before
	)
	for c := range queue {
		lane, at, ok := p.admit(l, d, c, free)
		if !ok {
			return
		}
		free = at
		lost = lost || lane.Blackhole
		if at := lane.FlipAt - 1 - sent; at >= 0 && at < int64(len(c.data)) {
			c.data[at] ^= 1
		}
		ends := lane.CloseAt > 0 && sent+int64(len(c.data)) >= lane.CloseAt
		if ends {
			c.data = c.data[:max(0, lane.CloseAt-sent)]
		}
		sent += int64(len(c.data))
		if !lost {
			n, err := to.Write(c.data)
			p.bytes.Add(int64(n))
			if err != nil {
				l.end(false)
				return
			}
		}
		if ends {
			l.end(false)
			return
		}
	}
	if !lost {
		to.CloseWrite()
	}
}

// admit waits until c may be delivered in direction d, behind what a slow lane
// is through with at free. It returns the lane that c goes by and when that is
// through with c, or false if the link ended before.
func (p *Proxy) admit(l *link, d Direction, c chunk, free time.Time) (lane Lane, through time.Time, ok bool) {
	for {
		fault, changed := p.now()
		lane := fault.Lanes[d]
		due := c.at.Add(lane.Delay)
		if lane.Slow > 0 {
			// What comes late through a busy machine does not slow down the rest.
			if free.Before(c.at) {
				free = c.at
			}
			if paced := free.Add(time.Duration(int64(len(c.data)) * int64(time.Second) / lane.Slow)); paced.After(due) {
				due = paced
			}
		}
		var timer <-chan time.Time
		if !lane.Stall {
			wait := time.Until(due)
			if wait <= 0 {
				return lane, due, true
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
			return lane, due, true
		case <-changed:
		case <-l.done:
			return lane, due, false
		}
	}
}
