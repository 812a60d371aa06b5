package mirror

import (
	"container/heap"
	"math"
	"slices"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
)

// inSync is the bookkeeping of acknowledgements: who is in the in-sync set, how
// far each member is, and which waiting calls may return. Peers report in by
// report; the log tells it of expulsions and joins; waiting calls are told by
// tell. Nothing in it waits, logs, reads a clock or does I/O.
//
// A call that waits for LSN n is released when every member has applied n (or
// holds it durably, for a barrier), and
//   - every member has recorded every change of the set so far, its own join
//     included (RULES.md 6, RecordHeld), and
//   - the set has at least min members (guarantee 3).
type inSync struct {
	mu sync.Mutex // guards all below; a leaf: nothing is locked under it

	members map[op.NodeID]*progress
	min     int
	// shortage, if set, answers every call while there are too few members.
	// Otherwise they wait until there are enough.
	shortage error
	// change is the LSN of the newest expulsion or join, since when it stands in
	// the stream by the caller's clock. Both only grow.
	change op.LSN
	since  int64
	// applied and durable bound what may be released. commit is the highest
	// position that every member has acknowledged; it only grows.
	applied, durable, commit op.LSN
	// joining is how many nodes are about to join: commit stands still.
	joining int
	// last is the newest LSN, what commit is while the set is empty.
	last op.LSN

	waitApplied, waitDurable waiters
	answers                  []answer // of calls that wait no more, for tell
	failed                   error    // once set, nobody is released any more
}

// progress is how far one member is. Both numbers only grow while it stays.
type progress struct{ applied, durable op.LSN }

// waiter is one waiting call.
type waiter struct {
	lsn   op.LSN
	since int64 // when it began to wait, in the caller's clock
	done  func(error)
}

// answer is what a call that waited is told.
type answer struct {
	done func(error)
	err  error
}

// newInSync starts from the set that the last line left. Its members have
// acknowledged nothing of this line.
func newInSync(set []op.NodeID, min int, shortage error) *inSync {
	s := &inSync{members: make(map[op.NodeID]*progress), min: min, shortage: shortage}
	for _, n := range set {
		s.members[n] = &progress{}
	}
	s.advance()
	return s
}

// report takes a member's acknowledgement. One of a node that is not a member
// counts for nothing. The caller holds no lock.
func (s *inSync) report(n op.NodeID, applied, durable op.LSN) {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.members[n]; p != nil {
		p.applied, p.durable = max(p.applied, applied), max(p.durable, durable)
		s.advance()
	}
}

// expel takes n out. The decision is durable already; at is its entry's LSN.
// The caller calls tell once it holds no lock.
func (s *inSync) expel(n op.NodeID, at op.LSN, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, n)
	s.change, s.since, s.last = at, now, max(s.last, at)
	s.advance()
}

// join takes n in, with what it has acknowledged so far. The decision is
// durable already; at is its entry's LSN, which n has not recorded yet. The
// caller calls tell once it holds no lock.
func (s *inSync) join(n op.NodeID, at, applied, durable op.LSN, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[n] = &progress{applied, durable}
	s.change, s.since, s.last = at, now, max(s.last, at)
	s.advance()
}

// hold keeps the commit position where it is, and returns it, until as many calls
// of letGo. A node that joins must have all that is committed: whatever anybody
// has forgotten of older changes rests on that.
func (s *inSync) hold() op.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining++
	return s.commit
}

// letGo ends one hold.
func (s *inSync) letGo() {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining--
	s.advance()
}

// ordered tells that lsn has been given to an op. It releases nobody: nobody
// waits for ops that are not ordered yet.
func (s *inSync) ordered(lsn op.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, lsn)
	if len(s.members) == 0 {
		s.advance()
	}
}

// wait has done called, once, with nil when lsn may be acknowledged, or with the
// error that ended all waiting: before it returns, or by whoever reports in
// later. The caller holds no lock.
func (s *inSync) wait(lsn op.LSN, durable bool, now int64, done func(error)) {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiter{lsn: lsn, since: now, done: done}
	switch {
	case s.failed != nil:
		s.answer(w, s.failed)
	case durable:
		heap.Push(&s.waitDurable, w)
	default:
		heap.Push(&s.waitApplied, w)
	}
	s.release()
}

// tell gives the answers that stand. It is apart from what made them, which may
// hold locks that whoever is told must not wait for.
func (s *inSync) tell() {
	s.mu.Lock()
	answers := s.answers
	s.answers = nil
	s.mu.Unlock()
	for _, a := range answers {
		a.done(a.err)
	}
}

// fail answers every waiting call, and each that comes, with err. The caller
// holds no lock.
func (s *inSync) fail(err error) {
	defer s.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	s.answerAll(err)
}

// answerAll ends all waiting with err. The caller holds mu.
func (s *inSync) answerAll(err error) {
	for _, q := range []*waiters{&s.waitApplied, &s.waitDurable} {
		for _, w := range *q {
			s.answer(w, err)
		}
		*q = nil
	}
}

// answer leaves for tell what a call is to be told. The caller holds mu.
func (s *inSync) answer(w *waiter, err error) { s.answers = append(s.answers, answer{w.done, err}) }

// advance is the one function that moves the results. The caller holds mu.
func (s *inSync) advance() {
	applied, durable := op.LSN(math.MaxUint64), op.LSN(math.MaxUint64)
	held := len(s.members) >= s.min
	for _, p := range s.members {
		applied, durable = min(applied, p.applied), min(durable, p.durable)
		held = held && p.applied >= s.change
	}
	if s.joining == 0 {
		s.commit = max(s.commit, min(applied, s.last))
	}
	if !held {
		applied, durable = 0, 0
	}
	s.applied, s.durable = applied, durable
	s.release()
}

// release lets every call go that need not wait any more. The caller holds mu.
func (s *inSync) release() {
	if s.shortage != nil && len(s.members) < s.min {
		s.answerAll(s.shortage)
	}
	for len(s.waitApplied) > 0 && s.waitApplied[0].lsn <= s.applied {
		s.answer(heap.Pop(&s.waitApplied).(*waiter), nil)
	}
	// A barrier is applied before it can be durable, so durable bounds both.
	for len(s.waitDurable) > 0 && s.waitDurable[0].lsn <= min(s.applied, s.durable) {
		s.answer(heap.Pop(&s.waitDurable).(*waiter), nil)
	}
}

// late returns the members for which a call has been waiting since before the
// given time, sorted. A change of the set gives them the whole time anew to
// record it: otherwise one slow member would take the others with it.
func (s *inSync) late(before int64) []op.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var nodes []op.NodeID
	for n, p := range s.members {
		unrecorded := p.applied < s.change && s.since < before
		lags := func(w *waiter, has op.LSN) bool { return w.since < before && (has < w.lsn || unrecorded) }
		if slices.ContainsFunc(s.waitApplied, func(w *waiter) bool { return lags(w, p.applied) }) ||
			slices.ContainsFunc(s.waitDurable, func(w *waiter) bool { return lags(w, min(p.applied, p.durable)) }) {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// set returns the members, sorted.
func (s *inSync) set() []op.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := make([]op.NodeID, 0, len(s.members))
	for n := range s.members {
		set = append(set, n)
	}
	slices.Sort(set)
	return set
}

// has reports whether n is a member.
func (s *inSync) has(n op.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[n] != nil
}

// short reports whether the set has fewer than min members.
func (s *inSync) short() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.members) < s.min
}

// committed returns the commit position, and the LSN of the newest change of
// the set, which must reach a mirror before it (RULES.md 5, CommitInOrder).
func (s *inSync) committed() (commit, change op.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit, s.change
}

// waiters is a heap by LSN, as container/heap wants it.
type waiters []*waiter

func (q waiters) Len() int           { return len(q) }
func (q waiters) Less(i, j int) bool { return q[i].lsn < q[j].lsn }
func (q waiters) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *waiters) Push(w any)        { *q = append(*q, w.(*waiter)) }
func (q *waiters) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return w
}
