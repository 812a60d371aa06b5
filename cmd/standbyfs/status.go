package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
)

type statusOptions struct {
	finder
	form  form
	watch bool
}

func newStatusCommand() *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status NODE [-o json|yaml] [--watch]",
		Short: "Show a node and its mirrors, with one verdict",
		Long: `Show a node: its role, its mirrors, how far behind they are, the progress of a
resync, and one verdict in the last line. Works on every node, also on one that
does not run: from what it durably knows.

` + findHelp + `

EXIT CODES
  0 healthy: the node does all that it was set up to do
  1 degraded: it serves or stands by, but something is missing
  2 down: it neither serves nor could take over, or its state cannot be read`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runStatus(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	addFormFlag(cmd, &opts.form)
	cmd.Flags().BoolVarP(&opts.watch, "watch", "w", false, "show it again every second until interrupted")
	return cmd
}

func runStatus(cmd *cobra.Command, args []string, opts *statusOptions) error {
	node, err := opts.find(cmd, args)
	if err != nil {
		return err
	}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		status, err := node.status(cmd.Context())
		if err != nil {
			return cannot(err)
		}
		if opts.watch && opts.form == formText {
			fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[2J") // to the top of an empty screen
		}
		if err := opts.form.print(cmd.OutOrStdout(), status, status.WriteText); err != nil {
			return cannot(err)
		}
		if opts.watch {
			select {
			case <-again.C:
				continue
			case <-cmd.Context().Done():
			}
		}
		return verdict(status)
	}
}

// verdict is nil for a healthy node; the table has said all about others.
func verdict(s *admin.Status) error {
	switch s.Verdict {
	case admin.Healthy:
		return nil
	case admin.Degraded:
		return &exitError{code: exitNo}
	}
	return &exitError{code: exitCannot}
}

// answerTime bounds how long a node may take to show itself; one that is stuck
// or stopped must not hold up who watches it.
const answerTime = 10 * time.Second

// status asks the node, or reads its state where it does not run.
func (n found) status(ctx context.Context) (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	client, err := admin.Dial(n.stateDir)
	if err == nil {
		var s admin.Status
		if s, err = client.Status(ctx); err == nil {
			return &s, nil
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("the node runs and does not answer within %s: %w", answerTime, err)
	}
	if !errors.Is(err, admin.ErrNotRunning) {
		return nil, err
	}
	s, err := daemon.FromState(n.stateDir)
	if err != nil {
		return nil, err
	}
	s.Replica = n.replica
	return &s, nil
}
