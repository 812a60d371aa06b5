package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "standbyfs",
		Short: "A directory with live copies",
		Long: `standbyfs mounts a plain directory, mirrors every change synchronously and in
order to other machines, and serves any of the copies when the first machine is
gone.

To try it on one machine, where no certificates are needed:

  standbyfs mirror /srv/copy --listen 127.0.0.1:7421
  standbyfs mount /srv/data /mnt/data --mirror 127.0.0.1:7421

EXIT CODES
  0 done, 1 a verb's own "no", 2 wrong use; each verb's help has its own.`,
		SilenceErrors: true, // main prints them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownVerb(cmd, args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse(cmd, "%v", err)
	})
	root.AddCommand(
		newServeCommand(),
		newMountCommand(),
		newMirrorCommand(),
		newStatusCommand(),
		newWaitCommand(),
		newVerifyCommand(),
		newDigestCommand(),
		newResyncCommand(),
		newPromoteCommand(),
		newDivergenceCommand(),
		newStateCommand(),
		newConfigCommand(),
		newCACommand(),
		newVersionCommand(),
	)
	return root
}

func unknownVerb(cmd *cobra.Command, verb string) error {
	meant := ""
	if near := cmd.SuggestionsFor(verb); len(near) > 0 {
		meant = fmt.Sprintf(`: did you mean "%s"?`, strings.Join(near, `" or "`))
	}
	return misuse(cmd, "there is no verb %q%s", verb, meant)
}

// misuse is the error of a command line that does not fit a verb.
func misuse(cmd *cobra.Command, format string, args ...any) error {
	return cannot(fmt.Errorf("%s (see `%s --help`)", fmt.Sprintf(format, args...), cmd.CommandPath()))
}

// arguments checks that a verb has its arguments, by name.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misuse(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return misuse(cmd, "%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// group is a verb that has verbs below it.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownVerb(cmd, args[0])
	}
	cmd.AddCommand(verbs...)
	return cmd
}
