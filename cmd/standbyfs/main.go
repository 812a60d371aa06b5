// Command standbyfs keeps live copies of a directory: it mounts a plain
// directory, mirrors every change to other machines and serves any of the
// copies when the first machine is gone.
//
// Each verb has a file: a constructor with its help, the options it takes and
// what it runs. Whatever goes wrong comes back as an error; main alone chooses
// the exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
)

// Exit codes. What 1 and 2 say of a verb stands in its help.
const (
	exitOK     = 0
	exitNo     = 1 // the verb's own "no": degraded, different, refused, too late, failed
	exitCannot = 2 // nothing was found out or done: wrong use, wrong configuration, no node
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// The first signal ends ctx and gives signals their usual effect back, so
	// that a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		fmt.Fprintf(stderr, "standbyfs: the configuration is refused:\n%v\n", problems)
	} else if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "standbyfs: %s\n", text)
	}
	return exitCode(err)
}

// exitError gives an error an exit code of its own. Without an error inside,
// all was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var exit *exitError
	var problems config.Problems
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &problems):
		return exitCannot
	}
	return exitNo
}

// cannot marks that a verb could not do what it is for.
func cannot(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitCannot, err}
}
