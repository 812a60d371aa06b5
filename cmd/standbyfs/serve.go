package main

import (
	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
)

type serveOptions struct {
	file string
}

func newServeCommand() *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run a node from its configuration file, in either role",
		Long: `Run a node from its YAML file, as a primary or as a mirror, in the foreground.

The file is checked as a whole before anything starts; standbyfs.example.yaml
explains every key. Each key is also a STANDBYFS_... variable and a flag; flags
win over variables, and both win over the file. One line on the standard output
says that the node is ready. SIGTERM and SIGINT end it cleanly, a second one at
once.

EXIT CODES
  0 the node was stopped cleanly
  1 the node could not start, or could not go on
  2 wrong use, or the configuration is refused`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.file == "" {
				return misuse(cmd, "the configuration is missing: -c FILE")
			}
			return runNode(cmd, config.Sources{File: opts.file, Flags: cmd.Flags()})
		},
	}
	cmd.Flags().StringVarP(&opts.file, "config", "c", "", "the configuration `FILE`")
	config.AddFlags(cmd.Flags())
	return cmd
}
