package mirror

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// meanwhile is called while frames are written.
type meanwhile func() error

func (m meanwhile) Write(b []byte) (int, error) { return len(b), m() }

// A mirror can come to have all that is for it without an ack, when its sender
// passes over what is for others. Who waits for it is told.
func TestPassedOver(t *testing.T) {
	r := newPair(t)
	r.p.startOver(&wire.Answer{}, nil)
	o := &op.Op{Kind: op.Fsync, Path: op.Root}
	must(t, r.live(o))
	frame, err := r.encode(o)
	must(t, err)
	r.mu.Lock()
	r.put(frame, o, r.p.bit<<1)
	r.mu.Unlock()
	behind := make(chan (<-chan struct{}), 1)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- r.p.send(ctx, meanwhile(func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.p.applied = r.p.sent // the ack is quicker than the sender
			behind <- r.room
			return nil
		}))
	}()
	select {
	case <-<-behind:
	case <-time.After(10 * time.Second):
		t.Error("nobody is told")
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p.behind() > 0 {
		t.Errorf("it is %d bytes behind", r.p.behind())
	}
}

// A resync of one mirror waits for another that is too far behind. If that one
// goes away the resync goes on.
func TestRoomAtTheEndOfASession(t *testing.T) {
	bye := make(chan struct{})
	r := newRig(t, nil, func(s *scripted) error {
		err := s.greet()
		<-bye
		return err
	})
	r.until("there was a session", func(_ Status, p PeerStatus) bool { return p.Connected })
	r.Log.mu.Lock()
	room := r.room
	r.Log.mu.Unlock()
	close(bye)
	r.until("it has ended", func(_ Status, p PeerStatus) bool { return !p.Connected })
	select {
	case <-room:
	case <-time.After(10 * time.Second):
		t.Error("nobody is told")
	}
}
