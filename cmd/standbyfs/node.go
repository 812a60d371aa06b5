package main

import (
	"fmt"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/daemon/processors"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// runNode runs a node in the foreground until a signal comes or it cannot go
// on.
func runNode(cmd *cobra.Command, from config.Sources) error {
	settings, err := config.Load(from)
	if err != nil {
		return cannot(err)
	}
	cfg, err := nodeConfig(settings)
	if err != nil {
		return cannot(err)
	}
	if err := becomeDaemon(); err != nil {
		return err
	}
	cfg.Version = version()
	cfg.Logger = newLogger(cmd.ErrOrStderr(), settings.Log)
	if cfg.Role == daemon.Mirror || len(cfg.Mirror.Peers) > 0 {
		cfg.Waits = processors.Share().Wait
		if err := processors.Calm(); err != nil {
			cfg.Logger.Warn("each op will cost more than it has to", "error", err)
		}
	}
	cfg.Ready = func(line string) {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
			cfg.Logger.Warn("nobody reads the line that says the node is ready", "line", line, "error", err)
		}
	}
	return daemon.Run(cmd.Context(), cfg)
}

// becomeDaemon prepares the process for the work of a node.
func becomeDaemon() error {
	// Modes come from the kernel or from the primary, with the writer's umask
	// applied already.
	unix.Umask(0)
	// A closed pipe at the standard output must not end a node that prints its
	// second ready line when it is promoted.
	signal.Ignore(unix.SIGPIPE)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	files.Cur = files.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", files.Max, err)
	}
	return nil
}

// nodeConfig turns checked settings into what a node takes.
func nodeConfig(s *config.Settings) (daemon.Config, error) {
	cfg := daemon.Config{
		Replica: s.Replica, StateDir: s.StateDir, Role: daemon.Role(s.Role), Mountpoint: s.Mountpoint,
		Listen: s.Listen, Name: s.Name, Insecure: s.Insecure, Suid: s.Suid, Dev: s.Dev, StopTimeout: s.ShutdownTimeout,
		DivergenceLimit: s.DivergenceLimit, KeepConsistent: keep.Mode(s.KeepConsistent),
		Mirror: daemon.Mirroring{
			Sync: mirror.Level(s.Sync), AckTimeout: s.AckTimeout, Heartbeat: s.Heartbeat,
			MinInSync: s.MinInSync, OnShortage: mirror.Shortage(s.OnShortage), RingBytes: s.Ring,
			CheckpointEvery: s.CheckpointEvery,
			ResyncRate:      s.ResyncRate, VerifyRate: s.VerifyRate, VerifyEvery: s.VerifyEvery,
		},
	}
	for _, r := range s.Rules {
		cfg.Mirror.Rules = append(cfg.Mirror.Rules, mirror.Rule{Match: r.Match, Sync: mirror.Level(r.Sync)})
	}
	for _, m := range s.Mirrors {
		cfg.Mirror.Peers = append(cfg.Mirror.Peers, mirror.PeerConfig{Addr: m.Address, Async: m.Mode == "async"})
	}
	var err error
	switch {
	case s.TLS.Dir != "":
		cfg.TLS, err = wire.LoadTLS(s.TLS.Dir)
	case s.TLS.Given():
		cfg.TLS, err = wire.LoadTLSFiles(s.TLS.CA, s.TLS.Cert, s.TLS.Key)
	}
	return cfg, err
}
