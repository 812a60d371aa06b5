package mirror

import (
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// PeerState names what a peer's goroutine is doing.
type PeerState string

const (
	StateConnecting PeerState = "connecting"
	StateRefused    PeerState = "refused"
	StateResync     PeerState = "resync"
	StateCatchingUp PeerState = "catching up"
	StateInSync     PeerState = "in sync"
	StateAsync      PeerState = "async"
)

// Status is the primary's side of mirroring at one moment.
type Status struct {
	Line      op.Line      `json:"line"`
	LSN       op.LSN       `json:"lsn"`
	Commit    op.LSN       `json:"commit"`
	Set       []op.NodeID  `json:"in_sync_set"`
	MinInSync int          `json:"min_in_sync"`
	Shortage  bool         `json:"shortage"`
	Fenced    *op.Epoch    `json:"fenced,omitempty"`
	Peers     []PeerStatus `json:"peers"`
	Verify    *Verifying   `json:"verify,omitempty"` // the one that runs
}

// Verifying is how far a verify has come.
type Verifying struct {
	Began time.Time `json:"began"`
	Files uint64    `json:"files"`
	Bytes uint64    `json:"bytes"`
}

// PeerStatus is one mirror as the primary sees it.
type PeerStatus struct {
	Node      op.NodeID `json:"node"`
	Name      string    `json:"name"`
	Addr      string    `json:"addr"`
	Async     bool      `json:"async"`
	Connected bool      `json:"connected"`
	InSync    bool      `json:"in_sync"`
	State     PeerState `json:"state"`
	// Reason is why the peer is not in sync, or why its last session ended.
	Reason    string    `json:"reason,omitempty"`
	Applied   op.LSN    `json:"applied"`
	Durable   op.LSN    `json:"durable"`
	LagBytes  uint64    `json:"lag_bytes"`
	LastHeard time.Time `json:"last_heard"`
	// Resyncs and Resumes count how sessions of this process began.
	Resyncs uint64    `json:"resyncs"`
	Resumes uint64    `json:"resumes"`
	Resync  *Progress `json:"resync,omitempty"`
	// Paused: the operator has paused resyncs of this mirror.
	Paused bool `json:"paused,omitempty"`
}

// Progress is how far a resync has come.
type Progress struct {
	Done  uint64        `json:"done_bytes"`  // compared or sent
	Total uint64        `json:"total_bytes"` // as counted when it began; 0 while still counting
	Sent  uint64        `json:"sent_bytes"`  // frames of this repair put on the wire
	Rate  float64       `json:"bytes_per_second"`
	Left  time.Duration `json:"left"` // estimate; 0 while unknown
	Paths uint64        `json:"paths"`
}

// VerifyReport is the outcome of comparing every replica with the primary.
type VerifyReport struct {
	LSN   op.LSN       `json:"lsn"` // position of the last comparison
	Files uint64       `json:"files"`
	Bytes uint64       `json:"bytes"`
	Peers []PeerVerify `json:"peers"`
	// Replicas is how many there are, the primary's included, whether they were
	// compared or not.
	Replicas int `json:"replicas"`
	// Items are the differences with who has which version, if that was asked for.
	Items []Item `json:"items,omitempty"`
}

// PeerVerify is one replica's part of a VerifyReport.
type PeerVerify struct {
	Name        string    `json:"name"`
	Node        op.NodeID `json:"node"`
	Checked     bool      `json:"checked"`
	Reason      string    `json:"reason,omitempty"` // why it was not checked to the end
	Differences []string  `json:"differences"`
}
