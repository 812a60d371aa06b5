package main

import (
	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
	"github.com/standbyfs/standbyfs/daemon"
)

func newMountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mount REPLICA MOUNTPOINT [--mirror HOST:PORT]... [--sync op|barrier]",
		Short: "Run a primary: mount a directory and mirror its changes",
		Long: `Run a primary without a configuration file, in the foreground: mount the plain
directory REPLICA on MOUNTPOINT and mirror every change to each --mirror.
Without one nothing is mirrored.

The first start adopts what is in REPLICA and brings its mirrors level. One line
on the standard output says that the mount answers. SIGTERM and SIGINT unmount
cleanly, with a last barrier; a second one ends the program at once.

EXIT CODES
  0 the node was stopped cleanly
  1 the node could not start, or could not go on
  2 wrong use, or a setting is refused`,
		Args: arguments("REPLICA", "MOUNTPOINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNode(cmd, config.Sources{Flags: cmd.Flags(), Arguments: map[string]string{
				config.KeyRole: string(daemon.Primary), config.KeyReplica: args[0], config.KeyMountpoint: args[1],
			}})
		},
	}
	config.AddFlags(cmd.Flags(), config.KeyRole, config.KeyReplica, config.KeyMountpoint)
	return cmd
}
