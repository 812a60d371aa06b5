package op

import (
	"cmp"
	"fmt"
	"strconv"
)

// NodeID names a node for ever. It is drawn at random when the node's state
// directory is made, so that no two nodes can make the same epoch.
type NodeID uint64

// String prints the ID as 16 hexadecimal digits.
func (n NodeID) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// MarshalText and UnmarshalText make an ID a string in JSON: numbers above
// 2^53 do not survive every JSON reader.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (n *NodeID) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return fmt.Errorf("node ID %q: want 16 hexadecimal digits", text)
	}
	*n = NodeID(v)
	return nil
}

// Epoch is a primary's reign. Epochs are compared by number first and owner
// second, so that two nodes which promote themselves from the same past never
// make the same epoch (RULES.md 12, EpochOwner). The zero Epoch is below all.
type Epoch struct {
	Number uint64 `json:"number"`
	Owner  NodeID `json:"owner"`
}

// Compare returns -1, 0 or 1 as e is below, equal to or above f.
func (e Epoch) Compare(f Epoch) int {
	return cmp.Or(cmp.Compare(e.Number, f.Number), cmp.Compare(e.Owner, f.Owner))
}

// String prints the epoch as number/owner.
func (e Epoch) String() string { return fmt.Sprintf("%d/%s", e.Number, e.Owner) }

// LSN is an op's place in one line of positions, counted from 1. Zero means
// before the first op.
type LSN uint64

// Line is one run of one reign. A primary's restart keeps its epoch but starts
// a new line, across which nobody resumes (RULES.md 11, NewLine): LSNs of two
// lines must never be compared.
type Line struct {
	Epoch       Epoch  `json:"epoch"`
	Incarnation uint64 `json:"incarnation"`
}

// String prints the line as number/owner+incarnation.
func (l Line) String() string { return fmt.Sprintf("%s+%d", l.Epoch, l.Incarnation) }

// Position says where an op stands in the volume's one total order.
type Position struct {
	Line Line `json:"line"`
	LSN  LSN  `json:"lsn"`
}

// String prints the position as line:lsn.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.Line, p.LSN) }
