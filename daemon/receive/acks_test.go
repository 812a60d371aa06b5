package receive

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// sentAcks returns the acks that were written since it was called last.
func sentAcks(t *testing.T, out *bytes.Buffer) (sent []wire.Ack) {
	t.Helper()
	frames := wire.NewReader(bytes.NewReader(out.Bytes()))
	out.Reset()
	for {
		_, payload, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return sent
		}
		if err != nil {
			t.Fatal(err)
		}
		a, err := wire.DecodeAck(payload)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, a)
	}
}

// Syncs that end together share an ack, and those that do not move the durable
// position make none.
func TestSyncsShareAnAck(t *testing.T) {
	var out bytes.Buffer
	k := newAcks(&out, progress{}, false)
	want := func(when string, want ...wire.Ack) {
		t.Helper()
		got := sentAcks(t, &out)
		if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
			t.Errorf("%s: acks %+v, want %+v", when, got, want)
		}
	}
	for lsn := op.LSN(1); lsn <= 4; lsn++ {
		k.begin(lsn)
		k.applied(lsn, uint64(lsn), lsn == 1)
	}
	k.flush()
	want("all applied", wire.Ack{Applied: 4, Offset: 4})
	k.synced(2)
	k.synced(4)
	k.flushSynced()
	want("later ones durable")
	k.synced(1)
	k.synced(3)
	k.flushSynced()
	want("all durable", wire.Ack{Applied: 4, Durable: 4, Offset: 4})
	k.flushSynced()
	want("nothing new")
	k.begin(5)
	k.applied(5, 5, false)
	k.flush()
	want("a barrier applied")
	k.synced(5)
	k.flushSynced()
	want("and durable", wire.Ack{Applied: 5, Durable: 5, Offset: 5})
	k.begin(6)
	k.synced(6)
	k.flushSynced()
	k.applied(6, 6, false)
	k.flush()
	want("durable before it is applied", wire.Ack{Applied: 6, Durable: 6, Offset: 6})
}
