package main

import (
	"errors"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/admin"
)

type promoteOptions struct {
	finder
	mount   string
	mirrors []string
	force   bool
	take    string
}

func newPromoteCommand() *cobra.Command {
	var opts promoteOptions
	cmd := &cobra.Command{
		Use:   "promote NODE --mount MOUNTPOINT [--mirror HOST:PORT]... [--force [--take consistent|mixed]]",
		Short: "Make a running mirror the primary",
		Long: `Tell a running mirror to become the primary and to mount its replica. It asks
every node it can reach, refuses if it does not know itself in sync, and fences
the others before it takes the first change.

Says whether it is promised that nothing that was acknowledged as durable is
missing, or since when the node cannot know. --force promotes a mirror that is
not in sync and says what may be lost. If a resync was changing its replica, and
the consistent state from before is kept (keep_consistent), that is taken and the
other put aside, or with --take mixed the other way round.

NODE is the mirror's replica directory; -c FILE names a node by its
configuration instead.

EXIT CODES
  0 promoted: the volume is mounted
  1 refused, or failed: the reason is printed and the node is still a mirror
  2 wrong use, or no mirror runs there`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runPromote(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	cmd.Flags().StringVar(&opts.mount, "mount", "", "mount the volume on `MOUNTPOINT` (default: the mirror's own mountpoint setting)")
	cmd.Flags().StringArrayVar(&opts.mirrors, "mirror", nil, "a mirror of the new primary, `HOST:PORT` (repeatable; default: the mirror's own mirrors setting)")
	cmd.Flags().BoolVar(&opts.force, "force", false, "promote although something may be lost")
	cmd.Flags().StringVar(&opts.take, "take", "", "with --force, which state of a replica in mid-resync: `consistent|mixed` (default: consistent if one is kept)")
	return cmd
}

func runPromote(cmd *cobra.Command, args []string, opts *promoteOptions) error {
	req := admin.PromoteRequest{Mirrors: opts.mirrors, Force: opts.force, Take: opts.take}
	if opts.take != "" && opts.take != admin.TakeConsistent && opts.take != admin.TakeMixed {
		return misuse(cmd, "--take %q: want %s or %s", opts.take, admin.TakeConsistent, admin.TakeMixed)
	}
	if opts.take != "" && !opts.force {
		return misuse(cmd, "--take says what --force takes: give both")
	}
	for _, address := range opts.mirrors {
		if _, _, err := net.SplitHostPort(address); err != nil || strings.Contains(address, ",") {
			return misuse(cmd, "--mirror %q: want HOST:PORT", address)
		}
	}
	if opts.mount != "" {
		// The node resolves it from its own working directory otherwise.
		mountpoint, err := filepath.Abs(opts.mount)
		if err != nil {
			return cannot(err)
		}
		req.Mountpoint = mountpoint
	}
	node, err := opts.find(cmd, args)
	if err != nil {
		return err
	}
	client, err := node.dial()
	if err != nil {
		return cannot(err)
	}
	result, err := client.Promote(cmd.Context(), req)
	var answer *admin.Error
	switch {
	case errors.As(err, &answer): // the node's own words
		return err
	case err != nil:
		return cannot(err)
	}
	for _, line := range result.Text {
		if err := sayLine(cmd.OutOrStdout(), "%s", line); err != nil {
			return err
		}
	}
	return nil
}
