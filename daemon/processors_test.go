package daemon

import (
	"runtime"
	"testing"
)

func TestShareProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for _, c := range []struct {
		have, want int
		set        string // GOMAXPROCS in the environment
	}{
		{have: 1, want: 1},
		{have: 2, want: 1},
		{have: 8, want: 4},
		{have: 8, want: 8, set: "8"},
	} {
		t.Setenv("GOMAXPROCS", c.set)
		runtime.GOMAXPROCS(c.have)
		ShareProcessors()
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("of %d processors with GOMAXPROCS=%q: %d, want %d", c.have, c.set, got, c.want)
		}
	}
}
