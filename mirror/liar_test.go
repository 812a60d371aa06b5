package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// TestLyingMirrors sees each lie end the session with a reason that tells it,
// and nothing hang or stay behind.
func TestLyingMirrors(t *testing.T) {
	refuse := func(a wire.Answer) script {
		return func(s *scripted) error {
			var h wire.Hello
			return errors.Join(s.hear(wire.KindHello, &h), s.say(wire.KindAnswer, a), s.hear(wire.KindHello, &h))
		}
	}
	after := func(lie func(s *scripted) error) script {
		return func(s *scripted) error {
			if err := errors.Join(s.greet(), lie(s)); err != nil {
				return err
			}
			return s.rest()
		}
	}
	for _, c := range []struct {
		name string
		run  script
		says string
	}{
		{"ack beyond what was sent", after(func(s *scripted) error { return s.ack(wire.Ack{Applied: 1 << 40}) }), "when 0 was the last op sent|protocol violation"},
		{"durable beyond applied", after(func(s *scripted) error { return s.ack(wire.Ack{Durable: 1}) }), "protocol violation"},
		{"offset beyond the log", after(func(s *scripted) error { return s.ack(wire.Ack{Offset: 1 << 50}) }), "protocol violation"},
		{"short ack", after(func(s *scripted) error {
			_, err := s.Log().Write(wire.AppendFrame(nil, wire.Header{Kind: wire.KindAck, Epoch: 1}, []byte("x")))
			return err
		}), "ack of 1 bytes"},
		{"an op from a mirror", after(func(s *scripted) error {
			f, err := wire.AppendOp(nil, 1, &op.Op{Kind: op.Write, Path: "f", Data: []byte("x")})
			if err == nil {
				wire.Seal(f, 1, 1)
				_, err = s.Log().Write(f)
			}
			return err
		}), "protocol violation"},
		{"a report about a path outside", after(func(s *scripted) error {
			return tell(s.Log(), wire.KindReport, wire.Report{Kind: wire.ReportSuspect, Path: []byte("../../etc")})
		}), "not allowed"},
		{"a report of no kind", after(func(s *scripted) error {
			return tell(s.Log(), wire.KindReport, wire.Report{Kind: "rumour", Path: []byte("f")})
		}), "unknown report"},
		{"garbage on the log stream", after(func(s *scripted) error {
			_, err := s.Log().Write([]byte(strings.Repeat("garbage", 20)))
			return err
		}), "corrupt frame"},
		{"garbage on the control stream", after(func(s *scripted) error {
			_, err := s.Control().Write([]byte(strings.Repeat("garbage", 20)))
			return err
		}), "corrupt frame"},
		{"hello on the control stream", after(func(s *scripted) error { return s.say(wire.KindHello, wire.Hello{}) }), "protocol violation"},
		{"a message that is no JSON", after(func(s *scripted) error {
			_, err := s.Control().Write(wire.AppendFrame(nil, wire.Header{Kind: wire.KindPrepared}, []byte("{")))
			return err
		}), "corrupt frame"},
		{"a goodbye", after(func(s *scripted) error {
			return s.say(wire.KindGoodbye, wire.Goodbye{Reason: "my disk burns", NotInSync: true})
		}), "my disk burns"},
		{"silence after the hello", func(s *scripted) error {
			if err := s.greet(); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, s.Log())
			return err
		}, "nothing was heard from it"},
		{"silence at the hello", func(s *scripted) error { _, err := io.Copy(io.Discard, s.Control()); return err }, "hello: "},
		{"the end at the hello", func(*scripted) error { return nil }, "closed by the other end|hello: "},
		{"the end after the hello", func(s *scripted) error { return s.greet() }, "closed by the other end|stream closed|session shutdown"},
		{"a refusal", refuse(wire.Answer{Refusal: &wire.Refusal{Code: wire.CodeForeignVolume, Message: "not my volume"}}), "not my volume"},
		{"the primary's own node ID", refuse(wire.Answer{Node: 1, Name: "liar"}), "this node itself"},
		{"the wrong answer", func(s *scripted) error {
			var h wire.Hello
			return errors.Join(s.hear(wire.KindHello, &h), s.say(wire.KindBegun, wire.Begun{}))
		}, "protocol violation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, c.run)
			r.until("a reason that says "+c.says, func(_ Status, p PeerStatus) bool {
				for says := range strings.SplitSeq(c.says, "|") {
					if strings.Contains(p.Reason, says) {
						return true
					}
				}
				return false
			})
			if set := r.Status().Set; len(set) != 0 {
				t.Errorf("a liar is in the in-sync set: %v", set)
			}
		})
	}
}

// TestHigherEpoch fences the primary, by a refusal or by a goodbye, once.
func TestHigherEpoch(t *testing.T) {
	higher := op.Epoch{Number: 2, Owner: 9}
	for name, run := range map[string]script{
		"refusal": func(s *scripted) error {
			var h wire.Hello
			return errors.Join(s.hear(wire.KindHello, &h),
				s.say(wire.KindAnswer, wire.Answer{Node: 2, Refusal: &wire.Refusal{Code: wire.CodeHigherEpoch, Message: "deposed", Epoch: higher}}), s.hear(wire.KindHello, &h))
		},
		"answer": func(s *scripted) error {
			var h wire.Hello
			return errors.Join(s.hear(wire.KindHello, &h), s.say(wire.KindAnswer, wire.Answer{Node: 2, Epoch: higher}), s.hear(wire.KindHello, &h))
		},
		"goodbye": func(s *scripted) error {
			return errors.Join(s.greet(), s.say(wire.KindGoodbye, wire.Goodbye{Reason: "fenced", Epoch: &higher}), s.rest())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, run)
			r.until("the fence", func(s Status, _ PeerStatus) bool { return s.Fenced != nil && *s.Fenced == higher })
			if _, err := r.change(); !errors.Is(err, op.ErrFenced) {
				t.Errorf("a change of a deposed primary: %v", err)
			}
			r.Fence(op.Epoch{Number: 3, Owner: 9}, "somebody else")
			if by := <-r.fenced; by != higher || len(r.fenced) > 0 {
				t.Errorf("fenced by %v, and %d times more", by, len(r.fenced))
			}
		})
	}
}

// TestExpelledBeforeTheCallReturns withholds acks: the call that waits returns
// only behind the durable decision (RULES.md 5, ExpelFirst).
func TestExpelledBeforeTheCallReturns(t *testing.T) { eitherWay(t, expelledFirst) }

// eitherWay runs a test of what the primary has to record, and once more with a
// register that forgets: then it must complain.
func eitherWay(t *testing.T, complaint func(t *testing.T, forget bool) string) {
	t.Helper()
	for _, forget := range []bool{false, true} {
		t.Run(fmt.Sprintf("forgotten %v", forget), func(t *testing.T) {
			if said := complaint(t, forget); (said != "") != forget {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func expelledFirst(t *testing.T, forget bool) string {
	stuck := make(chan struct{})
	r := newRig(t, nil, func(s *scripted) error {
		if err := s.greet(); err != nil {
			return err
		}
		go func() { // the control stream goes on: it is alive and does not answer
			for {
				h, _, err := s.control.Next()
				if err != nil {
					return
				}
				k := wire.KindHeartbeat
				if h.Kind == wire.KindPrepareJoin {
					k = wire.KindPrepared
				}
				if s.say(k, struct{}{}) != nil {
					return
				}
			}
		}()
		for {
			h, _, err := s.log.Next()
			if err != nil {
				return err
			}
			select {
			case <-stuck:
			default:
				if err := s.ack(wire.Ack{Applied: h.LSN, Durable: h.LSN, Offset: h.Offset}); err != nil {
					return err
				}
			}
		}
	})
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if a, err := r.change(); err != nil || a.Wait(t.Context()) != nil {
		t.Fatalf("a change with a mirror that answers: %v", err)
	}
	close(stuck)
	failures := 0
	r.mu.Lock()
	r.decide = func() error { // the state's disk fails at first
		if failures++; failures < 3 {
			return errors.New("disk full")
		}
		return nil
	}
	before := len(r.sets)
	r.forget = forget
	r.mu.Unlock()
	a, err := r.change()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if failures < 3 || len(r.sets) != before+1 || r.sets[before] != "" {
		return fmt.Sprintf("the call returned with %d decisions tried and the sets %q recorded", failures, r.sets)
	}
	return ""
}

// TestHelloExpels sees a member that comes back without its session leave the
// set durably before the stream begins anew (RULES.md 7).
func TestHelloExpels(t *testing.T) { eitherWay(t, helloExpels) }

func helloExpels(t *testing.T, forget bool) string {
	var r *rig
	ready := make(chan struct{})
	early := make(chan string, 1)
	r = newRig(t, func(c *Config) { c.Set = []op.NodeID{2}; c.AckTimeout = time.Minute }, func(s *scripted) error {
		<-ready
		var h wire.Hello
		var b wire.Begin
		err := errors.Join(s.hear(wire.KindHello, &h),
			s.say(wire.KindAnswer, wire.Answer{Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "b", InSync: true}),
			s.hear(wire.KindBegin, &b))
		if err != nil {
			return err
		}
		select {
		case early <- r.decided():
		default:
		}
		return errors.Join(s.say(wire.KindBegun, wire.Begun{}), s.rest())
	})
	r.mu.Lock()
	r.forget = forget
	r.mu.Unlock()
	a, err := r.change()
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	if err := a.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := <-early
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := r.decided(); at != "" || got != " 2" {
		return fmt.Sprintf("decided %q at Begin, %q in the end: want the empty set, then the mirror's join", at, got)
	}
	return ""
}

// TestShortage sees changes wait without a mirror, interruptibly, or fail.
func TestShortage(t *testing.T) {
	never := func(*scripted) error { return nil }
	t.Run("block", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MinInSync = 1 }, never)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := r.Admit(ctx); !errors.Is(err, op.ErrInterrupted) {
			t.Errorf("admitted without a mirror, or not interruptible: %v", err)
		}
	})
	t.Run("fail", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.MinInSync, c.OnShortage = 1, ShortageFail }, never)
		if err := r.Admit(t.Context()); !errors.Is(err, op.ErrShortage) {
			t.Errorf("admitted without a mirror: %v", err)
		}
	})
}
