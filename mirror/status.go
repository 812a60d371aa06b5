package mirror

import (
	"context"
	"fmt"
	"log/slog"
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
	Gauge
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

// Gauge is how far something has come that looks at files.
type Gauge struct {
	Done  uint64        `json:"done_bytes"`  // compared or sent
	Total uint64        `json:"total_bytes"` // as counted when it began; 0 while still counting
	Rate  float64       `json:"bytes_per_second"`
	Left  time.Duration `json:"left"` // estimate; 0 while unknown
}

// Progress is how far a resync has come.
type Progress struct {
	Gauge
	Sent  uint64 `json:"sent_bytes"` // frames of this repair put on the wire
	Paths uint64 `json:"paths"`
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

// Status returns how things stand.
func (l *Log) Status() Status {
	commit, _ := l.sync.committed()
	s := Status{Line: l.cfg.Line, Commit: commit, Set: l.sync.set(), MinInSync: l.cfg.MinInSync, Shortage: l.sync.short()}
	if r := l.fence.raised.Load(); r != nil {
		s.Fenced = &r.epoch
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.LSN = l.ring.next - 1
	if l.verify != nil {
		s.Verify = l.verify.progress()
	}
	for _, p := range l.peers {
		s.Peers = append(s.Peers, p.status())
	}
	return s
}

// WaitInSync returns once n connected mirrors are in sync.
func (l *Log) WaitInSync(ctx context.Context, n int) error {
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		s := l.Status()
		have := 0
		for _, p := range s.Peers {
			if p.InSync && p.Connected {
				have++
			}
		}
		if have >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d mirrors in sync: %w", have, n, context.Cause(ctx))
		}
	}
}

// changed tells everybody who waits for news of the status.
func (l *Log) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.news)
	l.news = make(chan struct{})
}

// event reports to the operator.
func (l *Log) event(kind, text string) {
	level := slog.LevelWarn
	if kind == "joined" || kind == "resync" {
		level = slog.LevelInfo
	}
	l.cfg.Logger.Log(context.Background(), level, text, "event", kind)
	l.cfg.Event(kind, text)
}
