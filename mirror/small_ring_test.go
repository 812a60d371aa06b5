package mirror

import (
	"bytes"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// With the smallest ring that there may be a repair does not push its mirror off
// it, however much there is to put in one place: it would begin anew for ever.
func TestRepairThroughASmallRing(t *testing.T) {
	r := newPair(t)
	r.cfg.RingBytes = 1 << 20
	r.Log.ring = newRing(r.cfg.RingBytes)
	must(t, r.do(&op.Op{Kind: op.Create, Path: "f", Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o600}}))
	must(t, r.do(&op.Op{Kind: op.Write, Path: "f", Data: bytes.Repeat([]byte("x"), 5<<20)}))
	r.resync([]region.Mark{region.Everything}, nil)
	r.equal()
	// As much again may be on its way already, and the clients go on.
	if most := uint64(r.cfg.RingBytes) / 4; r.most > most {
		t.Errorf("%d bytes went into the ring at once, want at most %d", r.most, most)
	}
}
