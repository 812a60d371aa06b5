package mirror

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a mirror of which each step can be told. It runs once for every
// session.
type script func(s *scripted) error

// scripted is the mirror's end of one session.
type scripted struct {
	*wire.Session
	control, log *wire.Reader
}

func (s *scripted) hear(k wire.Kind, v any) error { return hear(s.control, k, v) }
func (s *scripted) say(k wire.Kind, v any) error  { return tell(s.Control(), k, v) }

func (s *scripted) ack(a wire.Ack) error {
	_, err := s.Log().Write(wire.AppendAck(nil, 1, a))
	return err
}

// greet does the hello of a mirror that begins anew.
func (s *scripted) greet() error {
	var h wire.Hello
	var b wire.Begin
	return errors.Join(
		s.hear(wire.KindHello, &h),
		s.say(wire.KindAnswer, wire.Answer{Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "liar", Fresh: true}),
		s.hear(wire.KindBegin, &b),
		s.say(wire.KindBegun, wire.Begun{}))
}

// rest reads what comes, acknowledges all of it, and answers PrepareJoin.
func (s *scripted) rest() error {
	go func() { // ends with the session
		for {
			h, _, err := s.control.Next()
			if err != nil {
				return
			}
			if h.Kind == wire.KindPrepareJoin && s.say(wire.KindPrepared, wire.Prepared{}) != nil {
				return
			}
		}
	}()
	for {
		h, _, err := s.log.Next()
		if err != nil {
			return nil
		}
		if h.Kind != wire.KindCommit {
			if err := s.ack(wire.Ack{Applied: h.LSN, Durable: h.LSN, Offset: h.Offset}); err != nil {
				return nil
			}
		}
	}
}

// rig is a log with one scripted mirror.
type rig struct {
	*Log
	t      *testing.T
	mu     sync.Mutex // guards all below
	sets   []string   // decided, in order
	events []string
	fenced int
	decide func() error // nil: succeeds
}

func (r *rig) Decide(_ context.Context, set []op.NodeID, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.decide != nil {
		if err := r.decide(); err != nil {
			return err
		}
	}
	var names []string
	for _, n := range set {
		names = append(names, n.String()[15:])
	}
	r.sets = append(r.sets, strings.Join(names, ","))
	return nil
}

func (r *rig) decided() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.sets, " ")
}

// Hold is enough where nobody changes anything meanwhile.
func (r *rig) Hold(_ string, fn func() error) error { return fn() }

func newRig(t *testing.T, change func(*Config), run script) *rig {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	cfg := Config{
		Line: op.Line{Epoch: op.Epoch{Number: 1, Owner: 1}, Incarnation: 1}, Volume: "v", Self: 1, Name: "primary", Tree: tr,
		Sync: SyncOp, OnShortage: ShortageBlock, AckTimeout: 400 * time.Millisecond, Heartbeat: 50 * time.Millisecond, RingBytes: 8 << 20,
		Peers: []PeerConfig{{Addr: l.Addr().String()}}, Register: r, Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, addr string) (*wire.Session, error) {
			return wire.Dial(ctx, addr, wire.LaneOps, nil)
		},
		Event:  func(kind, text string) { r.mu.Lock(); defer r.mu.Unlock(); r.events = append(r.events, kind+": "+text) },
		Fenced: func(op.Epoch, string) { r.mu.Lock(); defer r.mu.Unlock(); r.fenced++ },
	}
	if change != nil {
		change(&cfg)
	}
	if r.Log, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			owned.Go(func() {
				s, err := wire.Accept(ctx, conn, nil)
				if err != nil {
					return
				}
				defer s.Close()
				end := context.AfterFunc(ctx, func() { s.Close() })
				defer end()
				// What a script runs into is the primary's answer to its lies.
				_ = run(&scripted{s, wire.NewReader(s.Control()), wire.NewReader(s.Log())})
			})
		}
	})
	owned.Go(func() {
		if err := r.Run(ctx, r); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		l.Close()
		owned.Wait()
		tr.Close()
	})
	return r
}

// until waits for a status of the one peer.
func (r *rig) until(what string, ok func(Status, PeerStatus) bool) {
	r.t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for {
		r.Log.mu.Lock()
		news := r.news
		r.Log.mu.Unlock()
		s := r.Status()
		if ok(s, s.Peers[0]) {
			return
		}
		select {
		case <-news:
		case <-deadline.C:
			r.mu.Lock()
			events := r.events
			r.mu.Unlock()
			r.t.Fatalf("%s: not within 10 s; the peer is %+v, events %q", what, s.Peers[0], events)
		}
	}
}

// change commits an op that needs no system call.
func (r *rig) change() (op.Ack, error) {
	o := &op.Op{Kind: op.SetAttr, Path: "f", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o100644}}
	if err := r.Admit(r.t.Context()); err != nil {
		return nil, err
	}
	return r.Commit(r.t.Context(), o, func() error { return nil })
}

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
		{"the end after the hello", func(s *scripted) error { return s.greet() }, "closed by the other end"},
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
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.fenced != 1 {
				t.Errorf("fenced %d times", r.fenced)
			}
		})
	}
}

// TestExpelledBeforeTheCallReturns withholds acks: the call that waits returns
// only behind the durable decision (RULES.md 5, ExpelFirst).
func TestExpelledBeforeTheCallReturns(t *testing.T) {
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
		t.Errorf("the call returned with %d decisions tried and the sets %q recorded", failures, r.sets)
	}
}

// TestHelloExpels sees a member that comes back without its session leave the
// set durably before the stream begins anew (RULES.md 7).
func TestHelloExpels(t *testing.T) {
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
	a, err := r.change()
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	if err := a.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if set := <-early; set != "" || len(r.decided()) == 0 && len(r.sets) == 0 {
		t.Errorf("at Begin the decisions were %q of %d", set, len(r.sets))
	}
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := r.decided(); got != " 2" {
		t.Errorf("decided %q: want the empty set, then the mirror's join", got)
	}
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
