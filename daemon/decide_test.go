package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// Nodes of the tables: a was the primary, b is asked to take over.
const (
	nodeA op.NodeID = 0xa + iota
	nodeB
	nodeC
	nodeD
)

var nodeNames = map[op.NodeID]string{nodeA: "alpha", nodeB: "beta", nodeC: "gamma", nodeD: "delta"}

func members(ids ...op.NodeID) []wire.Member {
	var m []wire.Member
	for _, id := range ids {
		m = append(m, wire.Member{Node: id, Name: nodeNames[id], Addr: nodeNames[id] + ":1", Mode: "sync"})
	}
	return m
}

// mirrorB is b in sync, in an epoch of a, with a policy of the mirrors given.
func mirrorB(minInSync int, mirrors ...op.NodeID) outlook {
	at := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	return outlook{
		Self: state.State{
			Volume: "v", Node: nodeB, Name: "beta", Role: Mirror, InSync: true,
			Epoch: op.Epoch{Number: 4, Owner: nodeA}, Set: mirrors,
			Policy: wire.Policy{MinInSync: minInSync, Set: mirrors, Members: members(mirrors...)},
		},
		Heard: at, Now: at.Add(90 * time.Second),
	}
}

// reached is another mirror that knows what b knows.
func reached(id op.NodeID, set ...op.NodeID) other {
	return other{Addr: nodeNames[id] + ":1", AskAnswer: wire.AskAnswer{
		Node: id, Name: nodeNames[id], Volume: "v", Role: string(Mirror), InSync: true,
		Epoch: op.Epoch{Number: 4, Owner: nodeA}, Set: set,
	}}
}

func unreached(id op.NodeID) other {
	return other{Addr: nodeNames[id] + ":1", Err: errors.New("connection refused")}
}

// keptSince makes the replica mixed, with a consistent state of so long ago.
func keptSince(ago time.Duration) func(*outlook) {
	return func(v *outlook) {
		v.Self.InSync, v.Self.Mixed, v.Self.Kept = false, true, &state.Kept{AsOf: v.Now.Add(-ago)}
	}
}

// TestRule is rule 14 of RULES.md, row by row.
func TestRule(t *testing.T) {
	bc, bcd := []op.NodeID{nodeB, nodeC}, []op.NodeID{nodeB, nodeC, nodeD}
	with := func(v outlook, others ...other) outlook { v.Others = others; return v }
	changed := func(v outlook, change func(*outlook)) outlook { change(&v); return v }
	altered := func(o other, change func(*other)) other { change(&o); return o }

	for _, c := range []struct {
		name     string
		view     outlook
		promised bool
		refuse   string   // "" for none
		says     []string // each in some line of the text
		fence    []op.NodeID
		number   uint64
	}{
		{name: "two nodes, min_in_sync 1: promised", view: mirrorB(1, nodeB), promised: true, number: 5,
			says: []string{"promised: nothing that was acknowledged as durable is missing here (min_in_sync 1 of 1 mirrors)"}},
		{name: "two nodes, min_in_sync 0: never promised", view: mirrorB(0, nodeB), number: 5,
			says: []string{"with min_in_sync 0 of 1 mirrors the primary may acknowledge without any mirror",
				"the primary has been silent since 2026-11-23T01:00:00Z (1m30s): what it acknowledged without this mirror is not here"}},
		{name: "three nodes, min_in_sync 2, nobody reached: promised", view: with(mirrorB(2, bc...), unreached(nodeC)), promised: true, number: 5,
			says: []string{"not reached: gamma:1 (connection refused)"}},
		{name: "three nodes, min_in_sync 1, nobody reached", view: with(mirrorB(1, bc...), unreached(nodeC)), number: 5,
			says: []string{"1 other mirrors have to be reached and 0 were"}},
		{name: "three nodes, min_in_sync 1, the other reached: promised", view: with(mirrorB(1, bc...), reached(nodeC, bc...)), promised: true, number: 5,
			says: []string{"1 other mirror was reached and recorded epoch 5/000000000000000b first"}, fence: []op.NodeID{nodeC}},
		{name: "three nodes, min_in_sync 0, all reached: never promised", view: with(mirrorB(0, bc...), reached(nodeC, bc...)), number: 5,
			says: []string{"may acknowledge without any mirror"}, fence: []op.NodeID{nodeC}},
		{name: "four nodes, min_in_sync 1, one of two reached", view: with(mirrorB(1, bcd...), reached(nodeC, bcd...), unreached(nodeD)), number: 5,
			says: []string{"2 other mirrors have to be reached and 1 were"}, fence: []op.NodeID{nodeC}},
		{name: "one node by two addresses counts once", view: with(mirrorB(1, bcd...), reached(nodeC, bcd...),
			altered(reached(nodeC, bcd...), func(o *other) { o.Addr = "10.0.0.3:1" })), number: 5,
			says: []string{"1 were"}, fence: []op.NodeID{nodeC}},
		{name: "it does not count itself", view: with(mirrorB(1, bc...), reached(nodeB, bc...)), number: 5, says: []string{"0 were"}},
		{name: "a node that never was a mirror does not count", view: with(mirrorB(1, bc...), reached(nodeD, bc...)), number: 5,
			says: []string{"0 were"}, fence: []op.NodeID{nodeD}},
		{name: "an asynchronous mirror does not count", view: with(changed(mirrorB(1, bcd...), func(v *outlook) { v.Self.Policy.Members[1].Mode = "async" }),
			reached(nodeC, bcd...)), number: 5, says: []string{"with min_in_sync 1 of 2 mirrors, 1 other mirrors have to be reached and 0 were"}, fence: []op.NodeID{nodeC}},
		{name: "a mirror that the primary knew by address only counts", view: with(changed(mirrorB(1, bc...), func(v *outlook) { v.Self.Policy.Members[1].Node = 0 }),
			reached(nodeC, bc...)), promised: true, number: 5, fence: []op.NodeID{nodeC}},
		{name: "a new node knows nothing and is not fenced", view: with(mirrorB(1, bc...), other{Addr: "gamma:1", AskAnswer: wire.AskAnswer{Node: nodeC, Name: "gamma"}}), number: 5,
			says: []string{"gamma at gamma:1 is new and knows nothing of this volume"}},
		{name: "a foreign volume is left alone", view: with(mirrorB(1, bc...), altered(reached(nodeC, bc...), func(o *other) { o.Volume = "w" })), number: 5,
			says: []string{"gamma at gamma:1 keeps another volume (w): it was left alone"}},
		{name: "no policy was ever heard", view: mirrorB(0), number: 5, says: []string{"the primary's policy was never heard"}},

		{name: "not in sync", view: changed(mirrorB(1, nodeB), func(v *outlook) { v.Self.InSync, v.Self.Reason = false, "expelled by alpha" }), number: 5,
			refuse: "this mirror is not in sync: expelled by alpha", says: []string{"what may be lost: everything since this mirror left the in-sync set: expelled by alpha"}},
		{name: "not in sync since a known moment", view: changed(mirrorB(1, nodeB), func(v *outlook) { v.Self.InSync, v.Self.AsOf = false, v.Now.Add(-time.Hour) }), number: 5,
			refuse: "its replica is of 2026-11-23T00:01:30Z (1h0m0s old)", says: []string{"its replica is of 2026-11-23T00:01:30Z (1h0m0s old)"}},
		{name: "in the middle of a resync", view: changed(mirrorB(1, nodeB), func(v *outlook) { v.Self.InSync, v.Self.Mixed, v.Self.NotKept = false, true, "no reflinks" }), number: 5,
			refuse: "and its replica is mixed: parts of it are older than others, and nothing older is kept: no reflinks",
			says:   []string{"what may be lost: this replica is mixed", "nothing older is kept: no reflinks"}},
		{name: "in the middle of a resync, with a consistent state", view: changed(mirrorB(1, nodeB), keptSince(3*time.Minute)), number: 5,
			refuse: "a consistent state of 2026-11-23T00:58:30Z (3m0s old) is kept",
			says:   []string{"everything since 2026-11-23T00:58:30Z (3m0s old)", "the consistent state from before it is taken"}},
		{name: "the mixed state is asked for", view: changed(mirrorB(1, nodeB), func(v *outlook) { keptSince(3 * time.Minute)(v); v.Take = admin.TakeMixed }), number: 5,
			refuse: "is kept", says: []string{"what may be lost: this replica is mixed", "as you asked for"}},
		{name: "the primary lives", view: changed(mirrorB(1, nodeB), func(v *outlook) { v.Live = "alpha" }), number: 5,
			refuse: "the primary alpha is alive and connected: stop it first"},
		{name: "the primary answers", view: with(mirrorB(1, nodeB), altered(reached(nodeA, nodeB), func(o *other) { o.Role = string(Primary) })), number: 5,
			refuse: "alpha at alpha:1 is the primary and answers: stop it first", fence: []op.NodeID{nodeA}},
		{name: "AskOthers: another knows a set without it", view: with(mirrorB(1, bc...), reached(nodeC, nodeC)), number: 5,
			refuse: "gamma at gamma:1 knows an in-sync set without this mirror", fence: []op.NodeID{nodeC}},
		{name: "AskOthers: another knows a higher epoch", view: with(mirrorB(1, bc...), altered(reached(nodeC, bc...), func(o *other) { o.Epoch.Number = 7 })), number: 8,
			refuse: "knows a higher epoch, 7/000000000000000a", fence: []op.NodeID{nodeC}},
		{name: "EpochOwner: the same number of a higher owner is higher", view: with(mirrorB(1, bc...), altered(reached(nodeC, bc...), func(o *other) { o.Epoch.Owner = nodeD })), number: 5,
			refuse: "knows a higher epoch, 4/000000000000000d", fence: []op.NodeID{nodeC}},
		{name: "an own epoch that others recorded for an attempt before is no objection", view: with(mirrorB(1, bc...),
			altered(reached(nodeC, bc...), func(o *other) { o.Epoch = op.Epoch{Number: 5, Owner: nodeB} })), promised: true, number: 6, fence: []op.NodeID{nodeC}},
		{name: "FenceOthers: after the fence the epoch stays", view: changed(with(mirrorB(1, bc...),
			altered(reached(nodeC, bc...), func(o *other) { o.Epoch = op.Epoch{Number: 5, Owner: nodeB} })),
			func(v *outlook) { v.Taken = op.Epoch{Number: 5, Owner: nodeB} }), promised: true, number: 5, fence: []op.NodeID{nodeC},
			says: []string{"recorded epoch 5/000000000000000b first"}},
		{name: "FenceOthers: one that did not record it is not reached", view: changed(with(mirrorB(1, bc...), unreached(nodeC)),
			func(v *outlook) { v.Taken = op.Epoch{Number: 5, Owner: nodeB} }), number: 5, says: []string{"0 were"}},
		{name: "FenceOthers: one that refuses to record it objects", view: with(mirrorB(1, bc...), other{Addr: "gamma:1", Err: fmt.Errorf("call: %w",
			&wire.Refusal{Code: wire.CodeBusy, Message: "gamma knows an in-sync set without beta"})}), number: 5,
			refuse: "gamma:1 says no: gamma knows an in-sync set without beta"},
		{name: "another one took over since it was in sync", view: changed(mirrorB(2, bc...), func(v *outlook) {
			v.Self.Epoch, v.Self.ArchiveUntilJoined = op.Epoch{Number: 5, Owner: nodeC}, true
		}), number: 6, refuse: "node 000000000000000c took over with epoch 5/000000000000000c"},
		{name: "another one took over, and gave up", view: with(changed(mirrorB(2, bc...), func(v *outlook) {
			v.Self.Epoch, v.Self.ArchiveUntilJoined = op.Epoch{Number: 5, Owner: nodeC}, true
		}), reached(nodeC, bc...)), promised: true, number: 6, fence: []op.NodeID{nodeC}},
		{name: "never heard a primary", view: changed(mirrorB(0, nodeB), func(v *outlook) { v.Heard = time.Time{} }), number: 5,
			says: []string{"this node has never heard a primary"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rule(c.view)
			if r.Promised != c.promised {
				t.Errorf("promised %v, want %v: %q", r.Promised, c.promised, r.Text)
			}
			if got := strings.Join(r.Refuse, "; "); got == "" != (c.refuse == "") || !strings.Contains(got, c.refuse) {
				t.Errorf("refuses %q, want %q", got, c.refuse)
			}
			for _, says := range c.says {
				if !strings.Contains(strings.Join(r.Text, "\n"), says) {
					t.Errorf("text %q, want %q", r.Text, says)
				}
			}
			if want := (op.Epoch{Number: c.number, Owner: nodeB}); r.Epoch != want {
				t.Errorf("epoch %s, want %s", r.Epoch, want)
			}
			var fence []op.NodeID
			for _, o := range r.Fence {
				fence = append(fence, o.Node)
			}
			if !slices.Equal(fence, c.fence) {
				t.Errorf("fences %v, want %v", fence, c.fence)
			}
		})
	}
}

// TestWeaker: it is said when fewer mirrors than before have to have a barrier, or
// more of them need not.
func TestWeaker(t *testing.T) {
	policy := func(minInSync int, mirrors ...op.NodeID) wire.Policy {
		return wire.Policy{MinInSync: minInSync, Members: members(mirrors...)}
	}
	for _, c := range []struct {
		was, is wire.Policy
		weaker  bool
	}{
		{wire.Policy{}, policy(0, nodeB), false},
		{policy(1, nodeB), policy(1, nodeC), false},
		{policy(1, nodeB, nodeC), policy(1, nodeB), false},
		{policy(1, nodeB), policy(2, nodeB, nodeC), false},
		{policy(2, nodeB, nodeC), policy(1, nodeB, nodeC), true},
		{policy(1, nodeB), policy(0), true},
		{policy(1, nodeB), policy(1, nodeB, nodeC), true},
	} {
		if got := weaker(c.was, c.is); got != "" != c.weaker {
			t.Errorf("from %d of %d to %d of %d: %q, want %v", c.was.MinInSync, len(c.was.Members), c.is.MinInSync, len(c.is.Members), got, c.weaker)
		}
	}
}

// TestOvertakenIsShown: nobody reads that such a mirror is in sync.
func TestOvertakenIsShown(t *testing.T) {
	v := mirrorB(1, nodeB, nodeC)
	if s := describe(v.Self); !s.InSync {
		t.Errorf("a member of the set: %q", s.Why)
	}
	v.Self.Epoch, v.Self.ArchiveUntilJoined = op.Epoch{Number: 5, Owner: nodeC}, true
	if s := describe(v.Self); s.InSync || !strings.Contains(s.Why, "took over with epoch 5/") {
		t.Errorf("in sync %v: %q", s.InSync, s.Why)
	}
}
