package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// sentFrames is what a peer is sent, in a word each.
type sentFrames struct{ words []string }

func (f *sentFrames) Write(p []byte) (int, error) {
	frames := wire.NewReader(bytes.NewReader(p))
	for h, payload, err := frames.Next(); err == nil; h, payload, err = frames.Next() {
		var o op.Op
		if h.Kind == wire.KindCommit {
			lsn, err := wire.DecodeCommit(payload)
			f.words = append(f.words, fmt.Sprintf("commit %d", lsn))
			if err != nil {
				return 0, err
			}
			continue
		}
		if err := wire.DecodeOp(h, payload, &o); err != nil {
			return 0, err
		}
		f.words = append(f.words, o.Kind.String())
	}
	return len(p), nil
}

// TestCommitBehindExpulsion has a mirror expelled in the very moment in which
// another one is told the commit position, which then rests on that: the expulsion
// comes first (RULES.md 5, CommitInOrder).
func TestCommitBehindExpulsion(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			r := newPair(t)
			r.Log.sync = newInSync([]op.NodeID{2, 3}, 0, nil)
			r.p.startOver(&wire.Answer{}, nil)
			if err := r.live(&op.Op{Kind: op.Fsync, Path: op.Root}); err != nil {
				t.Fatal(err)
			}
			r.Log.sync.report(2, 1, 1)
			var sent sentFrames
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.p.send(ctx, &sent) }()
			time.Sleep(r.cfg.Heartbeat)
			r.enter(&op.Op{Kind: op.Expel, Path: op.Root, Member: 3, Members: []op.NodeID{2}}, func(at op.LSN) { r.Log.sync.expel(3, at, 0) })
			time.Sleep(3 * r.cfg.Heartbeat)
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if got := fmt.Sprint(sent.words); got != "[fsync expel commit 1]" {
				t.Errorf("sent %s", got)
			}
		})
	}
}
