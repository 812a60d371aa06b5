package mirror

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// answered reports whether a waiting call was told to return, and with what.
func answered(t *testing.T, c <-chan error) (bool, error) {
	t.Helper()
	select {
	case err := <-c:
		return true, err
	default:
		return false, nil
	}
}

// wait returns a channel that yields what a call is told.
func wait(s *inSync, lsn op.LSN, durable bool, now int64) <-chan error {
	c := make(chan error, 1)
	s.wait(lsn, durable, now, func(err error) { c <- err })
	return c
}

func wantWaiting(t *testing.T, c <-chan error, what string) {
	t.Helper()
	if ok, err := answered(t, c); ok {
		t.Fatalf("%s returned (%v), it must wait", what, err)
	}
}

func wantReleased(t *testing.T, c <-chan error, what string) {
	t.Helper()
	if ok, err := answered(t, c); !ok || err != nil {
		t.Fatalf("%s: answered %v, error %v; want it released", what, ok, err)
	}
}

func TestOpWaitsForEveryMember(t *testing.T) {
	s := newInSync([]op.NodeID{1, 2}, 0, nil)
	s.ordered(5)
	c := wait(s, 5, false, 0)
	s.report(1, 5, 0)
	wantWaiting(t, c, "op with one of two acks")
	s.report(2, 4, 0)
	wantWaiting(t, c, "op with an ack for less")
	s.report(2, 5, 0)
	wantReleased(t, c, "op that both applied")
}

func TestBarrierWaitsForDurable(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 0, nil)
	s.ordered(3)
	c := wait(s, 3, true, 0)
	s.report(1, 3, 2)
	wantWaiting(t, c, "barrier that is applied only")
	s.report(1, 3, 3)
	wantReleased(t, c, "durable barrier")
}

func TestExpulsionReleasesOnlyWhenRecorded(t *testing.T) {
	s := newInSync([]op.NodeID{1, 2}, 0, nil)
	s.ordered(7)
	c := wait(s, 7, true, 0)
	s.report(1, 7, 7)
	s.expel(2, 8, 0)
	s.tell()
	wantWaiting(t, c, "barrier before member 1 has recorded the expulsion (RecordHeld)")
	s.report(1, 8, 7)
	wantReleased(t, c, "barrier after it")
}

func TestJoinHoldsBackOlderBarriers(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 0, nil)
	s.ordered(4)
	c := wait(s, 4, true, 0)
	s.join(2, 5, 4, 4, 0)
	s.tell()
	s.report(1, 5, 4)
	wantWaiting(t, c, "barrier before the new member has recorded its join")
	s.report(2, 5, 4)
	wantReleased(t, c, "barrier after it")
}

func TestTooFewMembers(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 1, nil)
	s.ordered(1)
	c := wait(s, 1, false, 0)
	s.expel(1, 2, 0)
	s.tell()
	wantWaiting(t, c, "op with min_in_sync not met")
	if !s.short() {
		t.Fatal("not short of members")
	}
	s.join(3, 3, 2, 2, 0)
	s.tell()
	c = wait(s, 1, false, 0)
	s.report(3, 3, 3)
	wantReleased(t, c, "op once there is a member again")
}

func TestTooFewMembersFails(t *testing.T) {
	short := errors.New("short")
	s := newInSync([]op.NodeID{1}, 1, short)
	s.ordered(2)
	before := wait(s, 1, false, 0)
	s.expel(1, 2, 0)
	s.tell()
	for i, c := range []<-chan error{before, wait(s, 2, true, 0)} {
		if ok, err := answered(t, c); !ok || !errors.Is(err, short) {
			t.Fatalf("call %d: answered %v with %v, want the shortage", i, ok, err)
		}
	}
	s.join(3, 3, 2, 2, 0)
	s.tell()
	c := wait(s, 3, false, 0)
	wantWaiting(t, c, "op with enough members again")
	s.report(3, 3, 3)
	wantReleased(t, c, "op that the new member has")
}

func TestRestartKeepsItsSet(t *testing.T) {
	// RULES.md 11: members of the last line must come back or be expelled.
	s := newInSync([]op.NodeID{9}, 0, nil)
	s.ordered(1)
	c := wait(s, 1, true, 0)
	wantWaiting(t, c, "barrier of a restarted primary")
	s.report(9, 0, 0)
	wantWaiting(t, c, "barrier after a word without progress")
	s.expel(9, 2, 0)
	s.tell()
	wantReleased(t, c, "barrier after the expulsion")
}

func TestNoMembersReleasesAtOnce(t *testing.T) {
	s := newInSync(nil, 0, nil)
	s.ordered(10)
	wantReleased(t, wait(s, 10, true, 0), "barrier without mirrors")
	if commit, _ := s.committed(); commit != 10 {
		t.Fatalf("commit position %d, want 10", commit)
	}
}

// While somebody joins, the commit position stands still, and nothing else does.
func TestJoiningHoldsCommit(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 0, nil)
	s.ordered(5)
	s.report(1, 3, 3)
	if at := s.hold(); at != 3 {
		t.Fatalf("held at %d", at)
	}
	c := wait(s, 5, false, 0)
	s.report(1, 5, 5)
	wantReleased(t, c, "an op that all members have")
	if commit, _ := s.committed(); commit != 3 {
		t.Errorf("commit moved to %d", commit)
	}
	s.join(2, 6, 3, 3, 0)
	s.letGo()
	if commit, _ := s.committed(); commit != 3 {
		t.Errorf("commit is %d, which the one that joined has not applied", commit)
	}
	s.report(1, 6, 6)
	s.report(2, 6, 6)
	if commit, _ := s.committed(); commit != 6 {
		t.Errorf("commit is %d", commit)
	}
}

func TestStrangersCountForNothing(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 0, nil)
	s.ordered(2)
	c := wait(s, 2, false, 0)
	s.report(77, 2, 2)
	wantWaiting(t, c, "op that only a stranger has")
}

func TestFailAnswersNowAndLater(t *testing.T) {
	s := newInSync([]op.NodeID{1}, 0, nil)
	before := wait(s, 1, false, 0)
	s.fail(op.ErrFenced)
	s.report(1, 5, 5)
	for i, c := range []<-chan error{before, wait(s, 1, true, 0)} {
		if ok, err := answered(t, c); !ok || !errors.Is(err, op.ErrFenced) {
			t.Fatalf("call %d: answered %v with %v", i, ok, err)
		}
	}
}

func TestLateNamesTheCulprits(t *testing.T) {
	s := newInSync([]op.NodeID{1, 2, 3}, 0, nil)
	s.ordered(6)
	wait(s, 5, false, 100)
	wait(s, 6, true, 200)
	s.report(1, 5, 5) // has applied what is waited for since 100
	s.report(2, 4, 4)
	s.report(3, 6, 6)
	if got := s.late(150); !slices.Equal(got, []op.NodeID{2}) {
		t.Fatalf("late before 150: %v, want 2", got)
	}
	if got := s.late(250); !slices.Equal(got, []op.NodeID{1, 2}) {
		t.Fatalf("late before 250: %v, want 1 and 2", got)
	}
	if got := s.late(50); len(got) != 0 {
		t.Fatalf("late before 50: %v, want nobody", got)
	}
}

func TestLateCountsFromTheChange(t *testing.T) {
	s := newInSync([]op.NodeID{1, 2}, 0, nil)
	s.ordered(5)
	wait(s, 5, false, 100)
	s.report(1, 5, 5)
	s.expel(2, 6, 500)
	s.tell()
	if got := s.late(400); len(got) != 0 {
		t.Fatalf("late before 400: %v; member 1 has had no time to record the expulsion of 500", got)
	}
	if got := s.late(600); !slices.Equal(got, []op.NodeID{1}) {
		t.Fatalf("late before 600: %v, want 1", got)
	}
}

// TestRandomHistories compares the bookkeeping with its definition after every
// step of random histories.
func TestRandomHistories(t *testing.T) {
	type call struct {
		lsn     op.LSN
		durable bool
		c       <-chan error
		out     bool
	}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		min := rnd.IntN(3)
		s := newInSync(nil, min, nil)
		type state struct{ applied, durable op.LSN }
		members := map[op.NodeID]state{}
		var last, change, commit op.LSN
		var calls []*call
		for range 200 {
			n := op.NodeID(1 + rnd.IntN(4))
			m, in := members[n]
			switch rnd.IntN(6) {
			case 0, 1:
				last++
				s.ordered(last)
				durable := rnd.IntN(2) == 0
				calls = append(calls, &call{lsn: last, durable: durable, c: wait(s, last, durable, 0)})
			case 2, 3:
				a := m.applied + op.LSN(rnd.IntN(int(last-m.applied+1)))
				d := m.durable + op.LSN(rnd.IntN(int(a-m.durable+1)))
				s.report(n, a, d)
				if in {
					members[n] = state{a, d}
				}
			case 4:
				if in {
					last++
					change = last
					delete(members, n)
					s.expel(n, last, 0)
					s.tell()
				}
			case 5:
				if !in {
					last++
					change = last
					members[n] = state{last - 1, last - 1}
					s.join(n, last, last-1, last-1, 0)
					s.tell()
				}
			}
			held := len(members) >= min
			lowest := last
			for _, m := range members {
				held = held && m.applied >= change
				if m.applied < lowest {
					lowest = m.applied
				}
			}
			if lowest > commit {
				commit = lowest
			}
			if got, _ := s.committed(); got != commit {
				t.Fatalf("seed %d: commit %d, want %d", seed, got, commit)
			}
			for _, c := range calls {
				free := held
				for _, m := range members {
					free = free && m.applied >= c.lsn && (!c.durable || m.durable >= c.lsn)
				}
				if ok, err := answered(t, c.c); ok {
					if err != nil || !free {
						t.Fatalf("seed %d: op %d (durable %v) released with %v, free %v", seed, c.lsn, c.durable, err, free)
					}
					c.out = true
				} else if free && !c.out {
					t.Fatalf("seed %d: op %d (durable %v) still waits", seed, c.lsn, c.durable)
				}
			}
		}
	}
}
