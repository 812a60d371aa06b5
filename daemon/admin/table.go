package admin

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/standbyfs/standbyfs/mirror"
)

// WriteText draws the status as one table, one row a node, and ends in one line
// with the verdict and its reasons.
func (s *Status) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tWHERE\tSTATE\tPOSITION\tBEHIND\tHEARD\tPROGRESS")
	if s.Role == RoleMirror && !s.Deposed {
		s.mirrorRows(t)
	} else {
		s.primaryRows(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("draw the status: %w", err)
	}
	if _, err := fmt.Fprintf(w, "\n%s%s%s\n", s.verifyLines(), s.divergenceLine(), s.Summary()); err != nil {
		return fmt.Errorf("draw the status: %w", err)
	}
	return nil
}

// divergenceLine says that something is kept of what this node alone had.
func (s *Status) divergenceLine() string {
	d := s.Divergences
	if d == nil {
		return ""
	}
	return fmt.Sprintf("divergences: %d kept, %s: see `standbyfs divergence list %s`\n", d.Count, Bytes(uint64(d.Bytes)), s.Replica)
}

// Comparing says in one line how far a verify is, "" if none runs.
func (s *Status) Comparing() string {
	m := s.Mirroring
	if m == nil || m.Verify == nil {
		return ""
	}
	return fmt.Sprintf("verify: has compared %d files for %s: %s", m.Verify.Files, Age(s.Time.Sub(m.Verify.Began)), far(m.Verify.Gauge))
}

// verifyLines says how far a verify is and what the last one has found.
func (s *Status) verifyLines() string {
	if s.Role != RolePrimary {
		return ""
	}
	lines := s.Comparing()
	if lines != "" {
		lines += "\n"
	}
	if v := s.LastVerify; v != nil {
		lines += fmt.Sprintf("last verify: %s ago, %s\n", days(s.Time.Sub(v.Ended)), VerifyText(v))
	}
	return lines
}

// days is age for what may be long ago.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Hour:
		return Age(d)
	case d < 2*day:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// Summary is the verdict and its reasons in one line.
func (s *Status) Summary() string {
	if len(s.Reasons) == 0 {
		return string(s.Verdict)
	}
	return fmt.Sprintf("%s: %s", s.Verdict, strings.Join(s.Reasons, "; "))
}

func (s *Status) primaryRows(w io.Writer) {
	var state string
	where, position := s.Replica, "-"
	switch {
	case s.Role == "":
		state = "new"
	case !s.Running:
		state = "not running"
	case s.Deposed:
		state = "deposed"
	case s.Mounted:
		where, state = s.Mountpoint, "mounted"
	default:
		state = "not mounted"
	}
	if m := s.Mirroring; m != nil {
		position = fmt.Sprint(m.LSN)
	}
	row(w, s.Name, dash(s.Role), where, state, position, "-", "-", "")
	if s.Mirroring == nil {
		return
	}
	for _, p := range s.Mirroring.Peers {
		role := RoleMirror
		if p.Async {
			role = "async"
		}
		row(w, title(p), role, p.Addr, string(p.State), fmt.Sprint(p.Applied), Bytes(p.LagBytes), s.since(p.LastHeard), s.progress(p))
	}
}

func (s *Status) mirrorRows(w io.Writer) {
	r, own, position := s.Receiving, "not in sync", "-"
	if r != nil {
		state := "not connected"
		switch {
		case r.Connected:
			state = "connected"
		case s.PrimaryHeard.IsZero():
			state = "never heard"
		}
		row(w, r.PrimaryName, RolePrimary, "-", state, "-", "-", s.since(s.PrimaryHeard), "")
		position = fmt.Sprint(r.Applied)
		if r.Resyncing {
			own = "resync"
		}
	}
	if s.InSync {
		own = "in sync"
	}
	if !s.Running {
		own += ", not running"
	}
	where := s.Listen
	if where == "" {
		where = s.Replica
	}
	row(w, s.Name, RoleMirror, where, own, position, "-", "-", "")
}

func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if i < len(cells)-1 {
			cells[i] = dash(c)
		}
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// since says how long ago t was, "-" for never.
func (s *Status) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return Age(s.Time.Sub(t)) + " ago"
}

// Age writes a span of time as people do.
func Age(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// progress says how far a mirror's resync is, or, of one that waits for it, how
// much is known to be stale; "" of any other.
func (s *Status) progress(of mirror.PeerStatus) string {
	p := of.Resync
	switch {
	case of.Paused && (p == nil || p.Total == 0):
		return "resync paused"
	case p == nil && s.Stale[of.Node] > 0:
		return fmt.Sprintf("%d regions stale", s.Stale[of.Node])
	case p == nil:
		return ""
	case p.Total == 0:
		return fmt.Sprintf("counting, %d paths so far", p.Paths)
	case of.Paused:
		return fmt.Sprintf("resync paused at %s of %s (%d%%)", Bytes(p.Done), Bytes(p.Total), 100*min(p.Done, p.Total)/p.Total)
	}
	return far(p.Gauge)
}

// far says how far something has come.
func far(g mirror.Gauge) string {
	text := Bytes(g.Done)
	if g.Total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", Bytes(g.Total), 100*min(g.Done, g.Total)/g.Total)
	}
	text += fmt.Sprintf(", %s/s", Bytes(uint64(g.Rate)))
	if g.Left > 0 {
		text += fmt.Sprintf(", %s left", g.Left.Round(time.Second))
	}
	return text
}

// Bytes writes n as people do: 1.5 MiB.
func Bytes(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/(1<<10), 0
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

var units = [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}
