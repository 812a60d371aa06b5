package mirror

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

func TestFlight(t *testing.T) {
	var f flight
	steps := []struct {
		what string
		do   func()
		work int64
	}{
		{"nothing has begun", func() { f.land(10) }, 0},
		{"one", func() { f.add(100, grain) }, grain},
		{"a small one", func() { f.add(110, 5) }, grain + 5},
		{"another joins it", func() { f.add(120, 6) }, grain + 11},
		{"nearly the first", func() { f.land(99) }, grain + 11},
		{"the first", func() { f.land(100) }, 11},
		{"a part of the second, which counts as a whole", func() { f.land(119) }, 11},
		{"another", func() { f.add(130, grain) }, grain + 11},
		{"all", func() { f.land(200) }, 0},
		{"and from the start", func() { f.add(300, 7) }, 7},
	}
	for _, s := range steps {
		if s.do(); f.work != s.work {
			t.Fatalf("%s: %d is on its way, want %d", s.what, f.work, s.work)
		}
	}
}

// A mirror whose disk is slow has no more to read than the window, however little
// of the stream the comparisons of that take.
func TestComparisonsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 5 * maxWindow
		r := newPair(t)
		for _, tr := range []string{r.a.Dir(), r.b.Dir()} {
			if err := os.WriteFile(filepath.Join(tr, "f"), make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r.p.startOver(&wire.Answer{}, nil)
		r.p.pending = newPending()
		r.p.pending.add(region.Mark{Path: "f", Scope: region.Tree})
		r.p.resync = &Progress{}
		run := &resync{p: r.p, log: r.Log, began: time.Now(), links: newLinks()}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- run.run(ctx) }()
		synctest.Wait() // the mirror takes nothing

		compared := int64(0)
		r.mu.Lock()
		for _, c := range r.ring.chunks {
			frames := wire.NewReader(strings.NewReader(string(c.buf)))
			for h, payload, err := frames.Next(); err == nil; h, payload, err = frames.Next() {
				var o op.Op
				if err := wire.DecodeOp(h, payload, &o); err != nil {
					t.Error(err)
				}
				if o.Kind == op.Check {
					compared += o.Len
				}
			}
		}
		r.mu.Unlock()
		if compared == 0 || compared > maxWindow+maxStride {
			t.Errorf("%d bytes are on their way to be compared", compared)
		}
		stop()
		<-ended
	})
}
