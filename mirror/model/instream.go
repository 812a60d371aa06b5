package main

import "fmt"

// Resync in the op stream, looked at closely: one primary, one mirror, two names of two cells each, live ops going on.
// The primary orders a check of a pending name, which carries a digest of what the name holds there; the mirror compares
// when it applies the check and answers; the primary puts what differs at the end of the stream. Few values, so that equal
// digests of different histories happen. When nothing is pending and the stream is drained the two must be equal.

const (
	PutInOrder = iota
	CopyMarks
	MarkedAgain
	MoveMarks
	numStreamRules
)

var streamText = [numStreamRules]string{
	PutInOrder:  "content of a put is read and ordered under the inode's lock | off: read first, ordered later",
	CopyMarks:   "a copy whose source is still pending makes its target pending | off: it does not",
	MarkedAgain: "a name marked again after its check was ordered stays pending | off: its answer clears it",
	MoveMarks:   "a rename of a pending name marks both names pending | off: marks stay where they were",
}

type Stream struct {
	Started bool
	P, M    [4]uint8 // cells 0,1 of name 0 and of name 1
	Queue   [7]uint8
	Len     uint8
	Todo    uint8    // names still pending
	Check   [2]uint8 // per name: 0 none, 1 in the stream, 2 answered 'equal', 3 answered 'differs'
	Again   uint8    // names marked since their check was ordered
	Read    [2]uint8 // a put that was read but is not yet ordered (rule off): 0x80 | cells
	Ops     uint8
}

type InStream struct {
	On     [numStreamRules]bool
	Values uint8 // cell contents 0..Values-1
	Max    uint8 // live ops
}

const (
	sInit = iota
	sWrite
	sTruncate
	sCopy
	sExchange
	sApply
	sCheck
	sAnswer
	sLatePut
)

func (v *InStream) Init() Stream { return Stream{} }

func (v *InStream) Violated(s *Stream) int {
	if s.Started && s.Todo == 0 && s.Len == 0 && s.Read == [2]uint8{} && s.P != s.M {
		return 1 << 3
	}
	return 0
}

func (v *InStream) Word(a Act) string {
	switch a.Kind {
	case sInit:
		return fmt.Sprintf("start: primary %s, mirror %s, pending {%s}", cells(a.A), cells(a.B), regions(a.C))
	case sWrite:
		return fmt.Sprintf("write r%d cell %d := %d", a.A, a.B, a.C)
	case sTruncate:
		return fmt.Sprintf("truncate r%d", a.A)
	case sCopy:
		return fmt.Sprintf("copy_file_range r%d -> r%d", a.A, 1-a.A)
	case sExchange:
		return "rename (exchange) r0 <-> r1"
	case sApply:
		return "mirror applies the next entry"
	case sCheck:
		return fmt.Sprintf("primary orders a check of r%d", a.A)
	case sAnswer:
		return fmt.Sprintf("primary hears of r%d: %s", a.A, []string{"equal", "differs, put"}[a.B])
	}
	return fmt.Sprintf("the put of r%d is ordered", a.A)
}

func pack(c [4]uint8) uint8 { return c[0] | c[1]<<2 | c[2]<<4 | c[3]<<6 }
func cells(b uint8) string  { return fmt.Sprintf("%d%d|%d%d", b&3, b>>2&3, b>>4&3, b>>6) }

// apply is the one state machine that both sides run.
func apply(c *[4]uint8, e uint8) {
	r := e >> 4 & 1
	switch {
	case e >= 0xC0: // check
	case e >= 0x80: // put
		c[2*r], c[2*r+1] = e&3, e>>2&3
	case e >= 0x60:
		c[0], c[1], c[2], c[3] = c[2], c[3], c[0], c[1]
	case e >= 0x40: // copy from r
		c[2*(1-r)], c[2*(1-r)+1] = c[2*r], c[2*r+1]
	case e >= 0x20: // truncate
		c[2*r], c[2*r+1] = 0, 0
	default: // write
		c[2*r+e>>2&1] = e & 3
	}
}

func (s *Stream) push(e uint8) { s.Queue[s.Len] = e; s.Len++ }

// compare is the mirror's answer to a check of name r that carries these cells.
func (s *Stream) compare(r, e uint8) {
	s.Check[r] = 2
	if s.M[2*r] != e&3 || s.M[2*r+1] != e>>2&3 {
		s.Check[r] = 3
	}
}

// mark makes names pending, again where a check of them is under way.
func (s *Stream) mark(names uint8) {
	s.Todo |= names
	for r := range 2 {
		if names&bit(r) != 0 && s.Check[r] != 0 {
			s.Again |= bit(r)
		}
	}
}

func (v *InStream) Next(s *Stream, emit func(Act, *Stream)) {
	if !s.Started {
		v.starts(emit)
		return
	}
	if s.Len > 0 {
		t := *s
		e := t.Queue[0]
		apply(&t.M, e)
		if e >= 0xC0 { // it compares here, at its own position
			t.compare(e>>4&1, e)
		}
		copy(t.Queue[:], t.Queue[1:])
		t.Queue[len(t.Queue)-1] = 0
		t.Len--
		emit(Act{sApply, 0, 0, 0}, &t)
	}
	for r := uint8(0); r < 2; r++ {
		v.repair(s, r, emit)
	}
	if s.Ops >= v.Max || int(s.Len) >= len(s.Queue)-2 {
		return
	}
	live := func(e uint8, a Act) {
		t := *s
		t.Ops++
		apply(&t.P, e)
		t.push(e)
		emit(a, &t)
	}
	for r := uint8(0); r < 2; r++ {
		for c := uint8(0); c < 2; c++ {
			for val := uint8(1); val < v.Values; val++ {
				live(r<<4|c<<2|val, Act{sWrite, r, c, val})
			}
		}
		live(0x20|r<<4, Act{sTruncate, r, 0, 0})
		t := *s
		t.Ops++
		apply(&t.P, 0x40|r<<4)
		t.push(0x40 | r<<4)
		if v.On[CopyMarks] && s.Todo&bit(int(r)) != 0 {
			t.mark(bit(int(1 - r)))
		}
		emit(Act{sCopy, r, 0, 0}, &t)
	}
	t := *s
	t.Ops++
	apply(&t.P, 0x60)
	t.push(0x60)
	if v.On[MoveMarks] && t.Todo != 0 {
		t.mark(3)
	}
	emit(Act{sExchange, 0, 0, 0}, &t)
}

// repair orders a check of a pending name, or handles the answer to one.
func (v *InStream) repair(s *Stream, r uint8, emit func(Act, *Stream)) {
	if int(s.Len) >= len(s.Queue) {
		return
	}
	if s.Read[r] != 0 {
		t := *s
		t.push(s.Read[r])
		t.Read[r] = 0
		emit(Act{sLatePut, r, 0, 0}, &t)
	}
	held := r<<4 | s.P[2*r+1]<<2 | s.P[2*r]
	switch {
	case s.Check[r] == 0 && s.Todo&bit(int(r)) != 0:
		t := *s
		t.push(0xC0 | held)
		t.Check[r] = 1
		emit(Act{sCheck, r, 0, 0}, &t)
	case s.Check[r] >= 2:
		t := *s
		if s.Check[r] == 3 {
			if v.On[PutInOrder] {
				t.push(0x80 | held)
			} else {
				t.Read[r] = 0x80 | held
			}
		}
		if t.Again&bit(int(r)) == 0 || !v.On[MarkedAgain] {
			t.Todo &^= bit(int(r))
		}
		t.Check[r], t.Again = 0, t.Again&^bit(int(r))
		emit(Act{sAnswer, r, s.Check[r] - 2, 0}, &t)
	}
}

// starts emits every pair of replicas that are equal outside of the pending names.
func (v *InStream) starts(emit func(Act, *Stream)) {
	for p := range 256 {
		for m := range 256 {
			for todo := uint8(0); todo < 4; todo++ {
				t := Stream{Started: true, Todo: todo}
				ok := true
				for c := range 4 {
					t.P[c], t.M[c] = uint8(p>>(2*c)&3), uint8(m>>(2*c)&3)
					ok = ok && t.P[c] < v.Values && t.M[c] < v.Values && (t.P[c] == t.M[c] || todo&bit(c/2) != 0)
				}
				if ok {
					emit(Act{sInit, pack(t.P), pack(t.M), todo}, &t)
				}
			}
		}
	}
}
