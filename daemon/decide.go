package daemon

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// outlook is what a mirror knows when it is asked to become the primary: of
// itself, and of the nodes it could reach. It decides by nothing else.
type outlook struct {
	Self   state.State
	Take   string    // which state of a mixed replica is asked for, as in admin.PromoteRequest
	Live   string    // the primary whose session still lives; "" without one
	Heard  time.Time // when a primary was last heard; zero if never
	Now    time.Time
	Others []other
	// Taken is the epoch that Others were made to record; zero before that.
	Taken op.Epoch
}

// other is one node that was asked.
type other struct {
	Addr string
	wire.AskAnswer
	Err error // not reached; AskAnswer is empty then
}

// ruling is what a promotion comes to.
type ruling struct {
	// Refuse are the reasons not to take over; only force overrides them.
	Refuse []string
	// Promised: no acknowledged barrier is missing on this node.
	Promised bool
	// Text tells the operator what that is worth, a sentence a line.
	Text []string
	// Epoch is the one to take: above every epoch known to anyone reached.
	Epoch op.Epoch
	// Fence are the nodes that have to record Epoch before it takes effect.
	Fence []other
}

// rule decides a promotion in a static set-up (RULES.md 14). The argument: a
// barrier is acknowledged only when at least min_in_sync mirrors have it, and
// when each of them has recorded every change of the set before. With mirrors −
// min_in_sync others reached, every such group has a member among them or is
// this node; none of them knows of a set without this node, so every
// acknowledged barrier waited for this node, too; and since they have recorded
// the new epoch none of them helps to acknowledge another one.
func rule(v outlook) ruling {
	r := ruling{Epoch: op.Epoch{Number: v.Self.Epoch.Number + 1, Owner: v.Self.Node}}
	if !v.Self.InSync {
		r.Refuse = append(r.Refuse, "this mirror is not in sync"+because(v.Self.Reason)+v.standing())
	}
	if v.overtaken() {
		r.Refuse = append(r.Refuse, fmt.Sprintf("node %s took over with epoch %s, and has not brought this mirror level since: promote that one, or have it reached, if it gave up", v.Self.Epoch.Owner, v.Self.Epoch))
	}
	if v.Live != "" {
		r.Refuse = append(r.Refuse, fmt.Sprintf("the primary %s is alive and connected: stop it first", v.Live))
	}
	mirrors, reached := v.Self.Policy.Mirrors(), 0
	seen := []op.NodeID{v.Self.Node}
	for _, o := range v.Others {
		var no *wire.Refusal
		switch {
		case errors.As(o.Err, &no):
			r.Refuse = append(r.Refuse, fmt.Sprintf("%s says no: %s", o.Addr, no.Message))
			continue
		case o.Err != nil:
			r.Text = append(r.Text, fmt.Sprintf("not reached: %s (%v)", o.Addr, o.Err))
			continue
		case slices.Contains(seen, o.Node): // itself, or the same one by another address
			continue
		case o.Volume == "":
			r.Text = append(r.Text, fmt.Sprintf("%s at %s is new and knows nothing of this volume", o.Name, o.Addr))
			continue
		case o.Volume != v.Self.Volume:
			r.Text = append(r.Text, fmt.Sprintf("%s at %s keeps another volume (%s): it was left alone", o.Name, o.Addr, o.Volume))
			continue
		}
		seen = append(seen, o.Node)
		r.Fence = append(r.Fence, o)
		r.Epoch.Number = max(r.Epoch.Number, o.Epoch.Number+1)
		if objection := object(v.Self, o); objection != "" {
			r.Refuse = append(r.Refuse, objection)
			continue
		}
		if o.Role != string(Primary) && counts(v.Self.Policy.Members, o) {
			reached++
		}
	}
	if v.Taken != (op.Epoch{}) {
		r.Epoch = v.Taken
	}
	need := v.Self.Policy.Spare()
	r.Promised = len(r.Refuse) == 0 && mirrors > 0 && reached >= need
	r.Text = append(r.Text, v.worth(r, mirrors, need, reached)...)
	return r
}

// overtaken reports whether another node may have reigned since this mirror was in
// sync: it had this one record its epoch (RULES.md 14, FenceOthers), and is not
// there to say that it gave up. By what policy it acknowledged is not known here.
func (v outlook) overtaken() bool {
	s := v.Self
	if !s.Overtaken() || v.Taken != (op.Epoch{}) {
		return false
	}
	return !slices.ContainsFunc(v.Others, func(o other) bool {
		return o.Err == nil && o.Node == s.Epoch.Owner && o.Epoch.Compare(s.Epoch) < 0
	})
}

// object returns why what o knows speaks against self, "" if nothing does.
func object(self state.State, o other) string {
	switch {
	// An epoch of our own that others know comes from a promotion that was
	// given up after they had recorded it.
	case o.Epoch.Compare(self.Epoch) > 0 && o.Epoch.Owner != self.Node:
		return fmt.Sprintf("%s at %s knows a higher epoch, %s: this mirror has %s", o.Name, o.Addr, o.Epoch, self.Epoch)
	case o.Role == string(Primary):
		return fmt.Sprintf("%s at %s is the primary and answers: stop it first", o.Name, o.Addr)
	case !slices.Contains(o.Set, self.Node):
		return fmt.Sprintf("%s at %s knows an in-sync set without this mirror", o.Name, o.Addr)
	}
	return ""
}

// counts reports whether o is one of the mirrors that calls may have waited
// for. The primary may not have met all of them, then only the address tells.
func counts(members []wire.Member, o other) bool {
	return slices.ContainsFunc(members, func(m wire.Member) bool {
		return m.Mode != wire.ModeAsync && (m.Node == o.Node || m.Node == 0 && m.Addr == o.Addr)
	})
}

func others(n int) string {
	if n == 1 {
		return "1 other mirror was"
	}
	return fmt.Sprintf("%d other mirrors were", n)
}

// worth says what the promotion promises or what may be lost.
func (v outlook) worth(r ruling, mirrors, need, reached int) []string {
	minimum := v.Self.Policy.MinInSync
	if r.Promised {
		text := fmt.Sprintf("promised: nothing that was acknowledged as durable is missing here (min_in_sync %d of %d mirrors", minimum, mirrors)
		if need > 0 {
			text += fmt.Sprintf("; %s reached and recorded epoch %s first", others(reached), r.Epoch)
		}
		return []string{text + ")"}
	}
	text := []string{"not promised: " + v.doubt(r, mirrors, need, reached)}
	switch {
	case v.Live != "":
		text = append(text, fmt.Sprintf("what may be lost: all that %s acknowledges, or has acknowledged without this mirror, until it hears of epoch %s and turns read-only", v.Live, r.Epoch))
	case v.Heard.IsZero():
		text = append(text, "this node has never heard a primary")
	default:
		text = append(text, fmt.Sprintf("the primary has been silent since %s (%s): what it acknowledged without this mirror is not here",
			v.Heard.UTC().Format(time.RFC3339), v.Now.Sub(v.Heard).Round(time.Second)))
	}
	switch s := v.Self; {
	case v.older():
		text = append(text, fmt.Sprintf("what may be lost: everything since %s: a resync had begun to change this replica, and the consistent state from before it is taken", v.ago(s.Kept.AsOf)))
	case s.Mixed && s.Kept != nil:
		text = append(text, mixedText+", as you asked for")
	case s.Mixed:
		text = append(text, mixedText+"; nothing older is kept"+because(s.NotKept))
	case !s.InSync:
		text = append(text, "what may be lost: everything since this mirror left the in-sync set"+because(s.Reason)+v.standing())
	}
	return text
}

const mixedText = "what may be lost: this replica is mixed: a resync had begun to change it and did not end, so parts of it are older than others; files may be missing, old, or old and new in one"

// older reports whether the consistent state from before a resync is taken.
func (v outlook) older() bool {
	return v.Self.Mixed && v.Self.Kept != nil && v.Take != admin.TakeMixed
}

// standing says what --force would find on a mirror that is not in sync.
func (v outlook) standing() string {
	switch s := v.Self; {
	case s.Mixed && s.Kept != nil:
		return fmt.Sprintf(", and its replica is mixed; a consistent state of %s is kept", v.ago(s.Kept.AsOf))
	case s.Mixed:
		return ", and its replica is mixed: parts of it are older than others, and nothing older is kept" + because(s.NotKept)
	case !s.AsOf.IsZero():
		return ", its replica is of " + v.ago(s.AsOf)
	}
	return ""
}

// ago says when t was and how long that is from now.
func (v outlook) ago(t time.Time) string {
	return fmt.Sprintf("%s (%s old)", t.UTC().Format(time.RFC3339), admin.Age(v.Now.Sub(t)))
}

func (v outlook) doubt(r ruling, mirrors, need, reached int) string {
	switch {
	case len(r.Refuse) > 0:
		return r.Refuse[0]
	case mirrors == 0:
		return "the primary's policy was never heard"
	case need > mirrors-1:
		return fmt.Sprintf("with min_in_sync %d of %d mirrors the primary may acknowledge without any mirror", v.Self.Policy.MinInSync, mirrors)
	}
	return fmt.Sprintf("with min_in_sync %d of %d mirrors, %d other mirrors have to be reached and %d were", v.Self.Policy.MinInSync, mirrors, need, reached)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
