package main

import (
	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
	"github.com/standbyfs/standbyfs/daemon"
)

func newMirrorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror REPLICA --listen HOST:PORT",
		Short: "Run a mirror: keep a copy that can take over",
		Long: `Run a mirror without a configuration file, in the foreground: keep REPLICA equal
to the primary that connects to --listen. On first use REPLICA must be empty; a
primary that was killed or deposed comes back with this verb.

What only a primary needs (--mirror, --sync, --min-in-sync, ...) is kept for the
day this node is promoted. One line on the standard output says that the mirror
listens. SIGTERM and SIGINT end it cleanly, a second one at once.

EXIT CODES
  0 the node was stopped cleanly
  1 the node could not start, or could not go on
  2 wrong use, or a setting is refused`,
		Args: arguments("REPLICA"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNode(cmd, config.Sources{Flags: cmd.Flags(), Arguments: map[string]string{
				config.KeyRole: string(daemon.Mirror), config.KeyReplica: args[0],
			}})
		},
	}
	config.AddFlags(cmd.Flags(), config.KeyRole, config.KeyReplica)
	return cmd
}
