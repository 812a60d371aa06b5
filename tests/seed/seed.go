// Package seed gives random tests their seeds and has them repeated: SEED=n runs
// a test with one seed, ROUNDS=n with as many new ones, and both together with
// that seed as often, since a seed does not fix the order of goroutines.
package seed

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// New returns the seed of a test: a new one, or SEED. It is printed.
func New(t testing.TB) uint64 {
	t.Helper()
	seed := variable(t, "SEED", uint64(time.Now().UnixNano()))
	t.Logf("SEED=%d", seed)
	return seed
}

// Each runs a test with each of some new seeds, which follow each other, or with
// SEED again and again. The name of the subtest says which seed it is.
func Each(t *testing.T, rounds uint64, test func(t *testing.T, seed uint64)) {
	t.Helper()
	first, step := variable(t, "SEED", 0), uint64(0)
	if first == 0 {
		first, step = uint64(time.Now().UnixNano()), 1
	} else {
		rounds = 1
	}
	for i := range variable(t, "ROUNDS", rounds) {
		seed := first + i*step
		t.Run(fmt.Sprintf("SEED=%d", seed), func(t *testing.T) { test(t, seed) })
	}
}

// variable returns the number that a variable of the environment has.
func variable(t testing.TB, name string, unset uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
