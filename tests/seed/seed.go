// Package seed gives random tests their seeds and has them repeated: SEED=n runs
// a test with one seed, ROUNDS=n with as many new ones.
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

// Each runs a test with each of some new seeds, or with SEED alone. Those of one
// run follow each other; the name of the subtest says which.
func Each(t *testing.T, rounds uint64, test func(t *testing.T, seed uint64)) {
	t.Helper()
	rounds = variable(t, "ROUNDS", rounds)
	first := variable(t, "SEED", 0)
	if first != 0 {
		rounds = 1
	} else {
		first = uint64(time.Now().UnixNano())
	}
	for seed := first; seed < first+rounds; seed++ {
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
