package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
)

// MaxPeers is how many mirrors one primary serves: a ring entry addresses them
// with one bit each.
const MaxPeers = 32

// Level says for which ops a call waits for the mirrors.
type Level string

const (
	// SyncOp: a call returns only when every in-sync mirror has applied the op.
	SyncOp Level = "op"
	// SyncBarrier: plain data writes return once ordered; barriers and changes
	// of the name space wait for all that came before them, on all files.
	SyncBarrier Level = "barrier"
	// SyncLocal: not mirrored at all.
	SyncLocal Level = "local"
)

// Shortage says what calls do while fewer than MinInSync mirrors are in sync.
type Shortage string

const (
	// ShortageBlock: calls wait, interruptibly, until there are enough.
	ShortageBlock Shortage = "block"
	// ShortageFail: calls fail with op.ErrShortage.
	ShortageFail Shortage = "fail"
)

// Rule gives the paths that a gitignore pattern matches a level of their own.
// Of several rules that match, the last one counts.
type Rule struct {
	Match string
	Sync  Level
}

// PeerConfig names one mirror.
type PeerConfig struct {
	Addr  string
	Async bool // never waited for and never in the in-sync set
	// Paused: an operator has paused its resyncs, in an earlier line.
	Paused bool
}

// Register keeps the decisions that acknowledgements rest on. Today it is the
// primary's state file; a replicated register takes its place in a cluster.
type Register interface {
	// Decide records set as the in-sync set and returns once that is durable
	// (RULES.md 5, ExpelFirst). In the same transaction the map of the node that
	// has joined, if it is not 0, is emptied (RULES.md 10, SetBeforeMember).
	Decide(ctx context.Context, set []op.NodeID, joined op.NodeID) error
}

// Meetings numbers the meetings with mirrors, by which one is found out whose state
// was restored from a backup, or is a copy.
type Meetings interface {
	// Met returns the number of the last meeting; 0: there was none.
	Met(n op.NodeID) uint64
	// Meet records a number.
	Meet(n op.NodeID, number uint64) error
}

// Source is the file system whose ops are mirrored, as repair needs it.
type Source interface {
	// Hold runs fn while no change of the object at path can be ordered: not of
	// its data, its attributes or, for a directory, its entries. Deferred times
	// of the object are committed first. Nothing needs to be there.
	Hold(path string, fn func() error) error
	// HoldNames is Hold for several children of a directory at once.
	HoldNames(dir string, names []string, fn func() error) error
	// HoldAll runs fn while no op at all is under way.
	HoldAll(fn func() error) error
	// FlushTimes orders all times that were deferred, and waits for them.
	FlushTimes(ctx context.Context) error
	// Mend runs fn while no op at all is ordered. fn may change what is at path in
	// the replica. What programs have open goes on.
	Mend(path string, fn func() error) error
}

// Config is what one line of a reign needs. All fields but the functions'
// users, Rules, Peers and Set are required.
type Config struct {
	Line   op.Line
	Volume string
	Self   op.NodeID
	Name   string
	Tree   *tree.Tree

	Sync       Level
	Rules      []Rule
	MinInSync  int
	OnShortage Shortage

	// AckTimeout bounds how long an op waits for a mirror before that mirror
	// is expelled. Heartbeat is the interval of signs of life.
	AckTimeout time.Duration
	Heartbeat  time.Duration
	// RingBytes bounds the memory for ops that a peer may still need.
	RingBytes int64
	// ResyncRate and VerifyRate bound how many bytes of files a second all
	// resyncs together, and a verify, read here and have mirrors read. 0 is no
	// limit.
	ResyncRate, VerifyRate int64

	Peers []PeerConfig
	Dial  func(ctx context.Context, addr string) (*wire.Session, error)
	// DialBulk makes the session by which a node is asked for what it has.
	DialBulk func(ctx context.Context, addr string) (*wire.Session, error)

	// Follows is where the line before this one ended, if it was drained and
	// nothing was changed since. A mirror at just that position resumes.
	Follows *op.Position

	// Set is the in-sync set as the last line of this reign left it. Its
	// members must come back or be expelled before anything is acknowledged
	// (RULES.md 11).
	Set      []op.NodeID
	Register Register
	// Regions is what the node knows of its hot and its mirrors' stale regions.
	// Without it each repair compares everything.
	Regions *region.Store
	// Meetings may be nil: then nobody is found out.
	Meetings Meetings
	// CheckpointEvery is the time between two looks for regions that need not be
	// compared any more.
	CheckpointEvery time.Duration

	Software string
	Logger   *slog.Logger
	// Event reports what an operator should know of, once each.
	Event func(kind, text string)
	// Failed, if not nil, hears of a sync of the replica that has failed: the
	// disk may have lost what was written. It must not wait.
	Failed func(error)
	// Fenced is called once when a higher epoch was heard of. No op is
	// acknowledged any more when it is called.
	Fenced func(epoch op.Epoch, by string)
}

// check returns an error that names the first field that cannot be right.
func (c *Config) check() error {
	switch {
	case len(c.Peers) > MaxPeers:
		return fmt.Errorf("%d mirrors: at most %d are possible", len(c.Peers), MaxPeers)
	case c.Sync != SyncOp && c.Sync != SyncBarrier:
		return fmt.Errorf("sync %q: want %s or %s", c.Sync, SyncOp, SyncBarrier)
	case c.OnShortage != ShortageBlock && c.OnShortage != ShortageFail:
		return fmt.Errorf("on_shortage %q: want %s or %s", c.OnShortage, ShortageBlock, ShortageFail)
	case c.AckTimeout <= 0 || c.Heartbeat <= 0:
		return fmt.Errorf("ack_timeout %v, heartbeat %v: both must be above zero", c.AckTimeout, c.Heartbeat)
	case c.Regions != nil && c.CheckpointEvery <= 0:
		return fmt.Errorf("checkpoint_every %v: must be above zero", c.CheckpointEvery)
	case c.RingBytes < 1<<20:
		return fmt.Errorf("ring of %d bytes: at least 1MiB is needed to hold one write", c.RingBytes)
	case c.ResyncRate < 0 || c.VerifyRate < 0:
		return fmt.Errorf("resync_rate %d, verify_rate %d: want no negative values", c.ResyncRate, c.VerifyRate)
	}
	synced := 0
	for _, p := range c.Peers {
		if !p.Async {
			synced++
		}
	}
	if c.MinInSync < 0 || c.MinInSync > synced {
		return fmt.Errorf("min_in_sync %d: there are %d synchronous mirrors", c.MinInSync, synced)
	}
	return nil
}
