package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

func newDivergenceCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "divergence",
		Short: "What a node alone had, kept before it was overwritten",
		Long: `When another node takes over, a node may hold changes that nobody else has. From
the moment it hears of the other one until it has joined again, whatever would be
overwritten or removed in its replica is kept first, in STATE_DIR/divergence:
small files whole, of large ones the regions of 64 KiB that are hit. Each takeover
has a divergence of its own.

These verbs read the state directory of this machine's node. It may run or not,
and its primary is not needed.

EXIT CODES
  stand in the help of its verbs; 2 wrong use`,
	}, newDivergenceListCommand(), newDivergenceShowCommand(), newDivergenceDiffCommand(),
		newDivergenceExportCommand(), newDivergenceDropCommand())
}

const divergenceHelp = `NODE is the replica directory; -c FILE names the node by its configuration
instead. ID is as list shows it; its beginning is enough.
`

// withNode finds the node, the first of the arguments unless -c names it, and
// returns the others, of which the first some have to be there.
func (f *finder) withNode(cmd *cobra.Command, args []string, need int, names ...string) (found, []string, error) {
	if f.file == "" {
		need++
		names = append([]string{"NODE"}, names...)
	}
	if len(args) < need {
		return found{}, nil, misuse(cmd, "%s is missing", names[len(args)])
	}
	if len(args) > len(names) {
		return found{}, nil, misuse(cmd, "%q is one argument too many", args[len(names)])
	}
	var own []string
	if f.file == "" {
		own, args = args[:1], args[1:]
	}
	node, err := f.find(cmd, own)
	if err != nil {
		return node, nil, err
	}
	if _, err := os.Stat(node.stateDir); err != nil {
		return node, nil, cannot(fmt.Errorf("read the state directory: %w", err))
	}
	return node, args, nil
}

// archived finds what the arguments NODE and ID name.
func (f *finder) archived(cmd *cobra.Command, args []string, need int, names ...string) (found, *divergence.Archive, []string, error) {
	node, args, err := f.withNode(cmd, args, need, names...)
	if err != nil {
		return node, nil, nil, err
	}
	a, err := divergence.Read(node.stateDir, args[0])
	return node, a, args[1:], cannot(err)
}

func (n found) openReplica() (*tree.Tree, error) {
	t, err := tree.Open(n.replica)
	return t, cannot(err)
}

func newDivergenceListCommand() *cobra.Command {
	var f finder
	var how form
	cmd := &cobra.Command{
		Use:   "list NODE [-o json|yaml]",
		Short: "List the divergences of a node",
		Long: `List the divergences of a node, the oldest first: when each began, which epoch
took over, how many files are kept and how many bytes of them, and whether the
node has joined since.

` + divergenceHelp + `
EXIT CODES
  0 listed, also if there is none
  2 wrong use, or they cannot be read`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, _, err := f.withNode(cmd, args, 0)
			if err != nil {
				return err
			}
			all, err := divergence.List(node.stateDir)
			if err != nil {
				return cannot(err)
			}
			listed := make([]listedDivergence, len(all))
			for i, a := range all {
				listed[i] = listedDivergence{a.Header, a.Totals(), a.Closed, a.Torn, a.Damaged}
			}
			return cannot(how.print(cmd.OutOrStdout(), listed, func(w io.Writer) error { return drawDivergences(w, listed) }))
		},
	}
	f.addFlags(cmd)
	addFormFlag(cmd, &how)
	return cmd
}

// listedDivergence is one line of list.
type listedDivergence struct {
	divergence.Header
	divergence.Totals
	Closed  *divergence.Closed `json:"closed,omitempty"`
	Torn    bool               `json:"torn,omitempty"`
	Damaged int                `json:"damaged,omitempty"`
}

func drawDivergences(w io.Writer, all []listedDivergence) error {
	if len(all) == 0 {
		return sayLine(w, "no divergences")
	}
	return drawTable(w, "ID\tBEGAN\tTAKEN OVER BY\tFILES\tKEPT\tSTATE", func(t io.Writer) {
		for _, d := range all {
			fmt.Fprintf(t, "%s\t%s\tepoch %s\t%d\t%s\t%s\n", d.ID, d.Began.Local().Format(time.DateTime), d.Epoch, d.Files, admin.Bytes(uint64(d.Bytes)), d.state())
		}
	})
}

func (d *listedDivergence) state() string {
	text := "open: the node has not joined since"
	if d.Closed != nil {
		text = fmt.Sprintf("%s, %s", d.Closed.How, d.Closed.When.Local().Format(time.DateTime))
	}
	if d.Damaged > 0 {
		text += fmt.Sprintf("; DAMAGED: %d lines cannot be read", d.Damaged)
	}
	return text
}

func newDivergenceShowCommand() *cobra.Command {
	var f finder
	var how form
	cmd := &cobra.Command{
		Use:   "show NODE ID [-o json|yaml]",
		Short: "Show what is kept of a divergence",
		Long: `Show each object of which something is kept: its path when the divergence began,
what of it is kept, and which change was about to take it. Bytes in paths that
cannot be printed are escaped, as in caf\xe9.

` + divergenceHelp + `
EXIT CODES
  0 shown
  1 shown, and something of it is damaged
  2 wrong use, there is no such divergence, or it cannot be read`,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, a, _, err := f.archived(cmd, args, 1, "ID")
			if err != nil {
				return err
			}
			if err := how.print(cmd.OutOrStdout(), a, func(w io.Writer) error { return drawArchive(w, a) }); err != nil {
				return cannot(err)
			}
			if a.Damaged > 0 {
				return &exitError{code: exitNo}
			}
			return nil
		},
	}
	f.addFlags(cmd)
	addFormFlag(cmd, &how)
	return cmd
}

func drawArchive(w io.Writer, a *divergence.Archive) error {
	err := drawTable(w, "PATH\tTYPE\tSIZE\tKEPT\tBEFORE\tWHEN", func(t io.Writer) {
		for _, r := range a.Objects {
			for i, path := range r.Paths {
				if i > 0 {
					fmt.Fprintf(t, "%s\tthe same\n", path)
					continue
				}
				kind := "unknown"
				if r.Object != nil {
					kind = tree.TypeName(r.Object.Mode)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", path, kind, admin.Bytes(uint64(r.Size())), r.Kept(), r.Why, r.When.Local().Format(time.DateTime))
			}
		}
	})
	if err != nil {
		return err
	}
	if a.Torn {
		if err := sayLine(w, "the last line is torn: it belongs to a change that was never made, so nothing is lost with it"); err != nil {
			return err
		}
	}
	if a.Damaged > 0 {
		return sayLine(w, "DAMAGED: %d lines cannot be read", a.Damaged)
	}
	return nil
}

func newDivergenceDiffCommand() *cobra.Command {
	var f finder
	var how form
	cmd := &cobra.Command{
		Use:   "diff NODE ID [PATH] [-o json|yaml]",
		Short: "Compare what is kept with what is in the replica now",
		Long: `Compare what is kept with what is in the replica now, below PATH (as show prints
it) or all of it: lines of text files as diff -u does, for others the ranges of
bytes; owners, modes, times and extended attributes.

` + divergenceHelp + `
EXIT CODES
  0 nothing differs
  1 something differs: it is shown
  2 wrong use, there is no such divergence, or something cannot be read`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, a, rest, err := f.archived(cmd, args, 1, "ID", "PATH")
			if err != nil {
				return err
			}
			path := divergence.Path(op.Root)
			if len(rest) > 0 {
				if err := path.UnmarshalText([]byte(rest[0])); err != nil {
					return misuse(cmd, "%v", err)
				}
			}
			replica, err := node.openReplica()
			if err != nil {
				return err
			}
			defer replica.Close()
			all, err := a.Compare(replica, string(path))
			if err != nil {
				return cannot(err)
			}
			if len(all) == 0 {
				return cannot(fmt.Errorf("nothing is kept of %s: `standbyfs divergence show` has all", path))
			}
			if err := how.print(cmd.OutOrStdout(), all, func(w io.Writer) error { return drawComparisons(w, all) }); err != nil {
				return cannot(err)
			}
			for i := range all {
				if !all[i].Equal() {
					return &exitError{code: exitNo}
				}
			}
			return nil
		},
	}
	f.addFlags(cmd)
	addFormFlag(cmd, &how)
	return cmd
}

func drawComparisons(w io.Writer, all []divergence.Comparison) error {
	for _, c := range all {
		for _, d := range c.Differences {
			if err := sayLine(w, "%s: %s", c.Path, d); err != nil {
				return err
			}
		}
		for _, r := range c.Ranges {
			if err := sayLine(w, "%s: content differs in bytes %d-%d", c.Path, r.From, r.To); err != nil {
				return err
			}
		}
		if c.Text != "" {
			if _, err := fmt.Fprintf(w, "--- kept/%s\n+++ replica/%s\n%s", c.Path, c.Path, c.Text); err != nil {
				return fmt.Errorf("print the answer: %w", err)
			}
		}
	}
	return nil
}

func newDivergenceExportCommand() *cobra.Command {
	var f finder
	var how form
	cmd := &cobra.Command{
		Use:   "export NODE ID DIR [-o json|yaml]",
		Short: "Make files of what is kept",
		Long: `Make in DIR, which is new or empty, what stood in the replica when the divergence
began: DIR/files has what is kept under its own paths, with owners, modes, times
and extended attributes; DIR/manifest is a copy of the list. Nothing is put back
into the volume: copy from there what you want to have again.

Of a large file only the regions are kept that were overwritten. The rest is
taken from the replica as it is now, and the answer says so: at the time of the
divergence it was the same on both sides.

` + divergenceHelp + `
EXIT CODES
  0 exported: every file is as it was
  1 exported, but some file could not be made whole: each is named
  2 wrong use, there is no such divergence, or it could not be exported`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, a, rest, err := f.archived(cmd, args, 2, "ID", "DIR")
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(rest[0])
			if err != nil {
				return cannot(err)
			}
			replica, err := node.openReplica()
			if err != nil {
				return err
			}
			defer replica.Close()
			unix.Umask(0) // modes are those that were kept
			made, err := a.Export(replica, dir)
			if err != nil {
				return cannot(err)
			}
			if err := how.print(cmd.OutOrStdout(), made, func(w io.Writer) error { return drawExport(w, dir, made) }); err != nil {
				return cannot(err)
			}
			for _, e := range made {
				if !e.Whole {
					return &exitError{code: exitNo}
				}
			}
			return nil
		},
	}
	f.addFlags(cmd)
	addFormFlag(cmd, &how)
	return cmd
}

func drawExport(w io.Writer, dir string, made []divergence.Exported) error {
	for _, e := range made {
		if e.Text == "" {
			e.Text = "whole"
		}
		if err := sayLine(w, "%s: %s: %s", e.Path, divergence.Path(filepath.Join(dir, e.To)), e.Text); err != nil {
			return err
		}
	}
	return sayLine(w, "exported %d objects to %s", len(made), dir)
}

func newDivergenceDropCommand() *cobra.Command {
	var f finder
	var force bool
	cmd := &cobra.Command{
		Use:   "drop NODE ID [--force]",
		Short: "Remove a divergence for good",
		Long: `Remove what is kept of a divergence, for good. One that is open is refused: the
node has not joined since and may keep more. --force drops it all the same; what
the node loses from then on is kept anew, what it lost before is gone.

` + divergenceHelp + `
EXIT CODES
  0 dropped
  1 refused: it is open
  2 wrong use, there is no such divergence, or it could not be removed`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, rest, err := f.withNode(cmd, args, 1, "ID")
			if err != nil {
				return err
			}
			id, err := divergence.Drop(node.stateDir, rest[0], force)
			switch {
			case errors.Is(err, divergence.ErrOpen):
				return err
			case err != nil:
				return cannot(err)
			}
			return sayLine(cmd.OutOrStdout(), "dropped %s", id)
		},
	}
	f.addFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "drop it although it is open")
	return cmd
}
