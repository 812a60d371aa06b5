package mirror

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
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

// TestJoinsWithAllThatIsCommitted has a mirror that is close behind, which is
// enough to be asked, but lacks an op that counts as committed: regions that were
// forgotten rest on that. It must not join before it has it.
func TestJoinsWithAllThatIsCommitted(t *testing.T) {
	var once sync.Once
	asked, behind, proceed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r := newRig(t, nil, func(s *scripted) error {
		if err := s.greet(); err != nil {
			return err
		}
		// It takes the whole resync, and answers PrepareJoin, but not what is
		// ordered from then on.
		go func() {
			for {
				h, _, err := s.control.Next()
				if err != nil {
					return
				}
				if h.Kind == wire.KindPrepareJoin {
					once.Do(func() { close(asked) })
					<-behind
					if s.say(wire.KindPrepared, wire.Prepared{}) != nil {
						return
					}
				}
			}
		}()
		for {
			h, _, err := s.log.Next()
			if err != nil {
				return nil
			}
			if h.Kind == wire.KindCommit {
				continue
			}
			select {
			case <-asked:
				<-proceed
			default:
			}
			if err := s.ack(wire.Ack{Applied: h.LSN, Durable: h.LSN, Offset: h.Offset}); err != nil {
				return nil
			}
		}
	})
	<-asked
	if _, err := r.change(); err != nil {
		t.Fatal(err)
	}
	if commit, _ := r.Log.sync.committed(); commit == 0 {
		t.Fatal("without members an op is committed at once")
	}
	close(behind)
	r.until("it is prepared", func(Status, PeerStatus) bool {
		r.Log.mu.Lock()
		defer r.Log.mu.Unlock()
		return r.Log.peers[0].prepared != nil
	})
	if r.decided() != "" {
		t.Error("it joined without the op")
	}
	close(proceed)
	r.until("it is in sync", func(_ Status, p PeerStatus) bool { return p.InSync })
}

// TestExpulsionCannotBeRecorded has a mirror fall silent. As long as it may still
// be recorded that it is out of the set, a call waits for that; if it never will
// be, the call fails, and so does each that comes.
func TestExpulsionCannotBeRecorded(t *testing.T) {
	silent := make(chan struct{})
	r := newRig(t, nil, func(s *scripted) error {
		go func() { // ends with the session
			<-silent
			s.Close()
		}()
		return errors.Join(s.greet(), s.rest())
	})
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	tries, never := make(chan struct{}, 1000), false
	r.mu.Lock()
	r.decide = func() error {
		if never {
			return op.ErrUnrecorded
		}
		tries <- struct{}{}
		return syscall.EIO
	}
	r.mu.Unlock()
	close(silent)
	r.until("the end of the session", func(_ Status, p PeerStatus) bool { return !p.Connected })
	a, err := r.change()
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	a.Then(func(err error) { answer <- err })
	for range 3 {
		<-tries
	}
	select {
	case err := <-answer:
		t.Fatalf("the call returns %v, and the mirror is still counted", err)
	default:
	}
	r.mu.Lock()
	never = true
	r.mu.Unlock()
	if err := <-answer; !errors.Is(err, op.ErrUnrecorded) {
		t.Errorf("the call returns %v, want %v", err, op.ErrUnrecorded)
	}
	if a, err = r.change(); err == nil {
		err = a.Wait(t.Context())
	}
	if !errors.Is(err, op.ErrUnrecorded) {
		t.Errorf("the next call returns %v, want %v", err, op.ErrUnrecorded)
	}
}

// TestSetBeforeMember sees the larger set recorded before the mirror hears that it
// is a member (RULES.md 10, SetBeforeMember).
func TestSetBeforeMember(t *testing.T) { eitherWay(t, setBeforeMember) }

func setBeforeMember(t *testing.T, forget bool) string {
	var r *rig
	ready, sets := make(chan struct{}), make(chan string, 1)
	r = newRig(t, nil, func(s *scripted) error {
		<-ready
		if err := s.greet(); err != nil {
			return err
		}
		s.heard = func(o *op.Op) {
			if o.Kind == op.Join {
				sets <- r.decided()
			}
		}
		return s.rest()
	})
	r.mu.Lock()
	r.forget = forget
	r.mu.Unlock()
	close(ready)
	if got := <-sets; got != "2" {
		return fmt.Sprintf("when the mirror joined the sets recorded were %q", got)
	}
	return ""
}

// TestLost says that the disk has lost something. When that returns nobody is in
// the set any more, durably, and a session in which the mirror was compared before
// cannot end in a join.
func TestLost(t *testing.T) {
	r := newRig(t, nil, func(s *scripted) error { return errors.Join(s.greet(), s.rest()) })
	if err := r.WaitInSync(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p := r.peers[0]
	r.Log.mu.Lock()
	r.losses++ // as if Lost had come as far as this while it was about to join
	r.Log.mu.Unlock()
	if err := r.join(t.Context(), p); !errors.Is(err, errLoss) {
		t.Errorf("join after a loss: %v, want %v", err, errLoss)
	}
	before := p.status().Resyncs
	if err := r.Lost(t.Context(), "lost"); err != nil {
		t.Fatal(err)
	}
	if sets := r.decided(); !strings.HasPrefix(sets, "2 ") {
		t.Errorf("sets decided: %q, want one without the mirror after the one with it", sets)
	}
	r.until("it is in sync again", func(_ Status, p PeerStatus) bool { return p.InSync && p.Connected && p.Resyncs > before })
	r.mu.Lock()
	r.decide = func() error { return syscall.EIO }
	r.mu.Unlock()
	if err := r.Lost(t.Context(), "lost again"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a member that cannot be expelled: %v, want %v", err, syscall.EIO)
	}
}
