package mirror

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1 << 20)
		began := time.Now()
		for range 10 {
			if err := p.take(t.Context(), 3<<20); err != nil {
				t.Fatal(err)
			}
		}
		// The first stride is free.
		if took := time.Since(began); took < 28*time.Second || took > 30*time.Second {
			t.Errorf("30 MiB at 1 MiB/s took %v", took)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := p.take(ctx, 1<<40); err == nil || time.Since(began) > 32*time.Second {
			t.Errorf("a take that was given up: %v after %v", err, time.Since(began))
		}
	})
}

func TestNoPace(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	if err := newPace(0).take(ctx, 1<<62); err != nil {
		t.Error(err)
	}
	stop()
	if err := newPace(0).take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}
