package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/state"
)

func newStateCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "state",
		Short: "Start a node afresh whose state is damaged or lost",
		Long: `Deal with the state directory of a node that does not run.

EXIT CODES
  stand in the help of its verbs; 2 wrong use`,
	}, newStateResetCommand())
}

type stateResetOptions struct {
	finder
	force bool
}

func newStateResetCommand() *cobra.Command {
	var opts stateResetOptions
	cmd := &cobra.Command{
		Use:   "reset NODE [--force]",
		Short: "Move a node's state aside, and use its replica as it is",
		Long: `Move the state of a node that does not run aside, and make a fresh one. The
replica stays as it is, and is used again:

  standbyfs mirror REPLICA ...   its primary compares all of it, and sends what
                                 differs; what it may lose by that is kept
                                 first, as a divergence
  standbyfs mount REPLICA ...    it becomes a new volume; every mirror of the old
                                 one needs ` + "`standbyfs state reset --force`" + `, too

If the node was the primary and a mirror of it is there, promote that mirror
(` + "`standbyfs promote`" + `), and start this node as a mirror.

A node without its state does not know any more which primaries were deposed:
let only the right one connect.

` + findHelp + `

EXIT CODES
  0 reset
  1 refused: the state is not damaged, and --force is not given
  2 wrong use, the node runs, or the state directory cannot be changed`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runStateReset(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	cmd.Flags().BoolVar(&opts.force, "force", false, "reset a state that is not damaged")
	return cmd
}

func runStateReset(cmd *cobra.Command, args []string, opts *stateResetOptions) error {
	node, err := opts.find(cmd, args)
	if err != nil {
		return err
	}
	old, err := state.Reset(node.stateDir, opts.force)
	switch {
	case errors.Is(err, state.ErrHealthy):
		was := old.Was
		return fmt.Errorf("%w: it is that of %s of volume %s, epoch %s; --force forgets that", err, role(was.Role), dash(was.Volume), was.Epoch)
	case err != nil:
		return cannot(err)
	}
	out := cmd.OutOrStdout()
	if old.Moved != "" {
		if err := sayLine(out, "the old state is %s now", old.Moved); err != nil {
			return err
		}
	}
	return sayLine(out, "%s is fresh: start the node with `standbyfs mirror`, and all of its replica is compared; as a primary it would be a new volume", node.stateDir)
}

func role(r state.Role) string {
	if r == state.NoRole {
		return "a node without a role"
	}
	return "a " + string(r)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
