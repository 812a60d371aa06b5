package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/standbyfs/standbyfs/fs/op"
)

func drain(r *Reader) ([]frame, error) {
	var frames []frame
	for {
		h, payload, err := r.Next()
		if err == io.EOF {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		frames = append(frames, frame{h, bytes.Clone(payload)})
	}
}

// samePrefix reports whether got is how want begins.
func samePrefix(got, want []frame) bool {
	return len(got) <= len(want) && slices.EqualFunc(got, want[:len(got)], func(a, b frame) bool {
		return a.header == b.header && bytes.Equal(a.payload, b.payload)
	})
}

func TestReaderInPieces(t *testing.T) {
	stream, want := sampleStream(t)
	for name, r := range map[string]io.Reader{
		"whole":           bytes.NewReader(stream),
		"one byte":        iotest.OneByteReader(bytes.NewReader(stream)),
		"half":            iotest.HalfReader(bytes.NewReader(stream)),
		"error with data": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		got, err := drain(NewReader(r))
		if err != nil || len(got) != len(want) || !samePrefix(got, want) {
			t.Errorf("%s: %d frames of %d, error %v", name, len(got), len(want), err)
		}
	}
}

// A stream that ends early never ends as if it were whole, but between frames.
func TestTruncatedEverywhere(t *testing.T) {
	stream, want := sampleStream(t)
	ends := map[int]int{0: 0} // length of a whole number of frames: how many
	at := 0
	for i, f := range want {
		at += HeaderSize + len(f.payload)
		ends[at] = i + 1
	}
	for n := range len(stream) {
		got, err := readAll(stream[:n])
		whole, boundary := ends[n]
		switch {
		case !samePrefix(got, want):
			t.Fatalf("cut at %d: a wrong frame", n)
		case boundary && (err != nil || len(got) != whole):
			t.Fatalf("cut at %d: %d frames, error %v; want %d and none", n, len(got), err, whole)
		case !boundary && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("cut at %d, inside a frame: error %v", n, err)
		}
	}
}

// No changed byte yields a frame that was not sent.
func TestFlippedEverywhere(t *testing.T) {
	stream, want := sampleStream(t)
	for i := range stream {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			stream[i] ^= mask
			got, err := readAll(stream)
			stream[i] ^= mask
			if err == nil {
				t.Fatalf("byte %d ^ %#x: no error", i, mask)
			}
			if !samePrefix(got, want) || len(got) == len(want) {
				t.Fatalf("byte %d ^ %#x: a wrong frame", i, mask)
			}
		}
	}
}

// A header may be whole and still be one that no correct peer sends.
func TestHeaderRefused(t *testing.T) {
	seal := func(change func(b []byte)) []byte {
		b := AppendFrame(nil, Header{Kind: KindCommit}, make([]byte, 8))
		change(b)
		binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
		return b
	}
	for name, b := range map[string][]byte{
		"length":    seal(func(b []byte) { binary.LittleEndian.PutUint32(b, MaxPayload+1) }),
		"kind zero": seal(func(b []byte) { b[4] = 0 }),
		"adopt":     seal(func(b []byte) { b[4] = byte(op.Adopt) }),
		"kind":      seal(func(b []byte) { b[4] = byte(endKinds) }),
		"reserved":  seal(func(b []byte) { b[6] = 1 }),
		"reserved2": seal(func(b []byte) { b[39] = 1 }),
		"payload":   seal(func(b []byte) { b[48] = 1 }),
	} {
		r := NewReader(bytes.NewReader(b))
		_, _, err := r.Next()
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, _, again := r.Next(); again != err {
			t.Errorf("%s: the reader goes on after its error: %v", name, again)
		}
	}
}

// A header that announces the largest payload costs no more than what arrives.
func TestLyingLength(t *testing.T) {
	whole := AppendFrame(nil, Header{Kind: KindReport}, make([]byte, MaxPayload))
	for _, arrived := range []int{0, 1, 100 << 10, 1 << 20} {
		r := NewReader(bytes.NewReader(whole[:HeaderSize+arrived]))
		if _, _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes: error %v", arrived, err)
		}
		if limit := 2 * (HeaderSize + arrived + readAhead); len(r.buf) > limit {
			t.Errorf("%d bytes arrived and %d are allocated", arrived, len(r.buf))
		}
	}
	r := NewReader(iotest.HalfReader(bytes.NewReader(slices.Concat(whole, whole))))
	for range 2 {
		if _, p, err := r.Next(); err != nil || len(p) != MaxPayload {
			t.Fatalf("%d bytes, error %v", len(p), err)
		}
	}
	if limit := HeaderSize + MaxPayload + readAhead; len(r.buf) > limit {
		t.Errorf("the buffer is %d bytes, more than a frame", len(r.buf))
	}
}

func TestReaderKeepsItsBuffer(t *testing.T) {
	one, err := AppendOp(nil, 1, write4K())
	if err != nil {
		t.Fatal(err)
	}
	Seal(one, 1, uint64(len(one)))
	r := NewReader(&endless{frame: one})
	allocs := testing.AllocsPerRun(1000, func() {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a frame", allocs)
	}
}

// endless yields one frame again and again.
type endless struct {
	frame []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.frame[e.at:])
	e.at = (e.at + n) % len(e.frame)
	return n, nil
}

// What has been read and comes next can be looked at, and is then taken.
func TestReaderAhead(t *testing.T) {
	stream, want := sampleStream(t)
	stream[len(stream)-1] ^= 1 // of the last one: Next says so
	r := NewReader(bytes.NewReader(stream))
	for i := range len(want) - 1 {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		ahead := 0
		for h, payload := range r.Ahead() {
			at := i + 1 + ahead
			if f := want[at]; at < len(want)-1 && (h != f.header || !bytes.Equal(payload, f.payload)) {
				t.Fatalf("frame %d ahead of %d: %+v, want %+v", ahead, i, h, f.header)
			}
			ahead++
		}
		if ahead != len(want)-1-i {
			t.Errorf("%d frames ahead of frame %d, want %d", ahead, i, len(want)-1-i)
		}
	}
	if _, _, err := r.Next(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the last one: %v", err)
	}
}

func TestAckAndCommit(t *testing.T) {
	want := Ack{Applied: 1, Durable: 2, Offset: 3}
	frames, err := readAll(AppendCommit(AppendAck(nil, 9, want), 9, 7))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeAck(frames[0].payload); err != nil || got != want || frames[0].header.Epoch != 9 {
		t.Errorf("ack %+v, error %v", got, err)
	}
	if got, err := DecodeCommit(frames[1].payload); err != nil || got != 7 {
		t.Errorf("commit position %d, error %v", got, err)
	}
	for n := range 40 {
		if _, err := DecodeAck(make([]byte, n)); (err == nil) != (n == 24) {
			t.Errorf("ack of %d bytes: error %v", n, err)
		}
		if _, err := DecodeCommit(make([]byte, n)); (err == nil) != (n == 8) {
			t.Errorf("commit position of %d bytes: error %v", n, err)
		}
	}
}

// Whatever arrives, frames that are read are the bytes that were sent. Most of
// it has to be mended, or nothing would ever get past a checksum.
func FuzzReader(f *testing.F) {
	for _, o := range sampleOps()[:4] {
		b, err := AppendOp(nil, 1, o)
		if err != nil {
			f.Fatal(err)
		}
		Seal(b, 1, 2)
		f.Add(AppendCommit(b, 1, 2), true)
	}
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, b []byte, mended bool) {
		if mended {
			mend(b)
		}
		got, err := readAll(b)
		slow, slowErr := drain(NewReader(iotest.OneByteReader(bytes.NewReader(b))))
		if !reflect.DeepEqual(got, slow) || (err == nil) != (slowErr == nil) {
			t.Fatalf("%d frames, error %v; byte by byte %d, %v", len(got), err, len(slow), slowErr)
		}
		var again []byte
		for _, f := range got {
			again = AppendFrame(again, f.header, f.payload)
		}
		if !bytes.HasPrefix(b, again) || err == nil && len(again) != len(b) {
			t.Fatalf("read frames are not the bytes that were sent")
		}
	})
}

// mend makes the checksums of all frames right, as far as there are frames.
func mend(b []byte) {
	for len(b) >= HeaderSize {
		n := min(uint64(binary.LittleEndian.Uint32(b)), uint64(len(b)-HeaderSize))
		binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[HeaderSize:][:n], castagnoli))
		binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
		b = b[HeaderSize+n:]
	}
}
