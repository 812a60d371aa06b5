package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Part of the format.
const (
	HeaderSize = 48      // bytes
	MaxPayload = 4 << 20 // bytes
)

// Kind says what a frame holds. Numbers below 128 are those of op.Kind. All are
// part of the format and only ever appended.
type Kind uint8

const (
	// On the log stream.
	KindAck    Kind = 128 + iota // mirror to primary: Ack
	KindCommit                   // primary to mirror: commit position
	KindReport                   // mirror to primary, before the ack that covers it: Report

	// On the control stream.
	KindHello
	KindAnswer
	KindBegin
	KindBegun
	KindHeartbeat
	KindPolicy
	KindPrepareJoin
	KindPrepared
	KindGoodbye

	// On a stream of the bulk lane.
	KindRequest
	KindResponse

	// On the control stream, behind Begun.
	KindRegions

	endKinds
)

// ErrCorrupt is in every error about bytes that no correct peer sends.
var ErrCorrupt = errors.New("corrupt frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what stands before a payload.
type Header struct {
	Length uint32
	Kind   Kind
	Flags  uint8
	Epoch  uint64
	LSN    op.LSN
	Offset uint64
}

// AppendFrame appends a whole frame with this payload.
func AppendFrame(dst []byte, h Header, payload []byte) []byte {
	start := len(dst)
	dst = append(append(dst, make([]byte, HeaderSize)...), payload...)
	begin(dst[start:], h)
	Seal(dst[start:], h.LSN, h.Offset)
	return dst
}

// begin fills in the header of a frame whose payload stands already, all but
// what Seal fills in.
func begin(frame []byte, h Header) {
	payload := frame[HeaderSize:]
	binary.LittleEndian.PutUint32(frame[0:], uint32(len(payload)))
	frame[4], frame[5] = byte(h.Kind), h.Flags
	binary.LittleEndian.PutUint64(frame[8:], h.Epoch)
	binary.LittleEndian.PutUint32(frame[40:], crc32.Checksum(payload, castagnoli))
}

// Seal gives a frame its position and completes its header. It is cheap: the
// checksum of the payload stands already.
func Seal(frame []byte, lsn op.LSN, offset uint64) {
	binary.LittleEndian.PutUint64(frame[16:], uint64(lsn))
	binary.LittleEndian.PutUint64(frame[24:], offset)
	binary.LittleEndian.PutUint32(frame[44:], crc32.Checksum(frame[:44], castagnoli))
}

// parseHeader verifies and reads a header.
func parseHeader(b []byte) (Header, error) {
	if got, want := crc32.Checksum(b[:44], castagnoli), binary.LittleEndian.Uint32(b[44:]); got != want {
		return Header{}, fmt.Errorf("%w: checksum of the header is %08x, it says %08x", ErrCorrupt, got, want)
	}
	h := Header{
		Length: binary.LittleEndian.Uint32(b[0:]),
		Kind:   Kind(b[4]),
		Flags:  b[5],
		Epoch:  binary.LittleEndian.Uint64(b[8:]),
		LSN:    op.LSN(binary.LittleEndian.Uint64(b[16:])),
		Offset: binary.LittleEndian.Uint64(b[24:]),
	}
	switch {
	case h.Length > MaxPayload:
		return Header{}, fmt.Errorf("%w: payload of %d bytes, at most %d are allowed", ErrCorrupt, h.Length, MaxPayload)
	case binary.LittleEndian.Uint16(b[6:]) != 0 || binary.LittleEndian.Uint64(b[32:]) != 0:
		return Header{}, fmt.Errorf("%w: a reserved field is not zero", ErrCorrupt)
	case !op.Kind(h.Kind).Valid() && (h.Kind < KindAck || h.Kind >= endKinds):
		return Header{}, fmt.Errorf("%w: unknown kind %d", ErrCorrupt, h.Kind)
	}
	return h, nil
}

// Reader reads frames from a stream. It belongs to one goroutine.
type Reader struct {
	r      io.Reader
	buf    []byte // bytes read and not yet returned: buf[pos:end]
	pos    int
	end    int
	failed error
}

// readAhead is how much a Reader asks for at a time.
const readAhead = 64 << 10

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, readAhead)} }

// Next returns the next frame. The payload is valid until the next call. The
// error is io.EOF only between two frames; after any error the stream is of no
// further use.
func (r *Reader) Next() (Header, []byte, error) {
	if r.failed != nil {
		return Header{}, nil, r.failed
	}
	h, payload, err := r.next()
	if err != nil {
		r.failed = err
		return Header{}, nil, err
	}
	return h, payload, nil
}

func (r *Reader) next() (Header, []byte, error) {
	if err := r.need(HeaderSize); err != nil {
		return Header{}, nil, err
	}
	h, err := parseHeader(r.buf[r.pos:][:HeaderSize])
	if err != nil {
		return Header{}, nil, err
	}
	size := HeaderSize + int(h.Length)
	if err := r.need(size); err != nil {
		return Header{}, nil, err
	}
	frame := r.buf[r.pos:][:size]
	r.pos += size
	payload := frame[HeaderSize:]
	if got, want := crc32.Checksum(payload, castagnoli), binary.LittleEndian.Uint32(frame[40:]); got != want {
		return Header{}, nil, fmt.Errorf("%w: checksum of the payload is %08x, it says %08x", ErrCorrupt, got, want)
	}
	return h, payload[:len(payload):len(payload)], nil
}

// Ahead yields the frames that have been read from the stream already and come
// next, without taking them. They are valid until the next call of Next.
func (r *Reader) Ahead() iter.Seq2[Header, []byte] {
	return func(yield func(Header, []byte) bool) {
		for rest := r.buf[r.pos:r.end]; len(rest) >= HeaderSize; {
			h, err := parseHeader(rest[:HeaderSize])
			size := HeaderSize + int(h.Length)
			if err != nil || len(rest) < size || !yield(h, rest[HeaderSize:size:size]) {
				return // what is wrong with a frame is said when it is taken
			}
			rest = rest[size:]
		}
	}
}

// need makes n bytes stand at pos. The buffer grows only as bytes arrive, so a
// header that lies about its length costs the liar the bytes.
func (r *Reader) need(n int) error {
	for r.end-r.pos < n {
		if r.pos > 0 && (r.pos == r.end || len(r.buf)-r.pos < n) {
			r.end = copy(r.buf, r.buf[r.pos:r.end])
			r.pos = 0
		}
		if r.end == len(r.buf) {
			r.buf = append(r.buf, make([]byte, min(len(r.buf), max(n-len(r.buf), readAhead)))...)
		}
		k, err := r.r.Read(r.buf[r.end:])
		r.end += k
		if r.end-r.pos >= n {
			return nil
		}
		switch {
		case err == io.EOF && r.end > r.pos:
			return fmt.Errorf("%w: the stream ends in the middle of a frame", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
	}
	return nil
}

// Ack is the mirror's cumulative acknowledgement.
type Ack struct {
	Applied op.LSN // every op up to here is applied
	Durable op.LSN // every barrier up to here is on stable storage
	Offset  uint64 // of the op Applied
}

// AppendAck appends an ack's frame.
func AppendAck(dst []byte, epoch uint64, a Ack) []byte {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(a.Applied))
	binary.LittleEndian.PutUint64(b[8:], uint64(a.Durable))
	binary.LittleEndian.PutUint64(b[16:], a.Offset)
	return AppendFrame(dst, Header{Kind: KindAck, Epoch: epoch}, b[:])
}

// DecodeAck reads an ack's payload.
func DecodeAck(payload []byte) (Ack, error) {
	if len(payload) != 24 {
		return Ack{}, fmt.Errorf("%w: ack of %d bytes", ErrCorrupt, len(payload))
	}
	return Ack{
		Applied: op.LSN(binary.LittleEndian.Uint64(payload[0:])),
		Durable: op.LSN(binary.LittleEndian.Uint64(payload[8:])),
		Offset:  binary.LittleEndian.Uint64(payload[16:]),
	}, nil
}

// AppendCommit appends a frame with the commit position.
func AppendCommit(dst []byte, epoch uint64, lsn op.LSN) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(lsn))
	return AppendFrame(dst, Header{Kind: KindCommit, Epoch: epoch}, b[:])
}

// DecodeCommit reads a commit position's payload.
func DecodeCommit(payload []byte) (op.LSN, error) {
	if len(payload) != 8 {
		return 0, fmt.Errorf("%w: commit position of %d bytes", ErrCorrupt, len(payload))
	}
	return op.LSN(binary.LittleEndian.Uint64(payload)), nil
}
