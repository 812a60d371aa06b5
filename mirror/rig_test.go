package mirror

import (
	"context"
	"errors"
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
	heard        func(*op.Op) // of what rest reads; may be nil
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
		h, payload, err := s.log.Next()
		if err != nil {
			return nil
		}
		if h.Kind != wire.KindCommit {
			if s.heard != nil {
				var o op.Op
				if err := wire.DecodeOp(h, payload, &o); err != nil {
					return err
				}
				s.heard(&o)
			}
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
	fenced chan op.Epoch // what Config.Fenced was called with; room for more than one
	mu     sync.Mutex    // guards all below
	sets   []string      // decided, in order
	events []string
	decide func() error // nil: succeeds
	forget bool         // a decision is called durable, and is not
}

func (r *rig) Decide(_ context.Context, set []op.NodeID, _ op.NodeID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.decide != nil {
		if err := r.decide(); err != nil {
			return err
		}
	}
	if r.forget {
		return nil
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
func (r *rig) FlushTimes(context.Context) error                      { return nil }
func (r *rig) Hold(_ string, fn func() error) error                  { return fn() }
func (r *rig) HoldNames(_ string, _ []string, fn func() error) error { return fn() }
func (r *rig) HoldAll(fn func() error) error                         { return fn() }

func (r *rig) Mend(_ string, fn func() error) error { return fn() }

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
	r := &rig{t: t, fenced: make(chan op.Epoch, 10)}
	cfg := Config{
		Line: op.Line{Epoch: op.Epoch{Number: 1, Owner: 1}, Incarnation: 1}, Volume: "v", Self: 1, Name: "primary", Tree: tr,
		Sync: SyncOp, OnShortage: ShortageBlock, AckTimeout: 400 * time.Millisecond, Heartbeat: 50 * time.Millisecond, RingBytes: 8 << 20,
		Peers: []PeerConfig{{Addr: l.Addr().String()}}, Register: r, Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, addr string) (*wire.Session, error) {
			return wire.Dial(ctx, addr, wire.LaneOps, nil)
		},
		Event:  func(kind, text string) { r.mu.Lock(); defer r.mu.Unlock(); r.events = append(r.events, kind+": "+text) },
		Fenced: func(epoch op.Epoch, _ string) { r.fenced <- epoch },
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
				_ = run(&scripted{Session: s, control: wire.NewReader(s.Control()), log: wire.NewReader(s.Log())})
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
