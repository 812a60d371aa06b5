package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Lane is what a connection is for.
type Lane string

const (
	LaneOps  Lane = "standbyfs-ops/1"
	LaneBulk Lane = "standbyfs-bulk/1"
	LaneRaft Lane = "standbyfs-raft/1"
)

// lanes are all that are known, in the order in which a listener prefers them.
var lanes = []string{string(LaneOps), string(LaneBulk), string(LaneRaft)}

// handshakeTimeout bounds everything before a session stands, on both sides.
const handshakeTimeout = 10 * time.Second

const (
	logStream     = 'L'
	controlStream = 'C'
)

// Session is one multiplexed connection to another node. After any error of
// one of its streams it is of no further use: the owner closes it and makes
// another (yamux 0.1.2 can send a buffer that its caller uses again).
type Session struct {
	lane    Lane
	mux     *yamux.Session
	peer    string
	log     net.Conn // ops lane only
	control net.Conn // ops lane only

	once   sync.Once
	closed error
}

// Lane returns what the session is for.
func (s *Session) Lane() Lane { return s.lane }

// PeerName returns the name in the peer's certificate, or its address.
func (s *Session) PeerName() string { return s.peer }

// Log returns the stream of ops of an ops session. It belongs to one writer and
// one reader.
func (s *Session) Log() net.Conn { return s.log }

// Control returns the stream of messages of an ops session. It belongs to one
// writer and one reader. It has a window of its own: a log whose reader stands
// still holds up nothing here.
func (s *Session) Control() net.Conn { return s.control }

// Open opens a stream on the bulk lane.
func (s *Session) Open() (net.Conn, error) {
	c, err := s.mux.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s: %w", s.peer, err)
	}
	return records{c}, nil
}

// Accept waits for a stream that the peer opens on the bulk lane. The error is
// io.EOF where the peer closed the session.
func (s *Session) Accept() (net.Conn, error) {
	c, err := s.mux.AcceptStream()
	if err != nil {
		return nil, err
	}
	return records{c}, nil
}

// Close ends the session. What was written before is still sent, within a
// second. Everything that reads or writes one of its streams returns.
func (s *Session) Close() error {
	s.once.Do(func() { s.closed = s.mux.Close() })
	return s.closed
}

// Dial opens a session with the node at addr. Without tc it is not encrypted.
func Dial(ctx context.Context, addr string, lane Lane, tc *tls.Config) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err // names the address
	}
	return Over(ctx, conn, addr, lane, tc)
}

// Over is Dial on a connection to addr that stands already, which it closes on
// error.
func Over(ctx context.Context, conn net.Conn, addr string, lane Lane, tc *tls.Config) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	s, err := dialOn(ctx, conn, addr, lane, tc)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return s, nil
}

func dialOn(ctx context.Context, conn net.Conn, addr string, lane Lane, tc *tls.Config) (*Session, error) {
	tune(conn)
	raw, below := conn, newCorked(conn)
	conn = below
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	peer := addr
	if tc == nil {
		if _, err := io.WriteString(conn, string(lane)+"\n"); err != nil {
			return nil, err
		}
	} else {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		tc = tc.Clone()
		tc.NextProtos = []string{string(lane)}
		tc.ServerName = host
		t := tls.Client(below, tc)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, explainTLS(err)
		}
		peer = certifiedName(t, addr)
		conn = encrypted{t, below}
	}
	if err := readAnswer(conn); err != nil {
		if tc != nil {
			err = explainTLS(err)
		}
		return nil, err
	}
	mux, err := yamux.Client(newMerging(conn, raw), muxConfig(lane))
	if err != nil {
		return nil, err
	}
	s := &Session{lane: lane, mux: mux, peer: peer}
	if lane == LaneOps {
		if s.log, err = s.openNamed(logStream); err == nil {
			s.control, err = s.openNamed(controlStream)
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open the streams: %w", err)
		}
	}
	return s, nil
}

func (s *Session) openNamed(name byte) (net.Conn, error) {
	c, err := s.mux.OpenStream()
	if err != nil {
		return nil, err
	}
	_, err = c.Write([]byte{name})
	return records{c}, err
}

// Accept makes a session of an accepted connection, which it closes on error.
// It returns within a bounded time, whatever the peer does or does not.
func Accept(ctx context.Context, conn net.Conn, tc *tls.Config) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s, err := acceptOn(ctx, conn, tc)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connection from %s: %w", conn.RemoteAddr(), err)
	}
	return s, nil
}

func acceptOn(ctx context.Context, raw net.Conn, tc *tls.Config) (*Session, error) {
	tune(raw)
	below := newCorked(raw)
	var conn net.Conn = below
	peer := raw.RemoteAddr().String()
	var lane Lane
	if tc == nil {
		var err error
		if lane, err = readPreface(conn); err != nil {
			return nil, err
		}
	} else {
		tc = tc.Clone()
		tc.NextProtos = lanes
		t := tls.Server(below, tc)
		if err := t.HandshakeContext(ctx); err != nil {
			refusePlain(err)
			return nil, explainTLS(err)
		}
		lane, peer = Lane(t.ConnectionState().NegotiatedProtocol), certifiedName(t, peer)
		conn = encrypted{t, below}
	}
	if lane != LaneOps && lane != LaneBulk {
		err := fmt.Errorf("lane %q is not served by this version, only %s and %s", lane, LaneOps, LaneBulk)
		return nil, errors.Join(err, writeAnswer(conn, err))
	}
	if err := writeAnswer(conn, nil); err != nil {
		return nil, err
	}
	mux, err := yamux.Server(newMerging(conn, raw), muxConfig(lane))
	if err != nil {
		return nil, err
	}
	s := &Session{lane: lane, mux: mux, peer: peer}
	if lane == LaneOps {
		if err := s.acceptNamed(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// acceptNamed takes the two streams that the peer opens.
func (s *Session) acceptNamed(ctx context.Context) error {
	for s.log == nil || s.control == nil {
		c, err := s.mux.AcceptStreamWithContext(ctx)
		if err != nil {
			return fmt.Errorf("waiting for the streams: %w", err)
		}
		if deadline, ok := ctx.Deadline(); ok {
			if err := c.SetReadDeadline(deadline); err != nil {
				return err
			}
		}
		var name [1]byte
		if _, err := io.ReadFull(c, name[:]); err != nil {
			return fmt.Errorf("waiting for a stream's name: %w", err)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		switch {
		case name[0] == logStream && s.log == nil:
			s.log = records{c}
		case name[0] == controlStream && s.control == nil:
			s.control = records{c}
		default:
			return fmt.Errorf("unexpected stream %q", name[:])
		}
	}
	return nil
}

// maxRecord is a stream's largest record in bytes. A write of 128 KiB fits with its
// frame, and with the header of yamux, of 12 bytes, it is nine records of TLS.
const maxRecord = 144<<10 - 12

// records is a stream that writes in records of bounded size. So a sign of life
// on the control stream waits behind a few records of the log, not behind the
// whole of what was written at once.
type records struct{ net.Conn }

// Write writes p, in as many records as it takes.
func (r records) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, err := r.Conn.Write(p[n:min(n+maxRecord, len(p))])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// muxConfig returns yamux's settings. Its keepalive is off: heartbeats of our
// own notice death in a fraction of the 40 s it takes. Windows hold at least
// twice bandwidth times delay of a fast link.
func muxConfig(lane Lane) *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.MaxStreamWindowSize = 4 << 20
	if lane == LaneBulk {
		c.MaxStreamWindowSize = 8 << 20
	} else {
		c.AcceptBacklog = 2 // log and control
	}
	c.ConnectionWriteTimeout = 30 * time.Second
	c.StreamOpenTimeout = handshakeTimeout
	c.StreamCloseTimeout = handshakeTimeout
	// Every error also reaches the owner of the session, who reports it.
	c.LogOutput, c.Logger = nil, slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)
	return c
}
