package fs

import (
	"testing"
	"testing/synctest"
)

// A word that watch did not need stays in news. Whoever takes the next request does
// not wait for it to be heard: it may be long until watch sleeps again.
func TestWakeNeverWaits(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		s := &server{news: make(chan struct{}, 1)}
		for range 2 {
			s.asleep.Store(true)
			s.wake()
		}
	})
}
