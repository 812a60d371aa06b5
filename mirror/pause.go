package mirror

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Pause holds up what makes mirrors level, or lets it go on: that of the mirror
// with this name or address, or, if it is "", of all. Ops go on to reach them, and
// one that is level already joins. It returns how those stand.
func (l *Log) Pause(mirror string, pause bool) ([]PeerStatus, error) {
	l.mu.Lock()
	var meant []*peer
	var known []string
	for _, p := range l.peers {
		known = append(known, p.name)
		if mirror == "" || mirror == p.name || mirror == p.cfg.Addr {
			meant = append(meant, p)
		}
	}
	var now []PeerStatus
	for _, p := range meant {
		switch {
		case pause && !p.paused:
			p.pausedAt = time.Now()
		case !pause && p.paused:
			p.held += time.Since(p.pausedAt)
		}
		p.paused = pause
		now = append(now, p.status())
		signal(p.news)
	}
	l.mu.Unlock()
	if len(meant) == 0 {
		slices.Sort(known)
		return nil, fmt.Errorf("there is no mirror %q: name one of %s", mirror, strings.Join(known, ", "))
	}
	l.changed()
	verb := map[bool]string{true: "paused", false: "goes on"}[pause]
	for _, p := range now {
		l.event("resync", fmt.Sprintf("resync of %s %s: the operator's decision", p.Name, verb))
	}
	return now, nil
}

// clear reports whether more may be sent to make the mirror level: nobody has
// paused that, it has done most of what was sent, and no peer would be pushed off
// the ring. The caller holds mu.
func (p *peer) clear() bool {
	return !p.paused && p.flight.work <= p.log.window() && !p.log.crowded((*peer).farther)
}

// busy takes from the time since a resync began what it was paused. The caller
// holds mu.
func (p *peer) busy(since time.Duration) time.Duration {
	since -= p.held
	if p.paused {
		since -= time.Since(p.pausedAt)
	}
	return since
}
