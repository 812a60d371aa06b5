package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Request is a call on a stream of the bulk lane.
type Request struct {
	Method string          `json:"method"`
	Body   json.RawMessage `json:"body"`
}

// Response is its answer.
type Response struct {
	Refusal *Refusal        `json:"refusal,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// callTimeout bounds how long a server waits for a request that was announced
// by opening a stream.
const callTimeout = 10 * time.Second

// Call asks the peer of a bulk session. A no of the peer is a *Refusal.
func Call(ctx context.Context, s *Session, method string, in, out any) error {
	c, err := s.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	m, err := AppendMessage(nil, KindRequest, Request{Method: method, Body: body})
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	if _, err := c.Write(m); err != nil {
		return callError(ctx, s, method, err)
	}
	var r Response
	if err := receive(c, KindResponse, &r); err != nil {
		return callError(ctx, s, method, err)
	}
	if r.Refusal != nil {
		return r.Refusal
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.Body, out); err != nil {
		return fmt.Errorf("answer of %s to %s: %w", s.PeerName(), method, err)
	}
	return nil
}

func callError(ctx context.Context, s *Session, method string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("call %s of %s: %w", method, s.PeerName(), err)
}

// receive reads one message of a kind.
func receive(c net.Conn, k Kind, v any) error {
	h, payload, err := NewReader(c).Next()
	switch {
	case err != nil:
		return err
	case h.Kind != k:
		return fmt.Errorf("%w: kind %d where %d was due", ErrCorrupt, h.Kind, k)
	}
	return DecodeMessage(payload, v)
}

// Handler answers a call. An error that is a *Refusal reaches the caller as it
// is, any other as a refusal with its text.
type Handler func(ctx context.Context, method string, body json.RawMessage) (any, error)

// ServeCalls answers calls, side by side, until ctx or the session ends, and
// closes the session. It returns after the last of them, nil if the peer closed
// the session.
func ServeCalls(ctx context.Context, s *Session, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	defer s.Close()
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	for {
		c, err := s.Accept()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("calls of %s: %w", s.PeerName(), err)
		}
		calls.Go(func() {
			defer c.Close()
			serveCall(ctx, c, handle)
		})
	}
}

// serveCall answers one call. If the answer cannot be sent the caller learns it
// from the broken stream.
func serveCall(ctx context.Context, c net.Conn, handle Handler) {
	if c.SetReadDeadline(time.Now().Add(callTimeout)) != nil {
		return
	}
	var q Request
	if receive(c, KindRequest, &q) != nil {
		return
	}
	var r Response
	out, err := handle(ctx, q.Method, q.Body)
	if err == nil {
		r.Body, err = json.Marshal(out)
	}
	if err != nil && !errors.As(err, &r.Refusal) {
		r.Refusal = &Refusal{Message: err.Error()}
	}
	m, err := AppendMessage(nil, KindResponse, r)
	if err != nil {
		return
	}
	_, _ = c.Write(m)
}
