package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/admin"
)

func newResyncCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "resync pause|resume NODE [MIRROR]",
		Short: "Hold up what makes mirrors level, or let it go on",
		Long: `Hold up what a primary reads and sends to make mirrors level, or let it go on.

EXIT CODES
  stand in the help of its verbs; 2 wrong use`,
	},
		newPauseCommand(true, "pause", "Hold up what makes mirrors level", `Hold up what a primary reads and sends to make mirrors level. Changes go on to
reach them; a mirror that is behind stays so, and cannot be promoted, until
'standbyfs resync resume'. A restart of the primary changes nothing about it.`),
		newPauseCommand(false, "resume", "Go on making mirrors level", `Go on where 'standbyfs resync pause' has stopped.`))
}

func newPauseCommand(pause bool, verb, short, long string) *cobra.Command {
	var opts finder
	cmd := &cobra.Command{
		Use:   verb + " NODE [MIRROR]",
		Short: short,
		Long: long + `

MIRROR is the name or the address of one, as status shows it; without it all are
meant.

` + findHelp + `

EXIT CODES
  0 done
  1 there is no such mirror, or it could not be recorded
  2 wrong use, or no primary runs there`,
		Args: func(cmd *cobra.Command, args []string) error {
			most := 2
			if opts.file != "" {
				most = 1
			}
			if len(args) > most {
				return misuse(cmd, "%q is one argument too many", args[most])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runPause(cmd, args, &opts, pause) },
	}
	opts.addFlags(cmd)
	return cmd
}

func runPause(cmd *cobra.Command, args []string, opts *finder, pause bool) error {
	name := args[:min(1, len(args))]
	if opts.file != "" { // it names the node
		name = nil
	}
	req := admin.ResyncRequest{Pause: pause}
	if which := args[len(name):]; len(which) > 0 {
		req.Mirror = which[0]
	}
	node, err := opts.find(cmd, name)
	if err != nil {
		return err
	}
	client, err := node.dial()
	if err != nil {
		return cannot(err)
	}
	result, err := client.Resync(cmd.Context(), req)
	var answer *admin.Error
	switch {
	case errors.Is(err, admin.ErrNotPrimary):
		return cannot(err)
	case errors.As(err, &answer): // the node's own words
		return err
	case err != nil:
		return cannot(err)
	}
	what := "go on"
	if pause {
		what = "are paused"
	}
	return sayLine(cmd.OutOrStdout(), "resyncs of %s %s", strings.Join(result.Mirrors, ", "), what)
}
