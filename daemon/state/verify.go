package state

import "time"

// LastVerify is what the last verify of a primary has found.
type LastVerify struct {
	Ended time.Time      `json:"ended"`
	Files uint64         `json:"files"`
	Bytes uint64         `json:"bytes"`
	Peers []VerifiedPeer `json:"peers"`
}

// VerifiedPeer is one mirror's part of it.
type VerifiedPeer struct {
	Name        string `json:"name"`
	Reason      string `json:"reason,omitempty"` // why it was not compared to the end
	Differences int    `json:"differences"`
	First       string `json:"first,omitempty"` // the first difference, cut short
}

// Compared returns how many mirrors were compared to the end.
func (v *LastVerify) Compared() int {
	n := 0
	for _, p := range v.Peers {
		if p.Reason == "" {
			n++
		}
	}
	return n
}

// Equal reports whether no difference was found.
func (v *LastVerify) Equal() bool {
	for _, p := range v.Peers {
		if p.Differences > 0 {
			return false
		}
	}
	return true
}
