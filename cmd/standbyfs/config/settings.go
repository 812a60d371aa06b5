// Package config is the configuration of a node: which keys there are, how a
// YAML file, the environment and flags are merged, and what is refused.
//
// Everything about one key stands in one row of Keys: loading, flags,
// variables, checks and the test of the example file all read that table.
// Values are text until the row's own parser has seen them, so that `5s` means
// the same wherever it was written.
package config

import (
	"strings"
	"time"
)

// MaxMirrors is how many mirrors one primary serves.
const MaxMirrors = 32

// Settings is a checked configuration.
type Settings struct {
	Name            string
	Role            string // "primary" or "mirror"
	Replica         string
	StateDir        string // "": beside the replica
	Mountpoint      string
	Listen          string
	Mirrors         []Mirror
	Sync            string // "op" or "barrier"
	Rules           []Rule
	AckTimeout      time.Duration
	Heartbeat       time.Duration
	MinInSync       int
	OnShortage      string // "block" or "fail"
	Ring            int64  // bytes
	CheckpointEvery time.Duration
	ResyncRate      int64         // bytes a second, 0: no limit
	VerifyRate      int64         // the same
	VerifyEvery     time.Duration // 0: never
	KeepConsistent  string        // "auto", "on" or "off"
	DivergenceLimit int64         // bytes
	TLS             TLS
	Insecure        bool
	Suid, Dev       bool
	Log             Log
	ShutdownTimeout time.Duration
}

// Mirror is one mirror of a primary.
type Mirror struct {
	Address string
	Mode    string // "sync" or "async"
}

// Rule gives paths a level of their own.
type Rule struct {
	Match string // a gitignore pattern
	Sync  string // "op", "barrier" or "local"
}

// TLS names certificates: a directory with ca.crt, node.crt and node.key, or
// the three files.
type TLS struct{ Dir, CA, Cert, Key string }

// Given reports whether there are any certificates.
func (t TLS) Given() bool { return t != TLS{} }

// Log says how the program logs.
type Log struct {
	Level  string // "debug", "info", "warn" or "error"
	Format string // "text" or "json"
}

// Key is one setting.
type Key struct {
	Name    string // as in the file; a dot stands for nesting
	Flag    string // without the dashes
	Kind    string // what a value looks like, for people
	Default string // "": unset
	Doc     string // one line
	List    bool   // may be given several times
	Switch  bool   // a flag that needs no value

	// parse reads a value and stores it. What it complains about is relative
	// to the key: "" the value itself, "[2].mode" a part of it.
	parse func(s *Settings, v any) []complaint
}

const envPrefix = "STANDBYFS_"

// Env is the variable that sets the key.
func (k *Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// The keys that a command may take as arguments instead of flags.
const (
	KeyRole       = "role"
	KeyReplica    = "replica"
	KeyMountpoint = "mountpoint"
)

// Keys lists all settings, in the order of the example file.
func Keys() []Key {
	return []Key{
		{Name: "name", Kind: "text", parse: text(func(s *Settings) *string { return &s.Name }),
			Doc: "how this node is called in messages; the host name if not given"},
		{Name: KeyRole, parse: choice(func(s *Settings) *string { return &s.Role }, "primary", "mirror"),
			Kind: "primary|mirror", Doc: "what this node starts as"},
		{Name: KeyReplica, Kind: "DIR", parse: text(func(s *Settings) *string { return &s.Replica }),
			Doc: "the plain directory this node keeps"},
		{Name: "state_dir", Flag: "state", Kind: "DIR", parse: text(func(s *Settings) *string { return &s.StateDir }),
			Doc: "where the node keeps its state; REPLICA.standbyfs if not given"},
		{Name: KeyMountpoint, Kind: "DIR", parse: text(func(s *Settings) *string { return &s.Mountpoint }),
			Doc: "where the primary mounts the volume"},
		{Name: "listen", Kind: "HOST:PORT", parse: address(func(s *Settings) *string { return &s.Listen }, true),
			Doc: "the address at which other nodes reach this one"},
		{Name: "mirrors", Flag: "mirror", Kind: "HOST:PORT[,async]", List: true, parse: mirrors,
			Doc: "a mirror of this primary; with ,async it is never waited for (repeatable)"},
		{Name: "sync", Default: "op", parse: choice(func(s *Settings) *string { return &s.Sync }, "op", "barrier"),
			Kind: "op|barrier", Doc: "wait for the mirrors at each change, or at fsync and changes of names only"},
		{Name: "rules", Flag: "rule", Kind: "GLOB=op|barrier|local", List: true, parse: rules,
			Doc: "a gitignore pattern whose paths have a level of their own; local is not mirrored (repeatable, the last match counts)"},
		{Name: "ack_timeout", Kind: "DURATION", Default: "5s", parse: duration(func(s *Settings) *time.Duration { return &s.AckTimeout }),
			Doc: "a mirror that does not answer for this long leaves the in-sync set"},
		{Name: "heartbeat", Kind: "DURATION", Default: "500ms", parse: duration(func(s *Settings) *time.Duration { return &s.Heartbeat }),
			Doc: "how often nodes give each other a sign of life"},
		{Name: "checkpoint_every", Kind: "DURATION", Default: "15s", parse: duration(func(s *Settings) *time.Duration { return &s.CheckpointEvery }),
			Doc: "how often a node syncs its replica and forgets what need not be compared after a crash"},
		{Name: "min_in_sync", Kind: "NUMBER", Default: "0", parse: count(func(s *Settings) *int { return &s.MinInSync }),
			Doc: "how many mirrors must be in sync for a change to be acknowledged; 0 goes on alone"},
		{Name: "on_shortage", Default: "block", parse: choice(func(s *Settings) *string { return &s.OnShortage }, "block", "fail"),
			Kind: "block|fail", Doc: "what calls do while fewer than min_in_sync mirrors are in sync"},
		{Name: "ring", Kind: "SIZE", Default: "64MiB", parse: size(func(s *Settings) *int64 { return &s.Ring }, 1<<20),
			Doc: "memory for changes that a mirror may still need after a short interruption"},
		{Name: "resync_rate", Kind: "SIZE/s", Default: "0", parse: speed(func(s *Settings) *int64 { return &s.ResyncRate }),
			Doc: "how many bytes of files a second are read to bring mirrors level, all of them together; 0 is no limit"},
		{Name: "verify_rate", Kind: "SIZE/s", Default: "0", parse: speed(func(s *Settings) *int64 { return &s.VerifyRate }),
			Doc: "how many bytes of files a second a verify reads; 0 is no limit"},
		{Name: "verify_every", Kind: "DURATION", Default: "0", parse: interval(func(s *Settings) *time.Duration { return &s.VerifyEvery }),
			Doc: "how often the primary verifies all replicas by itself, such as 7d; 0 is never"},
		{Name: "keep_consistent", Default: "auto", parse: choice(func(s *Settings) *string { return &s.KeepConsistent }, "auto", "on", "off"),
			Kind: "auto|on|off", Doc: "keep a mirror's last consistent state during a resync, by reflinks (XFS, btrfs); on refuses a resync without"},
		{Name: "divergence_limit", Kind: "SIZE", Default: "10GiB", parse: size(func(s *Settings) *int64 { return &s.DivergenceLimit }, 1<<20),
			Doc: "how much is kept of what this node alone may have before a resync overwrites it; beyond, nothing is overwritten"},
		{Name: "tls.dir", Flag: "tls", Kind: "DIR", parse: text(func(s *Settings) *string { return &s.TLS.Dir }),
			Doc: "directory with ca.crt, node.crt and node.key, as standbyfs ca issue makes it"},
		{Name: "tls.ca", Kind: "FILE", parse: text(func(s *Settings) *string { return &s.TLS.CA }),
			Doc: "certificate of the authority that admits nodes, instead of tls.dir"},
		{Name: "tls.cert", Kind: "FILE", parse: text(func(s *Settings) *string { return &s.TLS.Cert }),
			Doc: "certificate of this node, instead of tls.dir"},
		{Name: "tls.key", Kind: "FILE", parse: text(func(s *Settings) *string { return &s.TLS.Key }),
			Doc: "private key of this node, instead of tls.dir"},
		{Name: "insecure", Default: "false", Switch: true, parse: boolean(func(s *Settings) *bool { return &s.Insecure }),
			Kind: "true|false", Doc: "speak plain TCP beyond loopback: only on a network that is yours alone"},
		{Name: "suid", Default: "false", Switch: true, parse: boolean(func(s *Settings) *bool { return &s.Suid }),
			Kind: "true|false", Doc: "let set-user-ID bits take effect under the mount point"},
		{Name: "dev", Default: "false", Switch: true, parse: boolean(func(s *Settings) *bool { return &s.Dev }),
			Kind: "true|false", Doc: "let device files take effect under the mount point"},
		{Name: "log.level", Default: "info", parse: choice(func(s *Settings) *string { return &s.Log.Level }, "debug", "info", "warn", "error"),
			Kind: "debug|info|warn|error", Doc: "what is logged, from this level up"},
		{Name: "log.format", Default: "text", parse: choice(func(s *Settings) *string { return &s.Log.Format }, "text", "json"),
			Kind: "text|json", Doc: "how it is logged"},
		{Name: "shutdown_timeout", Kind: "DURATION", Default: "10s", parse: duration(func(s *Settings) *time.Duration { return &s.ShutdownTimeout }),
			Doc: "bounds each half of a clean stop: to unmount, and to bring the mirrors level"},
	}
}

// FlagName is the key's flag without the dashes.
func (k *Key) FlagName() string {
	if k.Flag != "" {
		return k.Flag
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name)
}
