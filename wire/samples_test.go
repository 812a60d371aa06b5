package wire

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// sampleOps holds at least one op of each kind, and each field in use.
func sampleOps() []*op.Op {
	at := op.Time{Sec: 1764000000, Nsec: 999999999}
	old := op.Time{Sec: -7, Nsec: 1}
	all := op.Attr{
		Valid: knownAttrs, Mode: 0o100644, UID: math.MaxUint32, GID: 7, Rdev: 0x801,
		Size: math.MaxInt64, Atime: old, Mtime: at, Flags: op.InodeFlags,
	}
	born := op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: 0o100600, UID: 1, GID: 2, Mtime: at}
	return []*op.Op{
		{Kind: op.Create, Path: "a", Attr: born, Dir: at},
		{Kind: op.Mkdir, Path: "d", Attr: born, Dir: at},
		{Kind: op.Mknod, Path: "d/\xff\xfe\n", Attr: all, Dir: old},
		{Kind: op.Symlink, Path: "s", Data: []byte("../any/where"), Attr: born, Dir: at},
		{Kind: op.Link, Path: "a", Path2: "d/b", Attr: born, Dir2: at},
		{Kind: op.Unlink, Path: "d/b", Dir: at},
		{Kind: op.Rmdir, Path: "d", Dir: at},
		{Kind: op.Rename, Path: "a", Path2: "b", Arg: 1, Dir: at, Dir2: old},
		{Kind: op.Write, Path: "b", Off: 1 << 40, Data: bytes.Repeat([]byte("data"), 40)},
		{Kind: op.Write, Flags: op.Barrier, Path: "b", Data: []byte{0}},
		{Kind: op.Truncate, Path: "b", Attr: op.Attr{Valid: op.AttrSize, Size: 3}},
		{Kind: op.Fallocate, Path: "b", Arg: 3, Off: 4096, Len: math.MaxInt64},
		{Kind: op.CopyRange, Path: "b", Path2: "a", Off: 1, Off2: 2, Len: 3},
		{Kind: op.SetAttr, Path: ".", Attr: op.Attr{Valid: op.AttrMtime}},
		{Kind: op.SetAttr, Path: "b", Attr: op.Attr{Valid: op.AttrFlags}},
		{Kind: op.SetXattr, Path: "b", Name: "user.x", Data: []byte("v"), Arg: 2},
		{Kind: op.RemoveXattr, Path: "b", Name: "user.x"},
		{Kind: op.Fsync, Flags: op.Barrier | op.DataOnly, Path: "b"},
		{Kind: op.Fsync, Flags: op.Barrier, Path: "b", Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 3, Nsec: 4}}},
		{Kind: op.Expel, Path: ".", Member: math.MaxUint64},
		{Kind: op.Join, Path: ".", Member: 1, Members: []op.NodeID{1, math.MaxUint64}},
		{Kind: op.Put, Flags: op.Fresh, Path: "b", Attr: all, Xattrs: []op.Xattr{
			{Name: "user.a", Value: []byte("1")}, {Name: "user.b", Value: []byte{0, 255}}}},
		{Kind: op.Put, Flags: op.Partial, Path: "b", Attr: born, Arg: 3, Names: []string{"c", "d/e"}},
		{Kind: op.PutLink, Path: "b", Path2: "c"},
		{Kind: op.PutNames, Flags: op.Compare, Path: "d", Path2: "a", Name: "z", Names: []string{"m", "n\xff"}, Dir: at},
		{Kind: op.Survey, Path: "d", Names: []string{"m", "n\xff"}, Data: make([]byte, 32)},
		{Kind: op.Hint, Path: "d", Path2: "e\xff", Arg: 2},
		{Kind: op.Check, Path: "b", Off: op.RegionSize, Len: op.RegionSize, Data: make([]byte, 16)},
	}
}

// sampleMessages holds a message of each kind that is JSON.
func sampleMessages() map[Kind]any {
	epoch := op.Epoch{Number: 3, Owner: math.MaxUint64}
	return map[Kind]any{
		KindReport: &Report{LSN: 4, Kind: ReportDiffer, Path: []byte("a\xff"), Regions: []int64{0, 65536}, What: "why"},
		KindHello: &Hello{Protocol: Protocol, MinProtocol: MinProtocol, Software: "test", Volume: "v", Node: 5, Name: "n",
			Line: op.Line{Epoch: epoch, Incarnation: 2}, Oldest: 1, Next: math.MaxUint64},
		KindAnswer: &Answer{Refusal: &Refusal{Code: CodeHigherEpoch, Message: "no", Epoch: epoch}, Epoch: epoch, InSync: true,
			Resume: &op.Position{Line: op.Line{Epoch: epoch}, LSN: 9}},
		KindBegin:       &Begin{Resume: true, Policy: Policy{MinInSync: 1, Set: []op.NodeID{1}, Members: []Member{{Node: 1, Addr: "h:1", Mode: "sync"}}}},
		KindBegun:       &Begun{},
		KindHeartbeat:   &Heartbeat{Sent: time.Unix(1764000000, 5).UTC()},
		KindPolicy:      &Policy{OnShortage: "fail"},
		KindPrepareJoin: &PrepareJoin{},
		KindPrepared:    &Prepared{Applied: 7, Error: "disk"},
		KindGoodbye:     &Goodbye{Reason: "stops", NotInSync: true, Epoch: &epoch},
		KindRequest:     &Request{Method: "ask", Body: []byte(`{"a":1}`)},
		KindRegions:     &Regions{Regions: []Region{{Path: []byte("a\xff"), Scope: 2, From: 1, To: 1 << 62}}, More: true},
		KindResponse:    &Response{Refusal: &Refusal{Code: CodeUnknownMethod, Message: "what"}},
	}
}

// frame is one read back, kept.
type frame struct {
	header  Header
	payload []byte
}

// sampleStream returns frames of every kind, one after the other, and what a
// Reader makes of them.
func sampleStream(t testing.TB) ([]byte, []frame) {
	t.Helper()
	var b []byte
	var offset uint64
	for i, o := range sampleOps() {
		start := len(b)
		var err error
		if b, err = AppendOp(b, 42, o); err != nil {
			t.Fatal(err)
		}
		offset += uint64(len(b) - start)
		Seal(b[start:], op.LSN(i+1), offset)
	}
	b = AppendCommit(b, 42, 17)
	b = AppendAck(b, 42, Ack{Applied: 23, Durable: 20, Offset: offset})
	messages := sampleMessages()
	for k := KindReport; k < endKinds; k++ {
		v, ok := messages[k]
		if !ok {
			t.Fatalf("no sample of kind %d", k)
		}
		var err error
		if b, err = AppendMessage(b, k, v); err != nil {
			t.Fatal(err)
		}
	}
	frames, err := readAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return b, frames
}

// readAll reads frames to the end. A nil error means that the stream ended at
// the end of one.
func readAll(b []byte) ([]frame, error) {
	return drain(NewReader(bytes.NewReader(b)))
}
