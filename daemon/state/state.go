// Package state is what a node remembers: of itself, of its volume, and of the
// regions that differ elsewhere. A stop, a crash or a power loss leaves all that
// was recorded before.
//
//	state.go    what is remembered of the node and its volume
//	verify.go   what the last verify has found
//	record.go   how that stands in a transaction
//	store.go    it is kept, and changed a transaction at a time
//	file.go     the one file that it is in: made, locked, and read as a whole first
//	guarded.go  a file that goes bad while it is in use
//	events.go   what has happened to the node
//	doubt.go    a replica whose disk has failed
//	meeting.go  how often it has met others: whether it or they have gone back
//	lock.go     that the node alone uses its replica, and that it is the right one
//	reset.go    beginning anew
//
// Regions stand in the same file; package region sees to them.
package state

import (
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// Role is what a node does for its volume.
type Role string

const (
	NoRole  Role = "" // fresh: neither adopted a directory nor heard a primary
	Primary Role = "primary"
	Mirror  Role = "mirror"
)

// State is what a node durably knows of itself and its volume (RULES.md, "What
// every node keeps durably").
type State struct {
	Volume string    `json:"volume"` // UUID; "" until the node has one
	Node   op.NodeID `json:"node"`   // never zero
	Name   string    `json:"name"`

	Epoch   op.Epoch     `json:"epoch"`   // the highest one seen
	History []EpochStart `json:"history"` // oldest first; the last one is Epoch
	Role    Role         `json:"role"`
	// InSync says that this mirror holds every op that was acknowledged since
	// it joined. Only the stream's own Join entry sets it.
	InSync bool   `json:"in_sync"`
	Reason string `json:"reason"` // why not in sync
	// Set is the in-sync set: as decided on the primary, as last heard in the
	// stream on a mirror.
	Set []op.NodeID `json:"set"`
	// ArchiveUntilJoined is set together with an epoch of somebody else: from
	// then on until the node has joined, what a resync overwrites here may be
	// the only copy (RULES.md 7, ArchiveDurable).
	ArchiveUntilJoined bool `json:"archive_until_joined"`
	// Incarnation grows with each start as a primary, by a step that is drawn: copies
	// of a state must not begin the same line (RULES.md 11, NewLine).
	Incarnation uint64 `json:"incarnation"`

	Policy       wire.Policy `json:"policy"`        // as last heard, or set on the primary
	PrimaryName  string      `json:"primary_name"`  // as last heard
	PrimaryHeard time.Time   `json:"primary_heard"` // behind the truth by up to a minute

	// Mixed says that a resync has begun to change this mirror's replica and has
	// not come to its end: the replica is of no single moment. Otherwise it is as
	// it was at AsOf, or later by up to a minute; zero if it never was consistent.
	Mixed bool      `json:"mixed"`
	AsOf  time.Time `json:"as_of,omitzero"`
	// Kept is the consistent state from before, nil if there is none, and NotKept
	// why (daemon/keep). Exchange takes it for the replica's.
	Kept     *Kept     `json:"kept,omitempty"`
	NotKept  string    `json:"not_kept,omitempty"`
	Exchange *Exchange `json:"exchange,omitempty"`

	ReplicaIno  uint64    `json:"replica_ino"`  // of the replica's root directory; 0 until claimed
	ReplicaBorn time.Time `json:"replica_born"` // its birth; zero where the file system keeps none

	// Paused are the addresses of mirrors whose resyncs the operator has paused.
	Paused []string `json:"paused,omitempty"`
	// LastVerify is what the last verify of this reign has found; nil: none was.
	LastVerify *LastVerify `json:"last_verify,omitempty"`

	// Adopts says that a node without a volume may become a mirror with what its
	// replica holds: that is compared in full.
	Adopts bool `json:"adopts,omitempty"`
	// Doubted says that the disk has failed, so that the page cache may show of
	// hot regions what the disk does not have (doubt.go).
	Doubted bool `json:"doubted,omitempty"`

	// Met numbers the meetings with other nodes (meeting.go).
	Met map[op.NodeID]uint64 `json:"met,omitempty"`

	// Stopped is where a clean stop left the node. It is gone before the replica
	// changes again.
	Stopped *Stopped `json:"stopped,omitempty"`
}

// Stopped is the position of a node that was stopped cleanly: its replica is on
// stable storage, and has every op up to there and nothing else.
type Stopped struct {
	Line   op.Line `json:"line"`
	LSN    op.LSN  `json:"lsn"`
	Offset uint64  `json:"offset"` // of the line's op frames up to LSN
	Commit op.LSN  `json:"commit"`
	Strict bool    `json:"strict"`
	Member bool    `json:"member"` // it was in sync
}

// Kept is a consistent state beside a replica that is not.
type Kept struct {
	AsOf    time.Time `json:"as_of"` // the moment of which it is
	Made    time.Time `json:"made"`
	Objects int       `json:"objects"`
}

// Exchange is the replacement of a replica's content by the one that was kept,
// from its first step to its last.
type Exchange struct {
	Aside string  `json:"aside"` // name of the mixed content in the state directory
	Root  op.Attr `json:"root"`  // of the kept root, which the moves change
	In    bool    `json:"in"`
}

// EpochStart says when a reign began.
type EpochStart struct {
	Epoch op.Epoch  `json:"epoch"`
	First op.LSN    `json:"first"` // the first LSN this node could see of it
	When  time.Time `json:"when"`
}

// Overtaken reports whether another node had this mirror record its epoch since it
// was in sync: that one may reign, and has not brought it level.
func (s *State) Overtaken() bool { return s.InSync && s.ArchiveUntilJoined }

// See records an epoch in s. Of an epoch that is new to a node with a past and
// belongs to somebody else, a resync may overwrite what only this node has.
func (s *State) See(e op.Epoch, first op.LSN, when time.Time) {
	if e.Compare(s.Epoch) <= 0 {
		return
	}
	if s.Epoch != (op.Epoch{}) && e.Owner != s.Node {
		s.ArchiveUntilJoined = true
	}
	s.Epoch = e
	s.History = append(s.History, EpochStart{Epoch: e, First: first, When: when})
}

// Deposed reports whether the node once was the primary and has not joined
// since another one took over.
func (s *State) Deposed() bool {
	if s.Role != Mirror || !s.ArchiveUntilJoined || s.Epoch.Owner == s.Node {
		return false
	}
	return slices.ContainsFunc(s.History, func(e EpochStart) bool { return e.Epoch.Owner == s.Node })
}

// Level records that the replica is consistent, as of now.
func (s *State) Level(now time.Time) { s.Mixed, s.AsOf, s.Kept = false, now.UTC(), nil }

// Clone returns a copy of s. What the two share is replaced as a whole, and never
// changed.
func (s *State) Clone() State {
	c := *s
	c.History = slices.Clone(s.History)
	c.Set = slices.Clone(s.Set)
	c.Paused = slices.Clone(s.Paused)
	c.Policy.Set = slices.Clone(s.Policy.Set)
	c.Policy.Border = slices.Clone(s.Policy.Border)
	c.Policy.Members = slices.Clone(s.Policy.Members)
	if s.Stopped != nil {
		stopped := *s.Stopped
		c.Stopped = &stopped
	}
	return c
}
