package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
)

func newConfigCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Check a configuration file",
		Long: `Check a configuration file.

EXIT CODES
  stand in the help of its verbs; 2 wrong use`,
	}, newConfigCheckCommand())
}

func newConfigCheckCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Name everything that is wrong with a configuration file",
		Long: `Check a configuration file as a whole, as serve does before anything starts, and
name everything that is wrong with its line, the valid values and the key that
was probably meant. STANDBYFS_... variables are checked, too.

EXIT CODES
  0 nothing is wrong
  1 something is wrong: every problem is named
  2 wrong use, or the file cannot be read`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				args = append(args, file)
			}
			if err := arguments("FILE")(cmd, args); err != nil {
				return err
			}
			return runConfigCheck(cmd, args[0])
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the configuration `FILE`")
	return cmd
}

func runConfigCheck(cmd *cobra.Command, file string) error {
	_, err := config.Load(config.Sources{File: file})
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		return &exitError{exitNo, err}
	case err != nil:
		return cannot(err)
	}
	return sayLine(cmd.OutOrStdout(), "%s: nothing is wrong", file)
}
