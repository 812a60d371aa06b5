package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Bits of an op's fields, in the order in which they are encoded. Part of the
// format.
const (
	hasPath = 1 << iota
	hasPath2
	hasName
	hasOff
	hasOff2
	hasLen
	hasArg
	hasAttr
	hasDir
	hasDir2
	hasData
	hasXattrs
	hasNames
	hasMember
	hasMembers

	knownFields = hasMembers<<1 - 1
)

const (
	knownFlags = op.Barrier | op.DataOnly | op.Compare | op.Fresh | op.Partial
	knownAttrs = op.AttrMode | op.AttrOwner | op.AttrRdev | op.AttrSize | op.AttrAtime | op.AttrMtime | op.AttrFlags
)

// LargeData is the size from which on an op's data is worth an allocation of
// its own rather than one more copy, in bytes.
const LargeData = 64 << 10

// FrameSize is how many bytes the frame of an op with data takes at most, or
// nearly so.
func FrameSize(o *op.Op) int { return HeaderSize + 64 + len(o.Path) + len(o.Data) }

// AppendOp appends a whole frame for o, which Seal has yet to give its
// position. It fails if o is not one that may travel, or too large.
func AppendOp(dst []byte, epoch uint64, o *op.Op) ([]byte, error) {
	if !o.Kind.Valid() {
		return dst, fmt.Errorf("an op of kind %s does not travel", o.Kind)
	}
	start := len(dst)
	if len(o.Data) < LargeData {
		dst = slices.Grow(dst, FrameSize(o))
	} // else appending the data makes the memory, without clearing it first
	dst = append(dst, make([]byte, HeaderSize+4)...)
	fields := uint32(0)
	text := func(bit uint32, s string) {
		if s != "" {
			fields |= bit
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		}
	}
	number := func(bit uint32, v int64) {
		if v != 0 {
			fields |= bit
			dst = binary.AppendVarint(dst, v)
		}
	}
	moment := func(bit uint32, t op.Time) {
		if !t.IsZero() {
			fields |= bit
			dst = appendTime(dst, t)
		}
	}
	text(hasPath, o.Path)
	text(hasPath2, o.Path2)
	text(hasName, o.Name)
	number(hasOff, o.Off)
	number(hasOff2, o.Off2)
	number(hasLen, o.Len)
	if o.Arg != 0 {
		fields |= hasArg
		dst = binary.AppendUvarint(dst, uint64(o.Arg))
	}
	if o.Attr.Valid != 0 {
		fields |= hasAttr
		dst = appendAttr(dst, &o.Attr)
	}
	moment(hasDir, o.Dir)
	moment(hasDir2, o.Dir2)
	if len(o.Data) > 0 {
		fields |= hasData
		dst = binary.AppendUvarint(dst, uint64(len(o.Data)))
		dst = append(dst, o.Data...)
	}
	if len(o.Xattrs) > 0 {
		fields |= hasXattrs
		dst = binary.AppendUvarint(dst, uint64(len(o.Xattrs)))
		for _, x := range o.Xattrs {
			dst = binary.AppendUvarint(dst, uint64(len(x.Name)))
			dst = append(dst, x.Name...)
			dst = binary.AppendUvarint(dst, uint64(len(x.Value)))
			dst = append(dst, x.Value...)
		}
	}
	if len(o.Names) > 0 {
		fields |= hasNames
		dst = binary.AppendUvarint(dst, uint64(len(o.Names)))
		for _, n := range o.Names {
			dst = binary.AppendUvarint(dst, uint64(len(n)))
			dst = append(dst, n...)
		}
	}
	if o.Member != 0 {
		fields |= hasMember
		dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Member))
	}
	if len(o.Members) > 0 {
		fields |= hasMembers
		dst = binary.AppendUvarint(dst, uint64(len(o.Members)))
		for _, m := range o.Members {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(m))
		}
	}
	frame := dst[start:]
	if size := len(frame) - HeaderSize; size > MaxPayload {
		return dst[:start], fmt.Errorf("%v takes %d bytes, at most %d fit into a frame", o, size, MaxPayload)
	}
	binary.LittleEndian.PutUint32(frame[HeaderSize:], fields)
	begin(frame, Header{Kind: Kind(o.Kind), Flags: uint8(o.Flags), Epoch: epoch})
	return dst, nil
}

func appendTime(dst []byte, t op.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(dst, t.Sec), uint64(t.Nsec))
}

// appendAttr appends the mask and then the fields that it names.
func appendAttr(dst []byte, a *op.Attr) []byte {
	dst = append(dst, byte(a.Valid))
	if a.Valid&op.AttrMode != 0 {
		dst = binary.AppendUvarint(dst, uint64(a.Mode))
	}
	if a.Valid&op.AttrOwner != 0 {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(a.UID)), uint64(a.GID))
	}
	if a.Valid&op.AttrRdev != 0 {
		dst = binary.AppendUvarint(dst, uint64(a.Rdev))
	}
	if a.Valid&op.AttrSize != 0 {
		dst = binary.AppendVarint(dst, a.Size)
	}
	if a.Valid&op.AttrAtime != 0 {
		dst = appendTime(dst, a.Atime)
	}
	if a.Valid&op.AttrMtime != 0 {
		dst = appendTime(dst, a.Mtime)
	}
	if a.Valid&op.AttrFlags != 0 {
		dst = binary.AppendUvarint(dst, uint64(a.Flags))
	}
	return dst
}

// DecodeOp reads the payload of an op frame into o, which it overwrites. Data
// and xattr values alias the payload. What a correct peer never sends is
// refused: unknown fields, paths that could lead out of the replica, negative
// offsets, bytes left over.
func DecodeOp(h Header, payload []byte, o *op.Op) error {
	*o = op.Op{Kind: op.Kind(h.Kind), Flags: op.Flags(h.Flags)}
	if !o.Kind.Valid() || o.Flags&^knownFlags != 0 {
		return fmt.Errorf("%w: op of kind %d with flags %#x", ErrCorrupt, h.Kind, h.Flags)
	}
	d := decoder{b: payload}
	fields := d.u32()
	if fields&^uint32(knownFields) != 0 {
		return fmt.Errorf("%w: %s has unknown fields %#x", ErrCorrupt, o.Kind, fields)
	}
	has := func(bit uint32) bool { return fields&bit != 0 }
	if has(hasPath) {
		o.Path = string(d.bytes())
	}
	if has(hasPath2) {
		o.Path2 = string(d.bytes())
	}
	if has(hasName) {
		o.Name = string(d.bytes())
	}
	if has(hasOff) {
		o.Off = d.varint()
	}
	if has(hasOff2) {
		o.Off2 = d.varint()
	}
	if has(hasLen) {
		o.Len = d.varint()
	}
	if has(hasArg) {
		o.Arg = d.uint32()
	}
	if has(hasAttr) {
		d.attr(&o.Attr)
	}
	if has(hasDir) {
		o.Dir = d.time()
	}
	if has(hasDir2) {
		o.Dir2 = d.time()
	}
	if has(hasData) {
		o.Data = d.bytes()
	}
	if has(hasXattrs) {
		n := d.count(2)
		o.Xattrs = make([]op.Xattr, 0, n)
		for range n {
			o.Xattrs = append(o.Xattrs, op.Xattr{Name: string(d.bytes()), Value: d.bytes()})
		}
	}
	if has(hasNames) {
		n := d.count(2) // no name is empty
		o.Names = make([]string, 0, n)
		for range n {
			o.Names = append(o.Names, string(d.bytes()))
		}
	}
	if has(hasMember) {
		o.Member = op.NodeID(d.u64())
	}
	if has(hasMembers) {
		n := d.count(8)
		o.Members = make([]op.NodeID, 0, n)
		for range n {
			o.Members = append(o.Members, op.NodeID(d.u64()))
		}
	}
	switch {
	case d.failed:
		return fmt.Errorf("%w: %s is cut off or has a number out of range", ErrCorrupt, o.Kind)
	case len(d.b) > 0:
		return fmt.Errorf("%w: %s has %d bytes too many", ErrCorrupt, o.Kind, len(d.b))
	case o.Off < 0 || o.Off2 < 0 || o.Len < 0 || o.Attr.Size < 0:
		return fmt.Errorf("%w: %s has a negative offset or size", ErrCorrupt, o.Kind)
	}
	return checkPaths(o)
}

// checkPaths refuses paths that an op may not carry.
func checkPaths(o *op.Op) error {
	if err := op.CheckPath(o.Path); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, o.Kind, err)
	}
	for _, name := range o.Names {
		// Those of a Put are paths.
		if err := op.CheckPath(name); err != nil || name == op.Root || o.Kind != op.Put && strings.Contains(name, "/") {
			return fmt.Errorf("%w: %s: %q is no name", ErrCorrupt, o.Kind, name)
		}
	}
	if o.Kind.TwoPaths() {
		if err := op.CheckPath(o.Path2); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, o.Kind, err)
		}
	}
	return nil
}

// decoder takes values off the front of b. After a failure it yields zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) fail() { d.failed, d.b = true, nil }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(v)
}

// count reads the length of a list whose elements take at least size bytes
// each, so that a lying count allocates no more than the payload.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte { return d.take(d.count(1)) }

func (d *decoder) time() op.Time {
	t := op.Time{Sec: d.varint(), Nsec: d.uint32()}
	if t.Nsec >= 1e9 {
		d.fail()
	}
	return t
}

func (d *decoder) attr(a *op.Attr) {
	if v := d.take(1); v != nil {
		a.Valid = op.AttrMask(v[0])
	}
	if a.Valid == 0 || a.Valid&^knownAttrs != 0 {
		d.fail()
		return
	}
	if a.Valid&op.AttrMode != 0 {
		a.Mode = d.uint32()
	}
	if a.Valid&op.AttrOwner != 0 {
		a.UID, a.GID = d.uint32(), d.uint32()
	}
	if a.Valid&op.AttrRdev != 0 {
		a.Rdev = d.uint32()
	}
	if a.Valid&op.AttrSize != 0 {
		a.Size = d.varint()
	}
	if a.Valid&op.AttrAtime != 0 {
		a.Atime = d.time()
	}
	if a.Valid&op.AttrMtime != 0 {
		a.Mtime = d.time()
	}
	if a.Valid&op.AttrFlags != 0 {
		a.Flags = d.uint32()
		if a.Flags&^op.InodeFlags != 0 {
			d.fail()
		}
	}
}
