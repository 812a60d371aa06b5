package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/wire"
)

// acceptPause is how long a listener waits after an error that may pass, such
// as too many open files.
const acceptPause = 100 * time.Millisecond

// listen takes the sessions of peers until ctx ends, closes the listener and
// returns once all of them have ended.
func (n *node) listen(ctx context.Context) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	stop := context.AfterFunc(ctx, func() { n.peers.Close() })
	defer stop()
	for {
		conn, err := n.peers.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listen for peers: %w", err)
		case err != nil:
			n.log.Warn("cannot accept a connection", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		sessions.Go(func() { n.session(ctx, conn) })
	}
}

// session finds out what a connection is for and serves it to its end.
func (n *node) session(ctx context.Context, conn net.Conn) {
	s, err := wire.Accept(ctx, conn, n.serverTLS())
	if err != nil {
		n.log.Warn("a connection came to nothing", "from", conn.RemoteAddr().String(), "error", err)
		return
	}
	defer s.Close()
	switch s.Lane() {
	case wire.LaneOps:
		err = n.serveOps(ctx, s)
	case wire.LaneBulk:
		err = wire.ServeCalls(ctx, s, n.answer)
	default:
		err = fmt.Errorf("lane %q is not served", s.Lane())
	}
	if err != nil && ctx.Err() == nil {
		n.log.Info("session ended", "peer", s.PeerName(), "lane", s.Lane(), "reason", err)
	}
}

func (n *node) serveOps(ctx context.Context, s *wire.Session) error {
	r, err := n.playing()
	if err != nil {
		return err
	}
	return r.serveOps(ctx, s)
}

// dial connects to a peer.
func (n *node) dial(ctx context.Context, addr string, lane wire.Lane) (*wire.Session, error) {
	var tc *tls.Config
	if n.cfg.TLS != nil {
		tc = n.cfg.TLS.Client
	}
	if n.connect == nil {
		return wire.Dial(ctx, addr, lane, tc)
	}
	conn, err := n.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	return wire.Over(ctx, conn, addr, lane, tc)
}

func (n *node) serverTLS() *tls.Config {
	if n.cfg.TLS == nil {
		return nil
	}
	return n.cfg.TLS.Server
}

// Methods of the bulk lane.
const (
	methodAsk   = "ask"
	methodFence = "fence"
)

// fenceRequest is the body of fence. With Force the node is fenced although
// its in-sync set, as it knows it, is without the one that asks.
type fenceRequest struct {
	wire.FenceRequest
	Force bool
}

// answer serves the bulk lane, in either role.
func (n *node) answer(ctx context.Context, method string, body json.RawMessage) (any, error) {
	switch method {
	case methodAsk:
		return n.tell(), nil
	case methodFence:
		var req fenceRequest
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		if volume := n.store.Get().Volume; req.Volume != volume {
			return nil, &wire.Refusal{Code: wire.CodeForeignVolume,
				Message: fmt.Sprintf("%s keeps volume %q, not %q", n.cfg.Name, volume, req.Volume)}
		}
		r, err := n.playing()
		if err != nil {
			return nil, err
		}
		if err := r.fence(ctx, req); err != nil {
			return nil, err
		}
		return n.tell(), nil
	case wire.MethodView:
		var req wire.ViewRequest
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		if volume := n.store.Get().Volume; req.Volume != volume {
			return nil, &wire.Refusal{Code: wire.CodeForeignVolume,
				Message: fmt.Sprintf("%s keeps volume %q, not %q", n.cfg.Name, volume, req.Volume)}
		}
		return n.view(&req)
	}
	return nil, &wire.Refusal{Code: wire.CodeUnknownMethod, Message: fmt.Sprintf("%s knows no method %q", n.cfg.Name, method)}
}

// tell says what this node durably knows, for a promotion elsewhere.
func (n *node) tell() wire.AskAnswer {
	s := n.store.Get()
	a := wire.AskAnswer{
		Node: s.Node, Name: s.Name, Volume: s.Volume, Epoch: s.Epoch, Role: string(s.Role), InSync: s.InSync,
		Set: s.Set, MinInSync: s.Policy.MinInSync, Members: s.Policy.Members,
	}
	if !s.PrimaryHeard.IsZero() {
		a.Silent = time.Since(s.PrimaryHeard)
	}
	return a
}
