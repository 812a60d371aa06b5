package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

// Verdict is a node's health in one word.
type Verdict string

const (
	// Healthy: the node does all that it was set up to do.
	Healthy Verdict = "healthy"
	// Degraded: it serves or stands by, but something is missing.
	Degraded Verdict = "degraded"
	// Down: it neither serves nor could take over.
	Down Verdict = "down"
)

// Roles as Status names them; "" is a node that was never started.
const (
	RolePrimary = "primary"
	RoleMirror  = "mirror"
)

// Status is one node at one moment: what the command draws and what JSON
// carries. Exactly one of Mirroring and Receiving is set while the node runs;
// neither is without mirrors, or without a running node.
type Status struct {
	Time    time.Time `json:"time"`
	Verdict Verdict   `json:"verdict"`
	// Reasons say why the verdict is not healthy, the worst one first, and on a
	// healthy node what is worth knowing.
	Reasons []string `json:"reasons,omitempty"`

	Replica    string `json:"replica"`
	StateDir   string `json:"state_dir"`
	Mountpoint string `json:"mountpoint,omitempty"`
	Listen     string `json:"listen,omitempty"` // as bound: with the port chosen for port 0

	Running bool      `json:"running"`
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Version string    `json:"version,omitempty"`

	Node   op.NodeID `json:"node"`
	Name   string    `json:"name"`
	Volume string    `json:"volume"`
	Role   string    `json:"role"`
	// Epoch is the highest one this node has seen; Line is the primary's own.
	Epoch op.Epoch `json:"epoch"`
	Line  *op.Line `json:"line,omitempty"`
	// InSync is a mirror's own durable flag; Why says why it is false.
	InSync bool   `json:"in_sync"`
	Why    string `json:"not_in_sync_because,omitempty"`
	// Mixed: a resync has begun to change this mirror's replica and has not come to
	// its end. Otherwise it is as it was at AsOf, zero for never. Kept is the moment
	// of the consistent state from before that, zero without one.
	Mixed bool      `json:"mixed"`
	AsOf  time.Time `json:"as_of,omitzero"`
	Kept  time.Time `json:"kept_as_of,omitzero"`
	// Set is the in-sync set as a primary decided and a mirror last heard it.
	Set []op.NodeID `json:"in_sync_set"`
	// Mounted: the primary's mount answers. Deposed: a higher epoch took over;
	// the mount, if it is still there, is read-only.
	Mounted bool `json:"mounted"`
	Deposed bool `json:"deposed"`
	// PrimaryHeard is when a mirror last heard a primary, zero for never; while
	// it does not run it is behind the truth by up to a minute.
	PrimaryHeard time.Time `json:"primary_heard,omitzero"`

	// Divergences are kept of what this node alone had; see package divergence.
	Divergences *Divergences `json:"divergences,omitempty"`

	// Trouble is what keeps the node's disks from doing what they should.
	Trouble []string `json:"trouble,omitempty"`

	Mirroring *mirror.Status `json:"mirroring,omitempty"`
	Receiving *Receiving     `json:"receiving,omitempty"`
	// Hot is how many regions would have to be compared after a crash of this node
	// alone, Stale how many another one that was here lacks or may have wrong.
	Hot   int               `json:"hot_regions"`
	Stale map[op.NodeID]int `json:"stale_regions,omitempty"`
	// LastVerify is a primary's: what its last verify has found.
	LastVerify *state.LastVerify `json:"last_verify,omitempty"`
	Events     []Event           `json:"events,omitempty"`
}

// Receiving is a running mirror's side of its session.
type Receiving struct {
	Connected   bool          `json:"connected"`
	Resyncing   bool          `json:"resyncing"`
	Primary     op.NodeID     `json:"primary"`
	PrimaryName string        `json:"primary_name,omitempty"`
	Line        op.Line       `json:"line"`
	Applied     op.LSN        `json:"applied"`
	Durable     op.LSN        `json:"durable"`
	Commit      op.LSN        `json:"commit"`
	Heartbeat   time.Duration `json:"heartbeat"`
	MinInSync   int           `json:"min_in_sync"` // the primary's policy, as last heard
}

// Divergences says how many are kept and how much room they take.
type Divergences struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Event is one thing that an operator should know of.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

// silentAfter is how many heartbeats may be missed before a primary counts as
// silent: one may be lost to a busy machine, two to a hiccup of the network.
const silentAfter = 3

// Judge sets s.Verdict and s.Reasons from all the other fields. It reads no
// clock: s.Time is now.
func (s *Status) Judge() {
	s.Verdict, s.Reasons = Healthy, nil
	switch {
	case s.Role == "":
		s.fault(Down, "this node was never started: there is no state in %s", s.StateDir)
	case !s.Running:
		s.fault(Down, "the node is not running%s", s.resting())
	case s.Role == RolePrimary || s.Deposed:
		s.judgePrimary()
	default:
		s.judgeMirror()
	}
	for _, what := range s.Trouble {
		s.fault(Degraded, "%s", what)
	}
}

func (s *Status) judgePrimary() {
	if s.Deposed {
		s.fault(Down, "deposed: epoch %s took over; stop this node and start it again with `standbyfs mirror`", s.Epoch)
	}
	if !s.Mounted {
		s.fault(Down, "the volume is not mounted")
	}
	m := s.Mirroring
	if s.Deposed {
		return // the mirrors are another's now
	}
	if m == nil || len(m.Peers) == 0 {
		s.note("no mirrors: nothing is copied anywhere")
		return
	}
	if m.Shortage {
		s.fault(Degraded, "shortage: %d mirrors in sync, min_in_sync is %d; changes are not acknowledged", len(m.Set), m.MinInSync)
	}
	var paused []string
	for _, p := range m.Peers {
		switch {
		case p.Async && !p.Connected:
			s.fault(Degraded, "asynchronous mirror %s is not connected%s", title(p), because(p.Reason))
		case !p.Async && !p.InSync:
			s.fault(Degraded, "mirror %s is not in sync%s", title(p), lacking(p))
		case !p.Connected:
			s.fault(Degraded, "mirror %s is in sync but not connected%s", title(p), because(p.Reason))
		}
		if p.Paused {
			paused = append(paused, title(p))
		}
	}
	if len(paused) > 0 {
		s.note("resyncs of %s are paused by the operator: `standbyfs resync resume` has them go on", strings.Join(paused, ", "))
	}
	if v := s.LastVerify; v != nil && !v.Equal() {
		s.fault(Degraded, "the last verify has found differences: see them with `standbyfs verify`")
	}
}

// lacking says why a mirror is not in sync. Of one that is connected the reason
// may be of before: then what it waits for is said first.
func lacking(p mirror.PeerStatus) string {
	var doing string
	switch {
	case p.Connected && p.State == mirror.StateResync && p.Paused:
		doing = ": it has to be brought level"
	case p.Connected && p.State == mirror.StateResync:
		doing = ": it is being brought level"
	case p.Connected && p.State == mirror.StateCatchingUp:
		doing = ": it is catching up"
	default:
		return because(p.Reason)
	}
	if p.Reason == "" {
		return doing
	}
	return doing + " (before that: " + p.Reason + ")"
}

// title is what the operator calls a mirror: by its address until it has told
// its name.
func title(p mirror.PeerStatus) string {
	if p.Name == "" {
		return p.Addr
	}
	return p.Name
}

// resting says what a node that does not run could be started as.
func (s *Status) resting() string {
	switch {
	case s.Deposed:
		return fmt.Sprintf("; it was deposed by epoch %s and can only start as a mirror", s.Epoch)
	case s.Role == RoleMirror && s.InSync:
		return "; as a mirror it was in sync, and can be promoted once it runs"
	case s.Role == RoleMirror:
		return "; as a mirror it was not in sync" + because(s.Why) + s.moment()
	}
	return ""
}

// moment says of when the replica of a mirror is that is not in sync.
func (s *Status) moment() string {
	switch {
	case s.Mixed && !s.Kept.IsZero():
		return "; its replica is mixed, and the consistent state of " + s.since(s.Kept) + " is kept"
	case s.Mixed:
		return "; its replica is mixed: parts of it are older than others"
	case !s.AsOf.IsZero():
		return "; its replica is as it was " + s.since(s.AsOf)
	}
	return ""
}

func (s *Status) judgeMirror() {
	r := s.Receiving
	if !s.InSync {
		s.fault(Degraded, "not in sync%s%s", because(s.Why), s.moment())
	}
	switch {
	case r == nil || s.PrimaryHeard.IsZero():
		s.fault(Degraded, "no primary has connected yet")
	case !r.Connected:
		s.fault(Degraded, "no connection to the primary for %s", Age(s.Time.Sub(s.PrimaryHeard)))
	case r.Heartbeat > 0 && s.Time.Sub(s.PrimaryHeard) > silentAfter*r.Heartbeat:
		s.fault(Degraded, "the primary has been silent for %s", Age(s.Time.Sub(s.PrimaryHeard)))
	}
}

// fault adds a reason and lowers the verdict to v if it was better.
func (s *Status) fault(v Verdict, format string, args ...any) {
	if v == Down || s.Verdict == Healthy {
		s.Verdict = v
	}
	s.note(format, args...)
}

func (s *Status) note(format string, args ...any) {
	s.Reasons = append(s.Reasons, fmt.Sprintf(format, args...))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
