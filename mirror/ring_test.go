package mirror

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

func frameOf(t *testing.T, path string, data []byte) []byte {
	t.Helper()
	f, err := wire.AppendOp(nil, 1, &op.Op{Kind: op.Write, Path: path, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lsnsIn reads a run as the mirror would.
func lsnsIn(t *testing.T, run []byte) []op.LSN {
	t.Helper()
	var lsns []op.LSN
	r := wire.NewReader(bytes.NewReader(run))
	for {
		h, _, err := r.Next()
		if err != nil {
			return lsns
		}
		lsns = append(lsns, h.LSN)
	}
}

func TestRingAddresses(t *testing.T) {
	r := newRing(64 << 20)
	frame := frameOf(t, "a", []byte("x"))
	for _, to := range []uint32{toAll, 1, 2, toAll, 2, 2, 1} {
		r.append(bytes.Clone(frame), to)
	}
	for bit, want := range map[uint32]string{1: "[1 2 4 7]", 2: "[1 3 4 5 6]", 4: "[1 4]"} {
		var got []op.LSN
		for from := op.LSN(1); from < r.next; {
			run, next, ok := r.read(from, bit, 1<<20)
			if !ok {
				t.Fatalf("bit %d fell off at %d", bit, from)
			}
			got = append(got, lsnsIn(t, run.frames)...)
			if next == from {
				break
			}
			from = next
		}
		if fmt.Sprint(got) != want {
			t.Errorf("bit %d got %v, want %s", bit, got, want)
		}
	}
}

func TestRingFallsOff(t *testing.T) {
	r := newRing(4 << 20)
	frame := frameOf(t, "a", make([]byte, 100<<10))
	for range 200 {
		r.append(bytes.Clone(frame), toAll)
	}
	if _, _, ok := r.read(1, 1, 1<<20); ok {
		t.Error("the first of 20 MB is still in a ring of 4 MiB")
	}
	if r.bytes > r.limit {
		t.Errorf("the ring holds %d bytes, limit %d", r.bytes, r.limit)
	}
	run, next, ok := r.read(r.oldest(), 1, 1)
	if !ok || next != r.oldest()+1 || len(lsnsIn(t, run.frames)) != 1 {
		t.Errorf("oldest: %v, next %d", ok, next)
	}
	if _, _, ok := r.read(r.next, 1, 1); !ok {
		t.Error("a cursor at the end has fallen off")
	}
	if _, _, ok := r.read(r.next+1, 1, 1); ok {
		t.Error("a cursor beyond the end is taken")
	}
	r.drop()
	if _, _, ok := r.read(r.next-1, 1, 1); ok {
		t.Error("a cursor survived the drop")
	}
}

// TestRingRunsStay sees that bytes handed out do not change while the ring
// moves on.
func TestRingRunsStay(t *testing.T) {
	r := newRing(4 << 20)
	rnd := rand.New(rand.NewPCG(1, 2))
	type held struct{ run, copy []byte }
	var all []held
	cursor := op.LSN(1)
	for range 2000 {
		r.append(frameOf(t, "f", make([]byte, rnd.IntN(20<<10))), toAll)
		if rnd.IntN(3) == 0 {
			run, next, ok := r.read(cursor, 1, 256<<10)
			if !ok {
				cursor = r.oldest()
				continue
			}
			all = append(all, held{run.frames, bytes.Clone(run.frames)})
			cursor = next
		}
	}
	for i, h := range all {
		if !bytes.Equal(h.run, h.copy) {
			t.Fatalf("run %d changed after it was handed out", i)
		}
	}
}

func BenchmarkRingAppend4K(b *testing.B) {
	r := newRing(64 << 20)
	frame, err := wire.AppendOp(nil, 1, &op.Op{Kind: op.Write, Path: "Data.fs", Data: make([]byte, 4096)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4096)
	for b.Loop() {
		r.append(frame, toAll)
	}
}

// Frames of all sizes are kept as they were, however their buffers are used
// afterwards, and a few small ones between large ones take little room.
func TestRingKeepsFrames(t *testing.T) {
	l := &Log{cfg: Config{Line: op.Line{Epoch: op.Epoch{Number: 1}}}, rules: &rules{}, sync: newInSync(nil, 0, nil), ring: newRing(64 << 20)}
	var want [][]byte
	for i := range 200 {
		data := bytes.Repeat([]byte{byte(i)}, []int{10, 100 << 10, 3000, wire.LargeData, 70 << 10}[i%5])
		o := &op.Op{Kind: op.Write, Path: fmt.Sprint(i), Data: data}
		if i%10 == 9 {
			// Large, but not by its data.
			name := strings.Repeat(string(rune('a'+i/10)), 200)
			o = &op.Op{Kind: op.PutNames, Path: ".", Names: slices.Repeat([]string{name}, 500)}
			data = []byte(name)
		}
		if _, err := l.order(o, toAll); err != nil {
			t.Fatal(err)
		}
		want = append(want, data)
	}
	if full := int64(len(want) * 80 << 10); l.ring.bytes > full {
		t.Errorf("%d bytes are taken, at most %d are needed", l.ring.bytes, full)
	}
	for from := op.LSN(1); from < l.ring.next; {
		run, next, ok := l.ring.read(from, 1, 1<<20)
		if !ok {
			t.Fatalf("fell off at %d", from)
		}
		frames := wire.NewReader(bytes.NewReader(run.frames))
		for ; from < next; from++ {
			h, payload, err := frames.Next()
			if err != nil {
				t.Fatalf("LSN %d: %v", from, err)
			}
			var o op.Op
			if err := wire.DecodeOp(h, payload, &o); err != nil {
				t.Fatal(err)
			}
			got := o.Data
			if o.Kind == op.PutNames {
				got = []byte(o.Names[0])
			}
			if h.LSN != from || !bytes.Equal(got, want[from-1]) {
				t.Fatalf("LSN %d has become %d with %d bytes", from, h.LSN, len(got))
			}
		}
	}
}

// A large write becomes several ops in a row. Only with the last one, which the
// caller waits for, come the barrier and the new mode.
func TestLargeWriteInPieces(t *testing.T) {
	l := &Log{cfg: Config{Line: op.Line{Epoch: op.Epoch{Number: 1}}}, rules: &rules{}, sync: newInSync(nil, 0, nil), ring: newRing(64 << 20)}
	for _, size := range []int{largestWrite, largestWrite + 1, 3*largestWrite - 1, 8 * largestWrite} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i / 1000)
		}
		want := &op.Op{Kind: op.Write, Path: "f", Off: 4711, Data: data, Flags: op.Barrier, Attr: op.Attr{Valid: op.AttrMode, Mode: 0o600}}
		first := l.ring.next
		got, err := l.order(want, toAll)
		if err != nil {
			t.Fatal(err)
		}
		last := l.ring.next - 1
		if a, ok := got.(*ack); !ok || a.lsn != last || !a.durable {
			t.Errorf("%d bytes: the caller waits for %+v, the last op is %d", size, got, last)
		}
		if pieces := int(last - first + 1); pieces != (size+largestWrite-1)/largestWrite {
			t.Errorf("%d bytes are %d ops", size, pieces)
		}
		var written []byte
		for from := first; from <= last; {
			run, next, ok := l.ring.read(from, 1, 1)
			if !ok || next != from+1 {
				t.Fatalf("LSN %d is not there", from)
			}
			for o := range opsIn(run.frames) {
				if o.Kind != op.Write || o.Path != "f" || o.Off != 4711+int64(len(written)) {
					t.Errorf("LSN %d is %v", from, o)
				}
				if end := from == last; (o.Flags == op.Barrier) != end || (o.Attr == want.Attr) != end {
					t.Errorf("LSN %d of %d has flags %v and attributes %v", from, last, o.Flags, o.Attr)
				}
				written = append(written, o.Data...)
			}
			from = next
		}
		if !bytes.Equal(written, data) {
			t.Errorf("%d bytes were written as %d others", size, len(written))
		}
		if want.Off != 4711 || len(want.Data) != size {
			t.Error("the caller's op has changed")
		}
	}
}

// The memory of what the ring drops is used again, but not while somebody sends
// from it: that stays as it was.
func TestRingUsesMemoryAgain(t *testing.T) {
	r := newRing(4 << 20)
	data := make([]byte, 128<<10)
	type sending struct {
		run  run
		copy []byte
	}
	var under []sending
	again := 0
	for i := range 400 {
		data[0] = byte(i)
		o := &op.Op{Kind: op.Write, Path: "f", Data: data}
		memory := r.memory(wire.FrameSize(o))
		if memory != nil {
			again++
		}
		frame, err := wire.AppendOp(memory, 1, o)
		if err != nil {
			t.Fatal(err)
		}
		lsn := r.append(frame, toAll)
		run, _, ok := r.read(lsn, 1, 1)
		if !ok || run.of == nil {
			t.Fatalf("LSN %d is not there", lsn)
		}
		if i%10 != 0 {
			run.unpin()
			continue
		}
		under = append(under, sending{run, bytes.Clone(run.frames)})
	}
	for i, s := range under {
		if !bytes.Equal(s.run.frames, s.copy) {
			t.Errorf("run %d changed while it was being sent", i)
		}
	}
	// All but what the ring holds, and what is being sent.
	if held := len(r.chunks) + len(under); again < 400-held-1 {
		t.Errorf("memory was used again %d times in 400, %d frames are held", again, held)
	}
	if len(r.spare) > spares {
		t.Errorf("%d pieces of memory are spare", len(r.spare))
	}
	// Frames of another size find no use for it, and it goes.
	for range 2 * spares {
		o := &op.Op{Kind: op.Write, Path: "f", Data: data[:70<<10]}
		frame, err := wire.AppendOp(r.memory(wire.FrameSize(o)), 1, o)
		if err != nil {
			t.Fatal(err)
		}
		r.append(frame, toAll)
	}
	if m := r.memory(10 << 10); m != nil {
		t.Errorf("a frame of 10 KiB takes memory of %d", cap(m))
	}
}
