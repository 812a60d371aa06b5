package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/admin"
)

type waitOptions struct {
	finder
	inSync  int
	timeout time.Duration
}

func newWaitCommand() *cobra.Command {
	var opts waitOptions
	cmd := &cobra.Command{
		Use:   "wait NODE --in-sync N [--timeout 30s]",
		Short: "Wait until a primary has N mirrors in sync",
		Long: `Wait until N mirrors are in sync with the primary. A primary that does not run
yet is waited for, too.

` + findHelp + `

EXIT CODES
  0 N mirrors are in sync
  1 they were not within --timeout: says who is missing and why
  2 waiting makes no sense: not a primary, or not that many mirrors`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runWait(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	cmd.Flags().IntVar(&opts.inSync, "in-sync", 1, "how many mirrors: `N`")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 30*time.Second, "how long to wait; 0s waits for ever")
	return cmd
}

func runWait(cmd *cobra.Command, args []string, opts *waitOptions) error {
	if opts.inSync < 0 || opts.timeout < 0 {
		return misuse(cmd, "--in-sync and --timeout: want no negative values")
	}
	find := func() (found, error) { return opts.find(cmd, args) }
	node, err := find()
	if err != nil {
		return err
	}
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	if opts.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, opts.timeout)
	}
	defer cancel()
	node, err = waitInSync(ctx, node, opts.inSync, find)
	switch {
	case err == nil:
		return sayLine(cmd.OutOrStdout(), "%d in sync", opts.inSync)
	case cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted: %s", node.missing(opts.inSync))
	case ctx.Err() != nil:
		return fmt.Errorf("not within %s: %s", opts.timeout, node.missing(opts.inSync))
	}
	return cannot(err)
}

// startPoll is how often a node that does not run yet is looked for.
const startPoll = 100 * time.Millisecond

// waitInSync waits for the node to run, and then for its mirrors. A mount point
// names a node only once it is mounted, so the node is looked for again while
// none runs.
func waitInSync(ctx context.Context, node found, count int, find func() (found, error)) (found, error) {
	again := time.NewTicker(startPoll)
	defer again.Stop()
	for {
		client, err := admin.Dial(node.stateDir)
		if err == nil {
			err = client.WaitInSync(ctx, count)
		}
		if !errors.Is(err, admin.ErrStarting) && !errors.Is(err, admin.ErrNotRunning) {
			return node, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return node, ctx.Err()
		}
		if other, err := find(); err == nil {
			node = other
		}
	}
}

// missing says who is not in sync.
func (n found) missing(count int) string {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	client, err := n.dial()
	if err != nil {
		return err.Error()
	}
	s, err := client.Status(ctx)
	if err != nil {
		return err.Error()
	}
	if s.Mirroring == nil {
		return "the node is still starting"
	}
	var in int
	var out []string
	for _, p := range s.Mirroring.Peers {
		switch {
		case p.InSync:
			in++
		case !p.Async:
			who := strings.TrimSpace(p.Name + " " + p.Addr + " is " + string(p.State))
			if p.Reason != "" {
				who += " (" + p.Reason + ")"
			}
			out = append(out, who)
		}
	}
	return fmt.Sprintf("%d of %d in sync; %s", in, count, strings.Join(out, "; "))
}
