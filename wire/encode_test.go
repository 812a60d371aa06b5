package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// travel encodes, reads and decodes an op.
func travel(t testing.TB, o *op.Op) *op.Op {
	t.Helper()
	b, err := AppendOp([]byte("before"), 42, o)
	if err != nil {
		t.Fatalf("%v: %v", o, err)
	}
	Seal(b[6:], 7, 8)
	h, payload, err := NewReader(bytes.NewReader(b[6:])).Next()
	if err != nil {
		t.Fatalf("%v: %v", o, err)
	}
	if want := (Header{Length: uint32(len(payload)), Kind: Kind(o.Kind), Flags: uint8(o.Flags), Epoch: 42, LSN: 7, Offset: 8}); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	got := new(op.Op)
	if err := DecodeOp(h, payload, got); err != nil {
		t.Fatalf("%v: %v", o, err)
	}
	return got
}

func TestOpsTravel(t *testing.T) {
	seen := map[op.Kind]bool{}
	for _, o := range sampleOps() {
		seen[o.Kind] = true
		if got := travel(t, o); !reflect.DeepEqual(got, o) {
			t.Errorf("sent %v\ngot  %v", o, got)
		}
	}
	for k := op.Create; k.Valid(); k++ {
		if !seen[k] {
			t.Errorf("no sample of %s", k)
		}
	}
}

// Every field is encoded: one that is added to op.Op and forgotten here fails.
func TestEveryFieldTravels(t *testing.T) {
	o := &op.Op{
		Kind: op.Rename, Flags: op.Barrier, Path: "a", Path2: "b", Name: "n", Off: 1, Off2: 2, Len: 3, Arg: 4,
		Attr: op.Attr{Valid: knownAttrs, Mode: 1, UID: 2, GID: 3, Rdev: 4, Size: 5, Atime: op.Time{Sec: 6, Nsec: 7}, Mtime: op.Time{Sec: 8, Nsec: 9}, Flags: op.InodeAppend},
		Dir:  op.Time{Sec: 1}, Dir2: op.Time{Nsec: 1}, Data: []byte("d"),
		Xattrs: []op.Xattr{{Name: "x", Value: []byte("v")}}, Names: []string{"m"}, Member: 5, Members: []op.NodeID{6},
	}
	var check func(v reflect.Value, name string)
	check = func(v reflect.Value, name string) {
		if v.IsZero() {
			t.Errorf("%s is zero: give it a value here and a place in encode.go", name)
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				if n := v.Type().Field(i).Name; name != "op.Dir" && name != "op.Dir2" {
					check(v.Field(i), name+"."+n)
				}
			}
		}
	}
	check(reflect.ValueOf(*o), "op")
	if got := travel(t, o); !reflect.DeepEqual(got, o) {
		t.Errorf("sent %+v\ngot  %+v", o, got)
	}
}

func TestDataAliasesThePayload(t *testing.T) {
	b, err := AppendOp(nil, 1, &op.Op{Kind: op.Write, Path: "a", Data: []byte("data")})
	if err != nil {
		t.Fatal(err)
	}
	var o op.Op
	if err := DecodeOp(Header{Kind: Kind(op.Write)}, b[HeaderSize:], &o); err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = 'o'
	if string(o.Data) != "dato" || cap(o.Data) != 4 {
		t.Errorf("data %q, capacity %d: not the payload's own bytes, or more than them", o.Data, cap(o.Data))
	}
}

func TestAppendOpRefuses(t *testing.T) {
	for _, o := range []*op.Op{
		{Kind: op.Invalid, Path: "a"},
		{Kind: op.Adopt, Path: "a"},
		{Kind: op.Write, Path: "a", Data: make([]byte, MaxPayload)},
	} {
		if b, err := AppendOp([]byte("before"), 1, o); err == nil || string(b) != "before" {
			t.Errorf("%v: error %v, %d bytes", o, err, len(b))
		}
	}
	if _, err := AppendOp(nil, 1, &op.Op{Kind: op.Write, Path: "a", Data: make([]byte, MaxPayload-64)}); err != nil {
		t.Errorf("an op that fits: %v", err)
	}
}

func TestDecodeOpRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, o := range []*op.Op{
		{Kind: op.Create},
		{Kind: op.Create, Path: "../etc/passwd"},
		{Kind: op.Create, Path: "/etc/passwd"},
		{Kind: op.Create, Path: "a/../../b"},
		{Kind: op.Create, Path: "a//b"},
		{Kind: op.Create, Path: "a\x00b"},
		{Kind: op.Create, Path: long},
		{Kind: op.Rename, Path: "a"},
		{Kind: op.Rename, Path: "a", Path2: ".."},
		{Kind: op.Link, Path: "a", Path2: "b/.."},
		{Kind: op.CopyRange, Path: "a", Path2: "/b"},
		{Kind: op.PutLink, Path: "a"},
		{Kind: op.PutNames, Path: "a", Names: []string{".."}},
		{Kind: op.PutNames, Path: "a", Names: []string{"."}},
		{Kind: op.PutNames, Path: "a", Names: []string{"b/c"}},
		{Kind: op.Write, Path: "a", Off: -1},
		{Kind: op.CopyRange, Path: "a", Path2: "b", Off2: math.MinInt64},
		{Kind: op.Fallocate, Path: "a", Len: -1},
		{Kind: op.Truncate, Path: "a", Attr: op.Attr{Valid: op.AttrSize, Size: -1}},
		{Kind: op.SetAttr, Path: "a", Attr: op.Attr{Valid: 1 << 7}},
		{Kind: op.SetAttr, Path: "a", Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Nsec: 1e9}}},
		{Kind: op.Write, Flags: 1 << 7, Path: "a"},
	} {
		b, err := AppendOp(nil, 1, o)
		if err != nil {
			t.Fatalf("%v: %v", o, err)
		}
		if err := DecodeOp(Header{Kind: Kind(o.Kind), Flags: uint8(o.Flags)}, b[HeaderSize:], new(op.Op)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: error %v", o, err)
		}
	}
}

// Payloads whose checksum is right and whose content is cut, or goes on.
func TestDecodeOpCutEverywhere(t *testing.T) {
	for _, o := range sampleOps() {
		b, err := AppendOp(nil, 1, o)
		if err != nil {
			t.Fatal(err)
		}
		h, payload := Header{Kind: Kind(o.Kind), Flags: uint8(o.Flags)}, b[HeaderSize:]
		for n := range len(payload) {
			if err := DecodeOp(h, payload[:n], new(op.Op)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v cut to %d of %d bytes: error %v", o, n, len(payload), err)
			}
		}
		if err := DecodeOp(h, append(payload, 0), new(op.Op)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v with a byte more: error %v", o, err)
		}
	}
}

func FuzzDecodeOp(f *testing.F) {
	for _, o := range sampleOps() {
		b, err := AppendOp(nil, 1, o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(o.Kind), uint8(o.Flags), b[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, kind, flags uint8, payload []byte) {
		var o, again op.Op
		err := DecodeOp(Header{Kind: Kind(kind), Flags: flags}, payload, &o)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
			return
		}
		first, err := AppendOp(nil, 1, &o)
		if err != nil {
			t.Fatalf("%v was decoded and cannot be encoded: %v", &o, err)
		}
		if err := DecodeOp(Header{Kind: Kind(kind), Flags: flags}, first[HeaderSize:], &again); err != nil {
			t.Fatalf("%v was encoded and cannot be decoded: %v", &o, err)
		}
		second, err := AppendOp(nil, 1, &again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%+v came back as %+v (%v)", o, again, err)
		}
	})
}

func write4K() *op.Op {
	return &op.Op{Kind: op.Write, Path: "var/lib/zeo/Data.fs", Off: 123 << 20, Data: make([]byte, 4096)}
}

func BenchmarkAppendOp(b *testing.B) {
	o := write4K()
	buf := make([]byte, 0, 8192)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		frame, err := AppendOp(buf, 1, o)
		if err != nil {
			b.Fatal(err)
		}
		Seal(frame, 1, 2)
	}
}

func BenchmarkDecodeOp(b *testing.B) {
	frame, err := AppendOp(nil, 1, write4K())
	if err != nil {
		b.Fatal(err)
	}
	Seal(frame, 1, 2)
	r := NewReader(&endless{frame: frame})
	var o op.Op
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		h, payload, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := DecodeOp(h, payload, &o); err != nil {
			b.Fatal(err)
		}
	}
}
