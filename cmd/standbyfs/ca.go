package main

import (
	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/wire"
)

// caDir is where the authority is kept unless --dir says otherwise.
const caDir = "ca"

func newCACommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "ca",
		Short: "Make the certificates that nodes admit each other by",
		Long: `Make an authority of your own and a certificate for each node. Nodes speak to
whoever has a certificate of the same authority, and to nobody else.

EXIT CODES
  stand in the help of its verbs; 2 wrong use`,
	}, newCAInitCommand(), newCAIssueCommand())
}

func newCAInitCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "init [--dir DIR]",
		Short: "Make an authority",
		Long: `Make an authority: ca.crt, which every node has, and ca.key, which admits new
nodes and stays where it is.

EXIT CODES
  0 made
  1 not made: there is one already, or DIR cannot be written
  2 wrong use`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wire.InitCA(dir); err != nil {
				return err
			}
			return sayLine(cmd.OutOrStdout(), "%s: the authority is made; keep ca.key to yourself", dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", caDir, "keep the authority in `DIR`")
	return cmd
}

func newCAIssueCommand() *cobra.Command {
	var dir string
	var hosts []string
	cmd := &cobra.Command{
		Use:   "issue NAME [--dir DIR] [--host HOST]...",
		Short: "Make a certificate for a node",
		Long: `Make DIR/NAME with ca.crt, node.crt and node.key for the node NAME. Copy it to
the node and name it there with tls.dir or --tls. NAME and the loopback names
are hosts of the certificate; --host adds the names and IP addresses by which
other nodes reach this one.

EXIT CODES
  0 made
  1 not made: there is no authority in DIR, or DIR/NAME cannot be written
  2 wrong use`,
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := wire.Issue(dir, args[0], hosts)
			if err != nil {
				return err
			}
			return sayLine(cmd.OutOrStdout(), "%s: the certificate is made; use it with --tls", made)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", caDir, "the authority is in `DIR`")
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "`HOST` name or IP address of the node (repeatable)")
	return cmd
}
