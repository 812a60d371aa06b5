package mirror

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// A resync ends although somebody writes all the time, by whatever name, to a
// file of which the holes are looked at.
func TestEndsWhileWritten(t *testing.T) {
	for _, name := range []string{"d/f", "d/other", "e/name"} {
		t.Run(name, func(t *testing.T) {
			const size = 40 * op.RegionSize
			r := newPair(t)
			r.cfg.RingBytes = 4 << 20 // a mirror that is behind is not so for long
			r.Log.ring = newRing(r.cfg.RingBytes)
			r.p.leeway()
			when := op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1e9}}
			write := func(path string, off int64) *op.Op {
				return &op.Op{Kind: op.Write, Path: path, Off: off, Data: []byte("written"), Attr: when}
			}
			for _, path := range []string{"d", "e"} {
				r.both(&op.Op{Kind: op.Mkdir, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFDIR | 0o755}})
			}
			for _, path := range []string{"d/f", "d/other"} {
				r.both(&op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode, Mode: unix.S_IFREG | 0o644}})
				r.both(write(path, size))
			}
			r.both(&op.Op{Kind: op.Link, Path: "d/other", Path2: "e/name"})
			for _, path := range []string{"d", "e", "."} {
				r.both(&op.Op{Kind: op.SetAttr, Path: path, Attr: when})
			}
			var ended atomic.Bool
			deadline := time.Now().Add(time.Minute)
			done := make(chan struct{})
			writer := func() {
				defer close(done)
				for n := int64(0); !ended.Load(); n++ {
					if err := r.live(write(name, n*12345%size)); err != nil {
						t.Error(err)
						return
					}
					if time.Now().After(deadline) {
						t.Error("the resync does not end")
						return
					}
				}
			}
			r.resync([]region.Mark{{Path: "d", Scope: region.Entries}}, func() { go writer() })
			ended.Store(true)
			<-done
		})
	}
}
