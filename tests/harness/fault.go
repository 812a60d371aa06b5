package harness

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Direction is one of the two ways through a proxy.
type Direction uint8

const (
	Up   Direction = iota // from the one who dialled to the target
	Down                  // from the target back
	numDirections
)

// String prints the direction as it stands in a fault.
func (d Direction) String() string { return [...]string{"up", "down"}[d] }

// Lane is what is wrong with one direction. The zero Lane is a good network.
// Faults of one lane add up: a lane may delay and be slow.
type Lane struct {
	Delay     time.Duration // each byte arrives so much later
	Slow      int64         // bytes per second; 0 is unlimited
	CloseAt   int64         // a connection ends after so many bytes; 0 is never
	FlipAt    int64         // the lowest bit of a connection's n-th byte is wrong, counted from 1; 0 is none
	Stall     bool          // nothing arrives; the sender's buffers fill up
	Blackhole bool          // bytes are taken and lost; a connection that lost some never delivers again
}

// Fault is all that is wrong with a network between two nodes. It prints
// itself as a list of terms and ParseFault reads that back, so that the fault
// of a failing run can be copied into a test:
//
//	delay(20ms) up:slow(65536)      everything late, and little of it towards the target
//	down:blackhole                  the target's answers are lost
//	cut                             connections end and new ones end at once
//	reset                           the same, with a TCP reset
//	up:close(4096)                  each connection ends after 4096 bytes
//
// A term without a direction is for both.
type Fault struct {
	Lanes [numDirections]Lane
	Cut   bool
	Reset bool
}

// Good is the network without a fault.
var Good = Fault{}

// And returns a network with the faults of f and of g. Where both set the same
// number, g's counts.
func (f Fault) And(g Fault) Fault {
	f.Cut = f.Cut || g.Cut
	f.Reset = f.Reset || g.Reset
	for d := range f.Lanes {
		l, m := &f.Lanes[d], g.Lanes[d]
		if m.Delay != 0 {
			l.Delay = m.Delay
		}
		if m.Slow != 0 {
			l.Slow = m.Slow
		}
		if m.CloseAt != 0 {
			l.CloseAt = m.CloseAt
		}
		if m.FlipAt != 0 {
			l.FlipAt = m.FlipAt
		}
		l.Stall = l.Stall || m.Stall
		l.Blackhole = l.Blackhole || m.Blackhole
	}
	return f
}

// String prints the fault as ParseFault reads it; "good" if there is none.
func (f Fault) String() string {
	var terms []string
	if f.Cut {
		terms = append(terms, "cut")
	}
	if f.Reset {
		terms = append(terms, "reset")
	}
	up, down := f.Lanes[Up].terms(), f.Lanes[Down].terms()
	for i := range up {
		switch {
		case up[i] == down[i] && up[i] != "":
			terms = append(terms, up[i])
		default:
			if up[i] != "" {
				terms = append(terms, "up:"+up[i])
			}
			if down[i] != "" {
				terms = append(terms, "down:"+down[i])
			}
		}
	}
	if len(terms) == 0 {
		return "good"
	}
	return strings.Join(terms, " ")
}

// terms prints each possible term of a lane, "" where there is none.
func (l Lane) terms() []string {
	terms := make([]string, 6)
	if l.Delay != 0 {
		terms[0] = fmt.Sprintf("delay(%s)", l.Delay)
	}
	if l.Slow != 0 {
		terms[1] = fmt.Sprintf("slow(%d)", l.Slow)
	}
	if l.CloseAt != 0 {
		terms[2] = fmt.Sprintf("close(%d)", l.CloseAt)
	}
	if l.FlipAt != 0 {
		terms[3] = fmt.Sprintf("flip(%d)", l.FlipAt)
	}
	if l.Stall {
		terms[4] = "stall"
	}
	if l.Blackhole {
		terms[5] = "blackhole"
	}
	return terms
}

// ParseFault reads what Fault.String prints.
func ParseFault(text string) (Fault, error) {
	var f Fault
	for _, term := range strings.Fields(text) {
		g, err := parseTerm(term)
		if err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", text, err)
		}
		f = f.And(g)
	}
	return f, nil
}

// MustFault is ParseFault for faults written into a test.
func MustFault(text string) Fault {
	f, err := ParseFault(text)
	if err != nil {
		panic(err)
	}
	return f
}

func parseTerm(term string) (Fault, error) {
	var f Fault
	switch term {
	case "good":
		return f, nil
	case "cut":
		f.Cut = true
		return f, nil
	case "reset":
		f.Reset = true
		return f, nil
	}
	to := []Direction{Up, Down}
	if rest, ok := strings.CutPrefix(term, "up:"); ok {
		term, to = rest, to[:1]
	} else if rest, ok := strings.CutPrefix(term, "down:"); ok {
		term, to = rest, to[1:]
	}
	lane, err := parseLane(term)
	if err != nil {
		return Fault{}, err
	}
	for _, d := range to {
		f.Lanes[d] = lane
	}
	return f, nil
}

func parseLane(term string) (Lane, error) {
	var l Lane
	name, arg, hasArg := strings.Cut(term, "(")
	if hasArg {
		var ok bool
		if arg, ok = strings.CutSuffix(arg, ")"); !ok {
			return l, fmt.Errorf("term %q: no closing bracket", term)
		}
	}
	number := func() (int64, error) {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n <= 0 {
			return 0, fmt.Errorf("term %q: want a positive number of bytes", term)
		}
		return n, nil
	}
	var err error
	switch name {
	case "delay":
		l.Delay, err = time.ParseDuration(arg)
		if err != nil || l.Delay <= 0 {
			err = fmt.Errorf("term %q: want a positive duration", term)
		}
	case "slow":
		l.Slow, err = number()
	case "close":
		l.CloseAt, err = number()
	case "flip":
		l.FlipAt, err = number()
	case "stall":
		l.Stall = true
	case "blackhole":
		l.Blackhole = true
	default:
		err = fmt.Errorf("term %q: want delay, slow, close, flip, stall, blackhole, cut or reset", term)
	}
	if err == nil && hasArg && (l.Stall || l.Blackhole) {
		err = fmt.Errorf("term %q takes no argument", term)
	}
	return l, err
}
