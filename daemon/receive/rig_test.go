package receive

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// rig is a mirror under test. The test plays its primary with raw frames.
type rig struct {
	t     *testing.T
	dir   string // replica
	state string // state directory
	store *state.Store
	tree  *tree.Tree
	recv  *Receiver

	mu       sync.Mutex // guards degraded
	degraded []string   // why it is not in sync, each time that it was told
}

const primaryNode, otherNode = op.NodeID(0xa), op.NodeID(0xc)

var line = op.Line{Epoch: op.Epoch{Number: 1, Owner: primaryNode}, Incarnation: 1}

func newRig(t *testing.T) *rig {
	return rigIn(t, t.TempDir(), time.Minute)
}

func rigIn(t *testing.T, base string, heartbeat time.Duration) *rig {
	t.Helper()
	g := &rig{t: t, dir: filepath.Join(base, "replica"), state: filepath.Join(base, "state")}
	// The first deferred, the last to run: all that the test opened is closed.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.store, err = state.Open(g.state); err != nil {
		t.Fatal(err)
	}
	if err := g.store.Update(func(s *state.State) error { s.Name = "b"; return nil }); err != nil {
		t.Fatal(err)
	}
	if g.tree, err = tree.Open(g.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.tree.Close()
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	g.recv = New(Config{
		Store: g.store, Tree: g.tree, Heartbeat: heartbeat, Software: "standbyfs test",
		Logger: slog.New(degradedHandler{slog.DiscardHandler, g}),
	})
	return g
}

// degradedHandler takes down what a mirror logs when it is not in sync any more.
type degradedHandler struct {
	slog.Handler
	g *rig
}

// Enabled reports that a record is wanted.
func (degradedHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle takes a record.
func (h degradedHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "not in sync" {
		return nil
	}
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		h.g.degraded = append(h.g.degraded, a.Value.String())
		return true
	})
	return nil
}

func (g *rig) wantDegraded(want ...string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if strings.Join(g.degraded, "|") != strings.Join(want, "|") {
		g.t.Errorf("degraded: %q, want %q", g.degraded, want)
	}
}

func (g *rig) content(path, want string) {
	g.t.Helper()
	got, err := os.ReadFile(filepath.Join(g.dir, path))
	if err != nil {
		g.t.Error(err)
	} else if string(got) != want {
		g.t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

// sender is one session from the primary's side.
type sender struct {
	t       *testing.T
	ws      *wire.Session
	control *wire.Reader
	log     *wire.Reader
	served  chan error // what Serve returned
	lsn     op.LSN
	offset  uint64
}

// connect opens a session that the rig's receiver serves.
func (g *rig) connect() *sender {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	served, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		l.Close() // one session; closed earlier it would reset it
		if err != nil {
			served <- err
			return
		}
		s, err := wire.Accept(g.t.Context(), conn, nil)
		if err != nil {
			served <- err
			return
		}
		served <- g.recv.Serve(context.Background(), s)
	}()
	ws, err := wire.Dial(g.t.Context(), l.Addr().String(), wire.LaneOps, nil)
	if err != nil {
		l.Close()
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		ws.Close()
		<-done
	})
	for _, c := range []net.Conn{ws.Log(), ws.Control()} {
		c.SetReadDeadline(time.Now().Add(20 * time.Second)) // a test never hangs
	}
	return &sender{t: g.t, ws: ws, control: wire.NewReader(ws.Control()), log: wire.NewReader(ws.Log()), served: served}
}

func hello() wire.Hello {
	return wire.Hello{
		Protocol: wire.Protocol, MinProtocol: wire.MinProtocol, Software: "standbyfs test", Volume: "vol",
		Node: primaryNode, Name: "a", Line: line, Oldest: 1, Next: 1,
	}
}

func (p *sender) tell(kind wire.Kind, v any) {
	p.t.Helper()
	frame, err := wire.AppendMessage(nil, kind, v)
	if err != nil {
		p.t.Fatal(err)
	}
	// The mirror may end the session over it before the write has returned.
	if _, err := p.ws.Control().Write(frame); err != nil {
		p.t.Logf("tell %s: %v", frame[wire.HeaderSize:], err)
	}
}

func (p *sender) hear(kind wire.Kind, v any) {
	p.t.Helper()
	for {
		h, payload, err := p.control.Next()
		if err != nil {
			p.t.Fatalf("waiting for kind %d: %v; Serve: %v", kind, err, p.lose())
		}
		if h.Kind == wire.KindHeartbeat && kind != wire.KindHeartbeat {
			continue
		}
		if h.Kind != kind {
			p.t.Fatalf("got kind %d (%s), want %d", h.Kind, payload, kind)
		}
		if err := wire.DecodeMessage(payload, v); err != nil {
			p.t.Fatal(err)
		}
		return
	}
}

func (p *sender) greet(h wire.Hello) wire.Answer {
	p.t.Helper()
	p.tell(wire.KindHello, h)
	var a wire.Answer
	p.hear(wire.KindAnswer, &a)
	return a
}

// start takes a session to its first frame.
func (g *rig) start(h wire.Hello, resume bool, set ...op.NodeID) *sender {
	g.t.Helper()
	p := g.connect()
	a := p.greet(h)
	if a.Refusal != nil {
		g.t.Fatalf("refused: %v", a.Refusal)
	}
	if resume != (a.Resume != nil) {
		g.t.Fatalf("resume offered: %v, want %v", a.Resume, resume)
	}
	p.lsn = h.Next - 1
	if resume {
		p.lsn = a.Resume.LSN
	}
	p.tell(wire.KindBegin, wire.Begin{Resume: resume, Policy: wire.Policy{Set: set, OnShortage: "block"}})
	p.hear(wire.KindBegun, new(wire.Begun))
	return p
}

// frame encodes an op at the next LSN.
func (p *sender) frame(o *op.Op) []byte {
	p.t.Helper()
	f, err := wire.AppendOp(nil, line.Epoch.Number, o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.lsn++
	p.offset += uint64(len(f))
	wire.Seal(f, p.lsn, p.offset)
	return f
}

// send sends ops in one write and returns the LSN of the last one.
func (p *sender) send(ops ...*op.Op) op.LSN {
	p.t.Helper()
	var buf []byte
	for _, o := range ops {
		buf = append(buf, p.frame(o)...)
	}
	p.raw(buf)
	return p.lsn
}

func (p *sender) raw(b []byte) {
	p.t.Helper()
	if _, err := p.ws.Log().Write(b); err != nil { // as in tell
		p.t.Logf("send: %v", err)
	}
}

// until reads the log stream up to the first ack for which ok holds, and
// returns it with the reports before it.
func (p *sender) until(ok func(wire.Ack) bool) (wire.Ack, []wire.Report) {
	p.t.Helper()
	var reports []wire.Report
	for {
		h, payload, err := p.log.Next()
		if err != nil {
			p.t.Fatalf("waiting for an ack: %v", err)
		}
		switch h.Kind {
		case wire.KindReport:
			var r wire.Report
			if err := wire.DecodeMessage(payload, &r); err != nil {
				p.t.Fatal(err)
			}
			reports = append(reports, r)
		case wire.KindAck:
			a, err := wire.DecodeAck(payload)
			if err != nil {
				p.t.Fatal(err)
			}
			if h.Epoch != line.Epoch.Number {
				p.t.Errorf("ack of epoch %d", h.Epoch)
			}
			if ok(a) {
				return a, reports
			}
		default:
			p.t.Fatalf("kind %d on the log stream", h.Kind)
		}
	}
}

func (p *sender) applied(lsn op.LSN) (wire.Ack, []wire.Report) {
	p.t.Helper()
	return p.until(func(a wire.Ack) bool { return a.Applied >= lsn })
}

func (p *sender) durable(lsn op.LSN) {
	p.t.Helper()
	p.until(func(a wire.Ack) bool { return a.Durable >= lsn })
}

// join takes the mirror into the set.
func (p *sender) join(g *rig) {
	p.t.Helper()
	p.tell(wire.KindPrepareJoin, wire.PrepareJoin{})
	p.hear(wire.KindPrepared, new(wire.Prepared))
	self := g.store.Get().Node
	p.applied(p.send(&op.Op{Kind: op.Join, Path: op.Root, Member: self, Members: []op.NodeID{self}}))
}

// lose drops the connection and returns what Serve said.
func (p *sender) lose() error {
	p.ws.Close()
	err := <-p.served
	p.served <- err
	return err
}

// ended waits for Serve to return by itself.
func (p *sender) ended() error {
	err := <-p.served
	p.served <- err
	return err
}

func create(path string) *op.Op {
	return &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o100644}}
}

func write(path string, off int64, data string) *op.Op {
	return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte(data)}
}

func fsyncOf(path string) *op.Op {
	return &op.Op{Kind: op.Fsync, Path: path, Flags: op.Barrier}
}

// readCopy reads what a kill at this moment would leave.
func readCopy(t *testing.T, dir string) (state.State, []state.Event, error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, "state.db"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return state.Read(to, 10)
}
