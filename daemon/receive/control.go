package receive

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/standbyfs/standbyfs/wire"
)

// control is the session's control stream.
type control struct {
	conn    net.Conn
	reader  *wire.Reader // owned by session.run
	timeout time.Duration
	mu      sync.Mutex // serialises writes
}

// next returns the next message. The payload is valid until the next call.
func (c *control) next() (wire.Kind, []byte, error) {
	h, payload, err := c.reader.Next()
	return h.Kind, payload, err
}

// expect reads a message that has to be of the kind.
func (c *control) expect(kind wire.Kind, v any) error {
	got, payload, err := c.next()
	if err != nil {
		return err
	}
	if got != kind {
		return protocolError("message of kind %d where %d is due", got, kind)
	}
	return wire.DecodeMessage(payload, v)
}

func (c *control) send(kind wire.Kind, v any) error {
	frame, err := wire.AppendMessage(nil, kind, v)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err = c.conn.Write(frame)
	return err
}

// lifeSign remembers when the primary was last heard: any byte counts.
type lifeSign struct {
	start time.Time
	since atomic.Int64 // nanoseconds from start
}

func (l *lifeSign) now() { l.since.Store(int64(time.Since(l.start))) }

func (l *lifeSign) last() time.Time { return l.start.Add(time.Duration(l.since.Load())) }

// alive reports whether the primary was heard within the last d.
func (l *lifeSign) alive(d time.Duration) bool { return time.Since(l.last()) < d }

// hearing is a stream whose bytes are signs of life.
type hearing struct {
	net.Conn
	sign *lifeSign
}

// Read reads from the stream.
func (h hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.sign.now()
	}
	return n, err
}

// errProtocol is in every error that is the primary's fault.
var errProtocol = errors.New("the primary broke the protocol")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}
