package daemon

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestShareProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for _, c := range []struct {
		have, want, waiting int
		set                 string // GOMAXPROCS in the environment
	}{
		{have: 1, want: 1, waiting: 16},
		{have: 2, want: 1, waiting: 16},
		{have: 8, want: 4, waiting: 16},
		{have: 40, want: 20, waiting: 40},
		{have: 8, want: 8, waiting: 8, set: "8"},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Setenv("GOMAXPROCS", c.set)
			runtime.GOMAXPROCS(c.have)
			uses := func(when string, want int) {
				t.Helper()
				synctest.Wait()
				if got := runtime.GOMAXPROCS(0); got != want {
					t.Errorf("of %d processors with GOMAXPROCS=%q, %s: %d, want %d", c.have, c.set, when, got, want)
				}
			}
			p := ShareProcessors()
			uses("at first", c.want)
			for range 3 {
				p.Wait()
				uses("while somebody waits", c.waiting)
				time.Sleep(settled)
				uses("just after", c.waiting)
			}
			time.Sleep(2 * settled)
			uses("when nobody waits any more", c.want)
		})
	}
}
