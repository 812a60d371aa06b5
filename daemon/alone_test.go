package daemon

import (
	"context"
	"errors"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

func TestAlone(t *testing.T) {
	var a alone
	ctx := context.Background()
	applied := 0
	apply := func() error { applied++; return nil }
	if err := a.Admit(ctx); err != nil {
		t.Errorf("admit: %v", err)
	}
	if ack, err := a.Commit(ctx, &op.Op{}, apply); err != nil || ack != op.Done || applied != 1 {
		t.Errorf("commit: %v, %v, applied %d times", ack, err, applied)
	}
	failure := errors.New("no space")
	if _, err := a.Commit(ctx, &op.Op{}, func() error { return failure }); err != failure {
		t.Errorf("an op that fails: %v", err)
	}
	a.Fence(op.Epoch{Number: 2, Owner: nodeB}, "beta")
	if err := a.Admit(ctx); !errors.Is(err, op.ErrFenced) {
		t.Errorf("admit after the fence: %v", err)
	}
	if _, err := a.Commit(ctx, &op.Op{}, apply); !errors.Is(err, op.ErrFenced) || applied != 1 {
		t.Errorf("commit after the fence: %v, applied %d times", err, applied)
	}
}

// A fence waits for the op that is being applied: once it has returned nothing
// changes any more. If it did not wait, the race detector would see it, too.
func TestAloneFenceWaits(t *testing.T) {
	var a alone
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	applied := false
	go func() {
		defer close(left)
		if _, err := a.Commit(context.Background(), &op.Op{}, func() error {
			close(inside)
			<-leave
			applied = true
			return nil
		}); err != nil {
			t.Errorf("commit: %v", err)
		}
	}()
	<-inside
	fenced := make(chan struct{})
	go func() {
		a.Fence(op.Epoch{Number: 2}, "beta")
		close(fenced)
	}()
	close(leave)
	<-fenced
	if !applied {
		t.Error("the fence did not wait")
	}
	<-left
}
