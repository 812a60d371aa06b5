package daemon

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

	"go.uber.org/goleak"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// rig is a mirror under test. The test plays its primary with raw frames.
type rig struct {
	t     *testing.T
	dir   string // replica
	state string // state directory
	store *Store
	tree  *tree.Tree
	recv  *Receiver

	mu       sync.Mutex
	degraded []string // guarded by mu
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
	g.store = openStore(t, g.state)
	if err := g.store.Update(func(s *State) error { s.Name = "b"; return nil }); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.tree, err = tree.Open(g.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.tree.Close()
		closeStore(t, g.store)
	})
	g.recv = NewReceiver(ReceiverConfig{
		Store: g.store, Tree: g.tree, Heartbeat: heartbeat, Software: "standbyfs test",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Degraded: func(reason string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.degraded = append(g.degraded, reason)
		},
	})
	return g
}

func (g *rig) wantDegraded(want ...string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if strings.Join(g.degraded, "|") != strings.Join(want, "|") {
		g.t.Errorf("degraded: %q, want %q", g.degraded, want)
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

func (g *rig) content(path, want string) {
	g.t.Helper()
	got, err := os.ReadFile(filepath.Join(g.dir, path))
	if err != nil {
		g.t.Error(err)
	} else if string(got) != want {
		g.t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

func TestFirstSession(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	a := p.greet(hello())
	want := wire.Answer{Protocol: wire.Protocol, Node: g.store.Get().Node, Name: "b", Fresh: true}
	if a != want {
		t.Errorf("answer %+v, want %+v", a, want)
	}
	if st := g.store.Get(); st.Volume != "" || st.Role != NoRole {
		t.Errorf("recorded before Begin: %+v", st)
	}
	p.tell(wire.KindBegin, wire.Begin{Policy: wire.Policy{MinInSync: 1, OnShortage: "fail", Set: []op.NodeID{otherNode}}})
	p.hear(wire.KindBegun, new(wire.Begun))
	st, _, err := readCopy(t, g.state)
	if err != nil {
		t.Fatal(err)
	}
	if st.Volume != "vol" || st.Role != Mirror || st.InSync || st.Epoch != line.Epoch || st.Policy.MinInSync != 1 ||
		len(st.Set) != 1 || st.ArchiveUntilJoined || st.PrimaryName != "a" || st.Reason != "resync with a" {
		t.Errorf("recorded before Begun: %+v", st)
	}
	p.send(create("f"), write("f", 0, "hello"), write("f", 5, " world"))
	ack, reports := p.applied(3)
	if ack.Durable != 3 || ack.Offset != p.offset || len(reports) != 0 {
		t.Errorf("ack %+v, reports %v; want durable 3, offset %d", ack, reports, p.offset)
	}
	g.content("f", "hello world")
	m := g.recv.Status()
	if !m.Connected || !m.Resyncing || m.InSync || m.Primary != "a" || m.PrimaryNode != primaryNode || m.Position != (op.Position{Line: line, LSN: 3}) {
		t.Errorf("status %+v", m)
	}
	p.tell(wire.KindGoodbye, wire.Goodbye{Reason: "unmounted"})
	if err := p.ended(); err != nil {
		t.Errorf("after a goodbye: %v", err)
	}
	if g.recv.Status().Connected {
		t.Error("connected after a goodbye")
	}
}

// readCopy reads what a kill at this moment would leave.
func readCopy(t *testing.T, dir string) (State, []Event, error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, stateFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadState(to, 10)
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		state  func(*State)
		hello  func(*wire.Hello)
		before func(*rig)
		code   wire.Code
		says   string
	}{
		{"newer protocol", nil, func(h *wire.Hello) { h.Protocol, h.MinProtocol = 9, 8 }, nil, wire.CodeProtocol, "a speaks protocols 8 to 9 (standbyfs test), mirror b speaks 3 to 3 (standbyfs test): install the same version on both"},
		{"older protocol", nil, func(h *wire.Hello) { h.Protocol, h.MinProtocol = 0, 0 }, nil, wire.CodeProtocol, "install the same version on both"},
		{"foreign volume", func(s *State) { s.Volume = "other" }, nil, nil, wire.CodeForeignVolume, "mirror b keeps volume other and a serves volume vol: connect the primary that this mirror belongs to"},
		{"lower epoch", func(s *State) { s.Epoch = op.Epoch{Number: 2, Owner: otherNode} }, nil, nil, wire.CodeHigherEpoch, "a is deposed: b has seen epoch 2/000000000000000c: start a again as a mirror"},
		{"lower owner of the same number", func(s *State) { s.Epoch = op.Epoch{Number: 1, Owner: otherNode} }, nil, nil, wire.CodeHigherEpoch, "a is deposed"},
		{"not the epoch's owner", nil, func(h *wire.Hello) { h.Node = otherNode }, nil, wire.CodeProtocol, "makes no sense"},
		{"no position", nil, func(h *wire.Hello) { h.Next = 0 }, nil, wire.CodeProtocol, "makes no sense"},
		{"its own node", func(s *State) { s.Node = primaryNode }, nil, nil, wire.CodeNotAMirror, "its state directory was copied"},
		{"a primary", func(s *State) { s.Role = Primary }, nil, nil, wire.CodeNotAMirror, "b is itself the primary"},
		{"not empty", nil, nil, func(g *rig) { os.Mkdir(filepath.Join(g.dir, "d"), 0o700) }, wire.CodeNotEmpty, `is not empty on first use (it holds "d")`},
		{"detached", nil, nil, func(g *rig) { g.recv.Detach(t.Context()) }, wire.CodeNotAMirror, "b is being promoted: it is no mirror any more"},
		{"stopped", nil, nil, func(g *rig) { g.recv.Stop(t.Context(), "stopped") }, wire.CodeBusy, "mirror b stops: start it again"},
		{"second primary", nil, func(h *wire.Hello) { h.Node, h.Line.Epoch.Owner = 9, 9 }, func(g *rig) { g.connect().greet(hello()) }, wire.CodeSecondPrimary, "mirror b has a session with primary a (epoch 1/000000000000000a): stop that one first"},
		{"second process of one primary", nil, func(h *wire.Hello) { h.Line.Incarnation++ }, func(g *rig) { g.connect().greet(hello()) }, wire.CodeSecondPrimary, "mirror b has a session with another process of primary a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			if c.state != nil {
				if err := g.store.Update(func(s *State) error { c.state(s); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if c.before != nil {
				c.before(g)
			}
			was := g.store.Get()
			h := hello()
			if c.hello != nil {
				c.hello(&h)
			}
			p := g.connect()
			a := p.greet(h)
			if a.Refusal == nil || a.Refusal.Code != c.code || !strings.Contains(a.Refusal.Message, c.says) {
				t.Fatalf("got %+v, want %s: %s", a.Refusal, c.code, c.says)
			}
			if c.code == wire.CodeHigherEpoch && a.Refusal.Epoch != was.Epoch {
				t.Errorf("refusal carries epoch %v, want %v", a.Refusal.Epoch, was.Epoch)
			}
			var refused *RefusedError
			if err := p.ended(); !errors.As(err, &refused) || refused.Hello.Name != "a" {
				t.Errorf("Serve returned %v", err)
			}
			if now := g.store.Get(); now.Volume != was.Volume || now.Epoch != was.Epoch || now.Role != was.Role || now.InSync != was.InSync {
				t.Errorf("a refused hello left %+v", now)
			}
		})
	}
}

func TestResume(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.applied(p.send(create("f"), write("f", 0, "one")))
	p.join(g)
	// The next op is on its way in half when the connection breaks: only whole
	// ones count.
	half := p.frame(write("f", 3, "lost"))
	p.raw(half[:len(half)-2])
	p.lose()

	h := hello()
	h.Next = 4
	q := g.connect()
	a := q.greet(h)
	if a.Resume == nil || *a.Resume != (op.Position{Line: line, LSN: 3}) || !a.InSync {
		t.Fatalf("answer %+v, want resume at 3", a)
	}
	q.tell(wire.KindBegin, wire.Begin{Resume: true, Policy: wire.Policy{Set: []op.NodeID{g.store.Get().Node}}})
	q.hear(wire.KindBegun, new(wire.Begun))
	if ack, _ := q.applied(3); ack.Durable != 3 {
		t.Errorf("a resumed session begins with ack %+v", ack)
	}
	q.lsn, q.offset = 3, p.offset
	q.applied(q.send(write("f", 3, " two")))
	g.content("f", "one two")
	if m := g.recv.Status(); !m.InSync || !m.Strict {
		t.Errorf("after a resume: %+v", m)
	}
	g.wantDegraded()
}

func TestNoResumeAcrossLines(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	h := hello()
	h.Line.Incarnation++
	g.start(h, false).lose()
	if st := g.store.Get(); st.InSync || st.ArchiveUntilJoined {
		t.Errorf("after the primary's restart: %+v", st)
	}
	g.wantDegraded("resync with a")
	// Nor for an epoch that is new to it, where the mirror may have what
	// nobody else has.
	h.Line.Epoch, h.Node = op.Epoch{Number: 2, Owner: otherNode}, otherNode
	g.start(h, false)
	if st := g.store.Get(); !st.ArchiveUntilJoined || st.Epoch != h.Line.Epoch || len(st.History) != 2 {
		t.Errorf("after a promotion: %+v", st)
	}
}

func TestResumeThatWasNotOffered(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	p.greet(hello())
	p.tell(wire.KindBegin, wire.Begin{Resume: true})
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	if err := p.ended(); !errors.Is(err, errProtocol) || !strings.Contains(bye.Reason, "not offered") {
		t.Errorf("got %v, goodbye %q", err, bye.Reason)
	}
}

// A mirror that missed its own expulsion hears of it at the resume.
func TestExpelledWhileAway(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	h := hello()
	h.Next = 3
	g.start(h, true)
	if st := g.store.Get(); st.InSync || st.Reason != "expelled by a" {
		t.Errorf("state %+v", st)
	}
	g.wantDegraded("expelled by a")
}

func TestNewerConnectionReplacesOlder(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.applied(1)
	q := g.start(hello(), true)
	if err := p.ended(); err == nil {
		t.Error("the older session ended without an error")
	}
	q.applied(q.send(write("f", 0, "x")))
	g.content("f", "x")
}

func TestSilentPrimary(t *testing.T) {
	g := rigIn(t, t.TempDir(), 200*time.Millisecond)
	p := g.start(hello(), false)
	p.hear(wire.KindHeartbeat, new(wire.Heartbeat))
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "a has been silent for") {
		t.Errorf("got %v", err)
	}
}

func TestGreetingOfNothing(t *testing.T) {
	g := newRig(t)
	p := g.connect()
	p.tell(wire.KindBegun, wire.Begun{})
	if err := p.ended(); !errors.Is(err, errProtocol) {
		t.Errorf("got %v", err)
	}
	if err := g.connect().lose(); err == nil {
		t.Error("a session without a hello ended without an error")
	}
}

// Everything in memory is gone with the process: what is durable decides.
func TestKilledMirror(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	st, _, err := readCopy(t, g.state)
	if err != nil || !st.InSync {
		t.Fatalf("a kill leaves %+v, %v", st, err)
	}
	p.lose()
	g.recv = NewReceiver(g.recv.cfg)
	if m := g.recv.Status(); !m.InSync || m.Connected {
		t.Errorf("started again: %+v", m)
	}
	h := hello()
	h.Next = 9
	g.start(h, false)
	if st := g.store.Get(); st.InSync {
		t.Error("in sync in a resync")
	}
}

func TestStopRecordsBeforeItSays(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	stopped := make(chan error, 1)
	go func() { stopped <- g.recv.Stop(context.Background(), "stopped by the operator") }()
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	st, _, err := readCopy(t, g.state)
	if err != nil || st.InSync || st.Reason != "stopped by the operator" {
		t.Errorf("at the goodbye %+v is recorded (%v)", st, err)
	}
	if !bye.NotInSync || bye.Reason != "stopped by the operator" {
		t.Errorf("goodbye %+v", bye)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	g.wantDegraded("stopped by the operator")
}

func TestStopWithoutSession(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	if err := g.recv.Stop(t.Context(), "stopped"); err != nil {
		t.Fatal(err)
	}
	if st := g.store.Get(); st.InSync || st.Reason != "stopped" {
		t.Errorf("state %+v", st)
	}
}

func TestDetachAppliesWhatWasReceived(t *testing.T) {
	g := newRig(t)
	held, free := make(chan struct{}), make(chan struct{})
	g.withFsync(func(int, bool) error { close(held); <-free; return nil })
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	p.send(fsyncOf("f"))
	<-held
	detached := make(chan error, 1)
	go func() { detached <- g.recv.Detach(context.Background()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.recv.Detach(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a Detach that may not wait: %v", err)
	}
	close(free)
	if err := <-detached; err != nil {
		t.Error(err)
	}
	st := g.store.Get()
	if m := g.recv.Status(); !st.InSync || m.Connected || m.Position.LSN != 3 || m.Durable != 3 {
		t.Errorf("state %+v, status %+v", st, m)
	}
}

func TestFence(t *testing.T) {
	higher := op.Epoch{Number: 2, Owner: otherNode}
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)

	no := errors.New("not with this set")
	if err := g.recv.Fence(t.Context(), higher, func(s State) error {
		g.recv.mu.Lock()
		defer g.recv.mu.Unlock()
		if g.recv.current != nil || !s.InSync {
			t.Error("asked while the session still runs")
		}
		return no
	}); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	p.ended()
	h := hello()
	h.Next = 3
	self := g.store.Get().Node
	q := g.start(h, true, self)

	if err := g.recv.Fence(t.Context(), higher, nil); err != nil {
		t.Fatal(err)
	}
	q.ended()
	if st := g.store.Get(); st.Epoch != higher || !st.InSync || !st.ArchiveUntilJoined {
		t.Errorf("fenced: %+v", st)
	}
	if a := g.connect().greet(h); a.Refusal == nil || a.Refusal.Code != wire.CodeHigherEpoch || a.Refusal.Epoch != higher {
		t.Errorf("the deposed primary hears %+v", a.Refusal)
	}
	var refusal *wire.Refusal
	if err := g.recv.Fence(t.Context(), higher, nil); !errors.As(err, &refusal) || refusal.Code != wire.CodeHigherEpoch {
		t.Errorf("a second claim of the same epoch: %v", err)
	}
}
