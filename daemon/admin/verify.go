package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/mirror"
)

// LastVerify is what the last verify of a primary has found. It is part of the
// node's state.
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

// Verified is the short form of a report. It ended when the report says, or now.
func Verified(r *mirror.VerifyReport) *LastVerify {
	const most = 200
	v := &LastVerify{Ended: time.Now().UTC(), Files: r.Files, Bytes: r.Bytes}
	for _, p := range r.Peers {
		peer := VerifiedPeer{Name: p.Name, Differences: len(p.Differences)}
		if len(p.Differences) > 0 {
			peer.First = p.Differences[0]
			if len(peer.First) > most {
				peer.First = strings.ToValidUTF8(peer.First[:most], "") + "..."
			}
		}
		if !p.Checked {
			peer.Reason = p.Reason
		}
		v.Peers = append(v.Peers, peer)
	}
	return v
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

func places(n int) string {
	if n == 1 {
		return "1 place"
	}
	return fmt.Sprintf("%d places", n)
}

// Text says it in one line.
func (v *LastVerify) Text() string {
	var parts []string
	for _, p := range v.Peers {
		switch {
		case p.Differences > 0:
			parts = append(parts, fmt.Sprintf("%s differs in %s, the first: %s", p.Name, places(p.Differences), p.First))
		case p.Reason != "":
			parts = append(parts, fmt.Sprintf("%s was not compared: %s", p.Name, p.Reason))
		}
	}
	if len(parts) == 0 {
		parts = []string{fmt.Sprintf("all %d replicas are equal", len(v.Peers)+1)}
	}
	return fmt.Sprintf("%s (%d files, %s)", strings.Join(parts, "; "), v.Files, Bytes(v.Bytes))
}
