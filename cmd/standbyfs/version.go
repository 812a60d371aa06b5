package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/wire"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of the program and of its protocol",
		Long: `Show the version of the program, of the protocol it speaks with other nodes, and
of what it was built with.

EXIT CODES
  0 always; 2 wrong use`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sayLine(cmd.OutOrStdout(), "standbyfs %s, protocol %d, %s %s/%s",
				version(), wire.Protocol, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// version is what the Go tool recorded when it built the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
