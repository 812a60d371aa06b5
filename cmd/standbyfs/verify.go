package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
)

type verifyOptions struct {
	finder
	form form
}

func newVerifyCommand() *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify NODE [-o json|yaml]",
		Short: "Compare every replica with the primary's while writes go on",
		Long: `Compare every mirror's replica with the primary's: names, types, modes, owners,
extended attributes, links, sizes, holes, content. Each comparison takes place
at one position of the stream, so writes may go on. Nothing is changed.

` + findHelp + `

EXIT CODES
  0 every replica is equal
  1 a replica is different: each difference is named
  2 a replica could not be compared, or not to the end`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	addFormFlag(cmd, &opts.form)
	return cmd
}

func runVerify(cmd *cobra.Command, args []string, opts *verifyOptions) error {
	node, err := opts.find(cmd, args)
	if err != nil {
		return err
	}
	client, err := node.dial()
	if err != nil {
		return cannot(err)
	}
	report, err := client.Verify(cmd.Context())
	if err != nil {
		return cannot(err)
	}
	if err := opts.form.print(cmd.OutOrStdout(), report, func(w io.Writer) error { return drawReport(w, &report) }); err != nil {
		return cannot(err)
	}
	return outcome(&report)
}

// drawReport prints one line a difference and one a replica.
func drawReport(w io.Writer, r *mirror.VerifyReport) error {
	for _, p := range r.Peers {
		name := p.Name
		if name == "" {
			name = "a mirror that never connected"
		}
		for _, d := range p.Differences {
			if err := sayLine(w, "%s: %s", name, d); err != nil {
				return err
			}
		}
		verdict := "equal"
		switch {
		case len(p.Differences) > 0:
			verdict = fmt.Sprintf("DIFFERENT in %d places", len(p.Differences))
		case !p.Checked:
			verdict = "NOT COMPARED"
		}
		if p.Reason != "" {
			verdict += ": " + p.Reason
		}
		if err := sayLine(w, "%s: %s", name, verdict); err != nil {
			return err
		}
	}
	return sayLine(w, "compared %d files, %s, up to position %d", r.Files, admin.Bytes(r.Bytes), r.LSN)
}

// outcome chooses the exit code: a difference that is known counts for more
// than a replica that is not.
func outcome(r *mirror.VerifyReport) error {
	code := exitOK
	for _, p := range r.Peers {
		switch {
		case len(p.Differences) > 0:
			return &exitError{code: exitNo}
		case !p.Checked:
			code = exitCannot
		}
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}
