package daemon

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// Role is what a node does for its volume.
type Role = state.Role

// A node is started in one of these.
const (
	Primary = state.Primary
	Mirror  = state.Mirror
)

// Config is one node, either role.
type Config struct {
	// Replica is the plain directory that this node keeps. It must exist.
	Replica string
	// StateDir holds the node's state; "" is DefaultStateDir(Replica). It is
	// made when it is not there.
	StateDir string
	// Role is what the node starts as. A mirror can become a primary while it
	// runs, by promotion; a primary never becomes a mirror without a restart.
	Role Role
	// Mountpoint is where a primary mounts the volume. It must exist.
	Mountpoint string
	// Listen is the HOST:PORT at which peers reach this node. A mirror needs
	// one; a primary without one cannot be asked or fenced from outside.
	Listen string
	// Name is how this node is called in messages; "" is the host name.
	Name string

	// Mirror is how a primary mirrors. A mirror keeps it for its promotion.
	Mirror Mirroring

	// KeepConsistent says whether a mirror keeps its last consistent state during a
	// resync; "" is keep.Auto.
	KeepConsistent keep.Mode

	// TLS admits peers; nil is plain TCP, which is refused beyond loopback
	// unless Insecure is set.
	TLS      *wire.TLS
	Insecure bool

	// Suid and Dev let set-user-ID bits and device files of the volume take
	// effect under the mount point.
	Suid, Dev bool

	// StopTimeout bounds each half of a clean stop of a primary: to unmount,
	// and to bring the mirrors level with a last barrier. 0 is 10 s.
	StopTimeout time.Duration

	// DivergenceLimit bounds what a mirror keeps of what it alone may have, in
	// bytes; 0 is 10 GiB.
	DivergenceLimit int64

	// Waits, if not nil, is called before what is likely to wait for the replica's
	// disk; see package processors.
	Waits func()

	// Version is the program's, as peers and status show it.
	Version string
	Logger  *slog.Logger
	// Ready is called once, when the node serves, with a line for its user.
	Ready func(line string)
}

// Mirroring is the policy of a primary; mirror.Config says what each field
// means. The zero value of each but Peers, Rules and MinInSync stands for its
// default.
type Mirroring struct {
	Sync       mirror.Level    // default op
	Rules      []mirror.Rule   //
	AckTimeout time.Duration   // default 5 s
	Heartbeat  time.Duration   // default 1 s
	MinInSync  int             // default 0: go on alone
	OnShortage mirror.Shortage // default block
	RingBytes  int64           // default 256 MiB
	// CheckpointEvery is how often a node syncs its replica and forgets what need
	// not be compared any more after a crash. Default 15 s.
	CheckpointEvery time.Duration
	ResyncRate      int64 // default 0: no limit
	VerifyRate      int64 // default 0: no limit
	// VerifyEvery is how long after a verify the primary begins the next one by
	// itself. 0: never.
	VerifyEvery time.Duration
	Peers       []mirror.PeerConfig
}

// DefaultStateDir is where a node keeps its state unless it is told otherwise:
// beside the replica, never in it.
func DefaultStateDir(replica string) string {
	return filepath.Clean(replica) + ".standbyfs"
}
