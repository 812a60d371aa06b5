package fs

import (
	"errors"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// later is an Ack that tells when somebody begins to wait for it.
type later struct {
	op.Ack
	done func(error)
}

func (a *later) Then(done func(error)) { a.done = done }

// A barrier does not begin to wait for the mirrors while the local disk is at
// it, and not at all when that has failed.
func TestBarrier(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		name          string
		local, remote error
		want          error
		asks          bool
	}{
		{"both are through", nil, nil, nil, true},
		{"a mirror fails", nil, lost, lost, true},
		{"the disk fails", lost, nil, lost, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			local, remote := &syncing{}, &later{}
			answers := 0
			var got error
			barrierAck{local, remote}.Then(func(err error) { answers, got = answers+1, err })
			if remote.done != nil || answers > 0 {
				t.Fatal("the local fsync has not ended")
			}
			local.end(c.local)
			if (remote.done != nil) != c.asks {
				t.Fatalf("the mirrors are later: %t", remote.done != nil)
			}
			if c.asks {
				if answers > 0 {
					t.Fatal("the mirrors have not answered")
				}
				remote.done(c.remote)
			}
			if answers != 1 || !errors.Is(got, c.want) {
				t.Errorf("%d answers, %v, want %v", answers, got, c.want)
			}
		})
	}
}
