package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
)

// compare runs what compares all replicas, which may take hours. If a person
// looks on, the terminal shows how far it is.
func compare(cmd *cobra.Command, client *admin.Client, run func(context.Context) (mirror.VerifyReport, error)) (mirror.VerifyReport, error) {
	if terminal, ok := cmd.ErrOrStderr().(*os.File); ok && isTerminal(terminal) {
		again := time.NewTicker(time.Second)
		defer again.Stop()
		ctx, stop := context.WithCancel(cmd.Context())
		var shown sync.WaitGroup
		defer shown.Wait()
		defer stop()
		shown.Go(func() {
			follow(ctx, terminal, again.C, func() string {
				status, err := client.Status(ctx)
				if err != nil {
					return "" // the comparison itself will say what is wrong
				}
				return status.Comparing()
			})
		})
	}
	return run(cmd.Context())
}

// follow shows a line anew whenever again says so, and takes it away when ctx
// ends. A terminal that cannot be written to shows nothing, and no more depends on
// it.
func follow(ctx context.Context, w io.Writer, again <-chan time.Time, line func() string) {
	const erase = "\r\x1b[K"
	defer fmt.Fprint(w, erase)
	for {
		select {
		case <-again:
			fmt.Fprint(w, erase+line())
		case <-ctx.Done():
			return
		}
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
