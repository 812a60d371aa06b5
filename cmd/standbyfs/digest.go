package main

import (
	"bufio"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
)

type digestOptions struct {
	verbose bool
	exclude []string
}

func newDigestCommand() *cobra.Command {
	var opts digestOptions
	cmd := &cobra.Command{
		Use:   "digest DIR [--exclude GLOB]... [-v]",
		Short: "Print one digest of a directory, the same on every replica",
		Long: `Print one digest of all that is in a directory: names, types, modes, owners,
times of change (mtime), inode flags, extended attributes, link texts, device
numbers, which names are of one file, sizes, content. Not: times of access, inode
numbers, where holes are. DIR is any plain directory, such as a replica, or a
mount; no node has to run. Nobody may write to it meanwhile.

Two directories are equal if their digests are. If they are not, the outputs of
-v, one line an object, tell where they differ when they are given to diff(1).
The digest is the xxh3-128 of these lines but the last one:

  standbyfs digest -v DIR | head -n -1 | xxh128sum

Paths that rules keep local are on the primary alone: --exclude them there.

EXIT CODES
  0 printed
  2 it could not be read, or it changed meanwhile`,
		Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return runDigest(cmd, args[0], &opts) },
	}
	cmd.Flags().BoolVarP(&opts.verbose, "verbose", "v", false, "print all that the digest is of, before the digest")
	cmd.Flags().StringArrayVar(&opts.exclude, "exclude", nil, "pass over what a gitignore pattern matches: `GLOB` (repeatable)")
	return cmd
}

func runDigest(cmd *cobra.Command, dir string, opts *digestOptions) error {
	skip, err := mirror.Local(opts.exclude)
	if err != nil {
		return misuse(cmd, "--exclude: %v", err)
	}
	t, err := tree.Open(dir)
	if err != nil {
		return cannot(err)
	}
	defer t.Close()
	lines := bufio.NewWriter(io.Discard)
	if opts.verbose {
		lines.Reset(cmd.OutOrStdout())
	}
	digest, err := t.Digest(cmd.Context(), skip, lines)
	if err == nil {
		err = lines.Flush()
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, io.EOF):
		return cannot(errors.Join(err, errors.New("it changed meanwhile: a digest needs a directory that nobody writes to")))
	case err != nil:
		return cannot(err)
	}
	return sayLine(cmd.OutOrStdout(), "%s", digest)
}
