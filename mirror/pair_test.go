package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sys/unix"
)

// pair is a primary and a mirror without a network between them: the mirror
// takes ops from the ring itself, applies them to a real tree, and hands its
// reports and acks over.
type pair struct {
	*Log
	t     *testing.T
	p     *peer
	a, b  *tree.Tree // of the primary, of the mirror
	order sync.Mutex // held over a change and its place in the stream, as the file system does
	sent  []*op.Op   // what the mirror applied, data left out
	most  uint64     // bytes that went into the ring under one hold
	// listed is called when a directory has been listed, before its children are
	// looked at, and surveyed after that; nil: nothing happens then
	listed, surveyed func()

	theirs *region.Store // what the mirror records; nil: nothing
	cutAt  int           // the session ends when the mirror has applied so many ops; 0: not
	wasCut bool
	lost   bool   // the session ends before anything has arrived of what the mirror says
	stop   func() // ends the session
}

// FlushTimes has nothing to do: nothing is put off.
func (r *pair) FlushTimes(context.Context) error { return nil }

func (r *pair) Mend(path string, fn func() error) error { return r.Hold(path, fn) }
func (r *pair) HoldAll(fn func() error) error           { return r.Hold(op.Root, fn) }

// Hold keeps everything from changing.
func (r *pair) Hold(_ string, fn func() error) error {
	r.order.Lock()
	defer r.order.Unlock()
	before := r.ringEnd()
	defer func() { r.most = max(r.most, r.ringEnd()-before) }()
	return fn()
}

// ringEnd is how many bytes have gone into the ring.
func (r *pair) ringEnd() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Log.ring.offset
}

func (r *pair) HoldNames(dir string, _ []string, fn func() error) error {
	if r.listed != nil {
		r.listed()
	}
	err := r.Hold(dir, fn)
	if r.surveyed != nil {
		r.surveyed()
	}
	return err
}

// line is that of every pair.
var line = op.Line{Epoch: op.Epoch{Number: 1, Owner: 1}, Incarnation: 1}

func newPair(t *testing.T) *pair {
	t.Helper()
	open := func(name string) *tree.Tree {
		dir := filepath.Join(t.TempDir(), name)
		mkdir(t, dir)
		tr, err := tree.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	r := &pair{t: t, a: open("primary"), b: open("mirror")}
	l, err := New(Config{
		Line: line, Volume: "v", Self: 1, Name: "primary", Tree: r.a,
		Sync: SyncOp, OnShortage: ShortageBlock, AckTimeout: time.Minute, Heartbeat: time.Second, RingBytes: 32 << 20,
		Peers: []PeerConfig{{Addr: "mirror"}}, Logger: slog.New(slog.DiscardHandler), Event: func(string, string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.source, r.Log = r, l
	r.p = l.peers[0]
	return r
}

// do makes a change on the primary that the mirror does not hear of.
func (r *pair) do(o *op.Op) error { return r.a.Apply(o) }

// live makes a change that goes to the mirror.
func (r *pair) live(o *op.Op) error {
	r.admit()
	return r.make(o, func() error { return r.a.Apply(o) })
}

// admit does what Admit does for a peer with a session.
func (r *pair) admit() {
	for {
		r.mu.Lock()
		far, room := r.p.far(), r.room
		r.mu.Unlock()
		if !far {
			return
		}
		select {
		case <-room:
		case <-r.t.Context().Done():
			return
		}
	}
}

func (r *pair) make(o *op.Op, apply func() error) error {
	r.order.Lock()
	defer r.order.Unlock()
	_, err := r.Commit(r.t.Context(), o, apply)
	return err
}

// resync looks at the marks while writes is run, and returns the progress at
// its end.
func (r *pair) resync(marks []region.Mark, writes func()) Progress {
	r.t.Helper()
	r.p.startOver(&wire.Answer{Node: r.p.node, Knows: true, Protocol: wire.Protocol}, nil)
	defer r.p.parts()
	r.p.pending = newPending()
	for _, m := range marks {
		r.p.pending.add(m)
	}
	r.p.resync = &Progress{}
	r.sent, r.wasCut = nil, false
	run := &resync{p: r.p, log: r.Log, began: time.Now(), links: newLinks()}
	run.count(r.t.Context(), r.p.pending.tasks())
	r.finish(run, writes)
	return *r.p.resync
}

// finish goes on with a resync until nothing is pending, while writes is run.
func (r *pair) finish(run *resync, writes func()) {
	for first := true; (first || !r.p.pending.empty()) && !r.t.Failed() && !r.wasCut; first = false {
		ctx, stop := context.WithCancel(r.t.Context())
		session, end := context.WithCancel(ctx)
		r.stop = end
		var mirror, others sync.WaitGroup
		mirror.Go(func() { r.mirror(ctx) })
		if first && writes != nil {
			others.Go(writes)
		}
		others.Go(func() {
			if err := run.run(session); err != nil && session.Err() == nil {
				r.t.Errorf("resync: %v", err)
			}
		})
		others.Wait()
		stop()
		mirror.Wait()
	}
}

// mirror applies what comes until ctx ends, and then the rest.
func (r *pair) mirror(ctx context.Context) {
	for {
		if r.take(64 << 10) {
			continue
		}
		select {
		case <-r.p.more:
		case <-ctx.Done():
			return
		}
	}
}

// take has the mirror apply what comes next, about so many bytes. It reports
// whether there was anything.
func (r *pair) take(bytes int) bool {
	if r.wasCut {
		return false
	}
	r.mu.Lock()
	run, next, ok := r.ring.read(r.p.cursor, r.p.bit, bytes)
	if ok {
		r.p.cursor, r.p.sent = next, max(r.p.sent, next-1)
	}
	r.mu.Unlock()
	if !ok {
		panic("fell off the ring") // everybody waits for this mirror
	}
	if len(run.frames) == 0 {
		return false
	}
	frames := wire.NewReader(strings.NewReader(string(run.frames)))
	var last wire.Header
	for h, payload, err := frames.Next(); err == nil; h, payload, err = frames.Next() {
		var o op.Op
		if err := wire.DecodeOp(h, payload, &o); err != nil {
			panic(err)
		}
		if r.cutAt > 0 && len(r.sent) == r.cutAt {
			r.wasCut = true
			r.stop()
			r.mu.Lock()
			defer r.mu.Unlock()
			run.unpin()
			return false
		}
		r.apply(h.LSN, &o)
		last = h
	}
	if r.lost {
		r.wasCut = true
		r.stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		run.unpin()
		return false
	}
	r.mu.Lock()
	run.unpin()
	r.p.applied = next - 1
	r.p.took(last.Offset)
	r.mu.Unlock()
	signal(r.p.news)
	r.breathe()
	return true
}

// apply does what daemon's applier does in a resync.
func (r *pair) apply(lsn op.LSN, o *op.Op) {
	kept := *o
	kept.Data = nil
	r.sent = append(r.sent, &kept)
	if r.theirs != nil {
		ticket, err := r.theirs.Begin(o, Look(r.b, nil))
		if err != nil {
			panic(err)
		}
		defer ticket.Leave(lsn)
	}
	report := wire.Report{LSN: lsn, Path: []byte(o.Path)}
	var err error
	switch {
	case o.Kind != op.Survey && o.Flags&op.Compare != 0:
		var differences []tree.Difference
		differences, err = r.b.Compare(o)
		for _, d := range differences {
			err := r.p.reported(wire.Report{LSN: lsn, Kind: wire.ReportDifference, Path: []byte(o.Path), Path2: []byte(d.Path), Regions: d.Regions, What: d.What})
			if err != nil {
				r.t.Error(err)
			}
		}
	case o.Kind == op.Check:
		if report.Regions, err = r.b.Check(o); len(report.Regions) > 0 {
			report.Kind = wire.ReportDiffer
		}
	case o.Kind == op.Survey:
		var names []string
		names, err = r.b.CheckSurvey(o)
		for _, name := range names {
			report.Kind, report.Names = wire.ReportNames, append(report.Names, []byte(name))
		}
	case o.Kind == op.Put && o.Flags&op.Partial != 0:
		var anew bool
		if anew, err = r.b.Put(o); anew {
			report.Kind = wire.ReportNew
		}
	default:
		err = r.b.ApplyLenient(o)
	}
	if err != nil {
		report.Kind, report.What = wire.ReportSuspect, err.Error()
		if o.Kind.TwoPaths() {
			report.Path2 = []byte(o.Path2)
		}
	}
	if report.Kind != "" && !r.lost {
		if err := r.p.reported(report); err != nil {
			r.t.Error(err)
		}
	}
}

// equal fails the test unless the trees are.
func (r *pair) equal() {
	r.t.Helper()
	if differ := r.differences(); len(differ) > 0 {
		r.t.Fatalf("after the resync:\n%s", strings.Join(differ, "\n"))
	}
}

func (r *pair) differences() []string {
	r.t.Helper()
	differ, err := tree.Diff(r.a, r.b)
	if err != nil {
		r.t.Fatal(err)
	}
	return differ
}

const movedSize = 1 << 20

// movedFile is a file of movedSize.
func movedFile(path string) []*op.Op {
	data := make([]byte, movedSize)
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", path))))
	_, _ = r.Read(data)
	at := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
	return []*op.Op{
		{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFREG | 0o644, Mtime: at.Mtime}},
		{Kind: op.Write, Path: path, Data: data, Attr: at},
	}
}

// last is the op that was ordered last.
func (r *pair) last() *op.Op {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	run, _, ok := r.ring.read(r.ring.next-1, r.p.bit, 1)
	defer run.unpin()
	h, payload, err := wire.NewReader(strings.NewReader(string(run.frames))).Next()
	var o op.Op
	if err == nil {
		err = wire.DecodeOp(h, payload, &o)
	}
	if !ok || err != nil {
		r.t.Fatalf("the last op: %v", err)
	}
	return &o
}
