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
	form   form
	repair repairMode
	use    string
}

func newVerifyCommand() *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify NODE [-o json|yaml] [--repair[=ask|majority] | --use NAME]",
		Short: "Compare every replica with the primary's while writes go on, and repair them",
		Long: `Compare every mirror's replica with the primary's: names, types, modes, owners,
extended attributes, links, sizes, holes, content. Each comparison takes place
at one position of the stream, so writes may go on. Content is read from the
disks, past what is in memory. A terminal, and ` + "`status`" + `, show how far it is. Without --repair or --use nothing is
changed.

--repair says of each difference which replicas agree about it and asks which
version is right; with three replicas or more the one that most of them have is
proposed, and --repair=majority takes it without asking. --use NAME takes the
version of that node wherever it differs. Nobody is right by itself, the primary
neither: what is not decided stays as it is. A replica that is wrong is made equal,
the primary's too; a mirror leaves the in-sync set until it is. Then everything is
compared once more.

` + findHelp + `

EXIT CODES
  0 every replica is equal, maybe since it was repaired
  1 a replica is different: each difference is named
  2 a replica could not be compared, or not to the end`,
		Args: maybeNode,
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(cmd, args, &opts) },
	}
	opts.addFlags(cmd)
	addFormFlag(cmd, &opts.form)
	cmd.Flags().Var(&opts.repair, "repair", "make replicas equal: ask which version is right, or take the majority's")
	cmd.Flags().Lookup("repair").NoOptDefVal = string(repairAsk)
	cmd.Flags().StringVar(&opts.use, "use", "", "make replicas equal to that of the node `NAME`")
	return cmd
}

func runVerify(cmd *cobra.Command, args []string, opts *verifyOptions) error {
	repairs := opts.repair != repairNone || opts.use != ""
	switch {
	case opts.repair != repairNone && opts.use != "":
		return misuse(cmd, "--repair and --use both choose versions: give one of them")
	case opts.repair == repairAsk && opts.form != formText:
		return misuse(cmd, "--repair asks, and -o %s is for programs: say --repair=majority or --use NAME", opts.form)
	}
	node, err := opts.find(cmd, args)
	if err != nil {
		return err
	}
	client, err := node.dial()
	if err != nil {
		return cannot(err)
	}
	run := client.Verify
	if repairs {
		run = client.Versions
	}
	report, err := compare(cmd, client, run)
	if err != nil {
		return cannot(err)
	}
	if repairs {
		if report, err = repair(cmd, client, report, opts); err != nil {
			return cannot(err)
		}
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
