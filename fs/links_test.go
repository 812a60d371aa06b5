package fs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/tests/seed"
)

// TestLinks compares the names of an inode with a plain list, few and many.
func TestLinks(t *testing.T) {
	random := rand.New(rand.NewPCG(seed.New(t), 1))
	parents := []*inode{{}, {}}
	var ls links
	var want []link
	for step := range 20_000 {
		// Up to a hundred names or so, and down to none again.
		l := link{parents[random.IntN(2)], fmt.Sprint(random.IntN(80))}
		i := slices.Index(want, l)
		if (step/500)%2 == random.IntN(5)/4 {
			if got := ls.add(l); got != (i < 0) {
				t.Fatalf("step %d: add returns %t, there before %t", step, got, i >= 0)
			}
			if i < 0 {
				want = append(want, l)
			}
		} else {
			if got := ls.remove(l); got != (i >= 0) {
				t.Fatalf("step %d: remove returns %t, there before %t", step, got, i >= 0)
			}
			if i >= 0 {
				want = slices.Delete(want, i, i+1)
			}
		}
		if len(ls.all) != len(want) || ls.at != nil && len(ls.at) != len(want) {
			t.Fatalf("step %d: %d names, %d of them in the index, want %d", step, len(ls.all), len(ls.at), len(want))
		}
		for _, l := range want {
			if i := ls.find(l); i < 0 || ls.all[i] != l {
				t.Fatalf("step %d: a name is not found", step)
			}
		}
	}
}
