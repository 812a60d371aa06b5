package mirror

import (
	"errors"
	"testing"
)

// TestJoinedIsLevel looks at the status in the middle of a join, as somebody
// does who waited for it: a verify right then compares the mirror.
func TestJoinedIsLevel(t *testing.T) {
	joined, seen := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c *Config) {
		event := c.Event
		c.Event = func(kind, text string) {
			if kind == "joined" {
				joined <- struct{}{}
				<-seen
			}
			event(kind, text)
		}
	}, func(s *scripted) error { return errors.Join(s.greet(), s.rest()) })
	<-joined
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Error(err)
	}
	p := r.Status().Peers[0]
	close(seen)
	if !p.InSync || p.State != StateInSync {
		t.Errorf("in sync %t, state %q", p.InSync, p.State)
	}
}
