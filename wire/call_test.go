package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
)

// calls serves a bulk session with handle and returns the caller's end of it,
// and what ServeCalls returns.
func calls(t *testing.T, ctx context.Context, handle Handler) (*Session, <-chan error) {
	t.Helper()
	d, a := pair(t, LaneBulk, nil)
	return d, result(func() error { return ServeCalls(ctx, a, handle) })
}

func TestCall(t *testing.T) {
	s, served := calls(t, t.Context(), func(_ context.Context, method string, body json.RawMessage) (any, error) {
		switch method {
		case "ask":
			return AskAnswer{Name: "n", Set: nil, MinInSync: 2}, nil
		case "fence":
			var f FenceRequest
			if err := json.Unmarshal(body, &f); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("wrapped: %w", &Refusal{Code: CodeHigherEpoch, Message: "no: " + f.Name, Epoch: f.Epoch})
		case "huge":
			return make([]byte, MaxPayload), nil
		case "fail":
			return nil, errors.New("the disk is gone")
		}
		return nil, &Refusal{Code: CodeUnknownMethod, Message: "no method " + method}
	})
	var a AskAnswer
	if err := Call(t.Context(), s, "ask", struct{}{}, &a); err != nil || a.Name != "n" || a.MinInSync != 2 {
		t.Errorf("%+v, error %v", a, err)
	}
	if err := Call(t.Context(), s, "ask", struct{}{}, nil); err != nil {
		t.Errorf("an answer that is not wanted: %v", err)
	}
	var refusal *Refusal
	sent := FenceRequest{Name: "me"}
	sent.Epoch.Number = 4
	if err := Call(t.Context(), s, "fence", sent, nil); !errors.As(err, &refusal) ||
		*refusal != (Refusal{Code: CodeHigherEpoch, Message: "no: me", Epoch: sent.Epoch}) {
		t.Errorf("error %#v, want the refusal as it was made", err)
	}
	if err := Call(t.Context(), s, "fail", nil, nil); !errors.As(err, &refusal) || refusal.Message != "the disk is gone" {
		t.Errorf("error %v", err)
	}
	if err := Call(t.Context(), s, "dance", nil, nil); !errors.As(err, &refusal) || refusal.Code != CodeUnknownMethod {
		t.Errorf("error %v", err)
	}
	wants(t, "an answer that fits no frame", Call(t.Context(), s, "huge", nil, nil), "huge")
	wants(t, "a request that fits no frame", Call(t.Context(), s, "ask", make([]byte, MaxPayload), nil), "ask")
	s.Close()
	if err := await(t, served); err != nil {
		t.Errorf("the caller closed the session: %v, want nil", err)
	}
	wants(t, "a closed session", Call(t.Context(), s, "ask", nil, nil), "stream")
}

// Calls do not wait for each other, and each side can give up.
func TestCallsSideBySide(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begun := make(chan struct{})
	s, served := calls(t, ctx, func(ctx context.Context, method string, _ json.RawMessage) (any, error) {
		if method == "stuck" {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return "done", nil
	})
	call, giveUp := context.WithCancel(t.Context())
	given := result(func() error { return Call(call, s, "stuck", nil, nil) })
	await(t, begun)
	left := result(func() error { return Call(t.Context(), s, "stuck", nil, nil) })
	await(t, begun)
	if err := Call(t.Context(), s, "quick", nil, nil); err != nil {
		t.Errorf("beside stuck calls: %v", err)
	}
	giveUp()
	if err := await(t, given); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller gave up: %v", err)
	}
	stop()
	if err := await(t, left); err == nil {
		t.Error("the server stopped: no error")
	}
	await(t, served)
}

// A stream that is opened and not used, or used for something else, harms
// nobody.
func TestCallGarbage(t *testing.T) {
	s, served := calls(t, t.Context(), func(context.Context, string, json.RawMessage) (any, error) { return "done", nil })
	for _, garbage := range [][]byte{nil, {1, 2, 3}, make([]byte, 100), AppendFrame(nil, Header{Kind: KindRequest}, []byte("no JSON")), AppendAck(nil, 1, Ack{})} {
		c, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(garbage); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := Call(t.Context(), s, "ask", nil, nil); err != nil {
			t.Errorf("after %q: %v", garbage, err)
		}
	}
	s.Close()
	await(t, served)
}

// An answer that is none is an error, and not an answer.
func TestCallGarbageAnswer(t *testing.T) {
	d, a := pair(t, LaneBulk, nil)
	for _, garbage := range [][]byte{nil, {1, 2, 3}, make([]byte, 100), AppendAck(nil, 1, Ack{}),
		AppendFrame(nil, Header{Kind: KindResponse}, []byte("no JSON")), AppendFrame(nil, Header{Kind: KindResponse}, []byte(`{"body":3}`))} {
		served := result(func() error {
			c, err := a.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			var q Request
			if err := receive(c, KindRequest, &q); err != nil {
				return err
			}
			_, err = c.Write(garbage)
			return err
		})
		var answer string
		if err := Call(t.Context(), d, "ask", nil, &answer); err == nil {
			t.Errorf("%q was taken for the answer %q", garbage, answer)
		}
		if err := await(t, served); err != nil {
			t.Fatal(err)
		}
	}
}
