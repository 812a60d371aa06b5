package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// profileTime is how long the load runs that a profile is taken of.
const profileTime = 3 * time.Second

// profile has perf look at the servers of a configuration, in the kernel too,
// while a row's work is done once more, and writes where their time goes.
func (s *system) profile(ctx context.Context, r row, out string) error {
	perf, err := exec.LookPath("perf")
	if err != nil {
		return fmt.Errorf("no profiles: perf is not installed (Debian's linux-perf): %w", errUnavailable)
	}
	if len(s.servers) == 0 {
		return nil
	}
	var pids []string
	for _, pid := range s.servers {
		pids = append(pids, strconv.Itoa(pid))
	}
	data := filepath.Join(s.input, "perf.data")
	record := exec.CommandContext(ctx, perf, "record", "-q", "-e", "cpu-clock", "-F", "999", "-g", "-o", data, "-p", strings.Join(pids, ","))
	record.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGINT}
	if err := record.Start(); err != nil {
		return fmt.Errorf("perf record: %w", err)
	}
	w := r.Work
	w.Time = profileTime
	_, err = s.measure(ctx, w, 99)
	record.Process.Signal(unix.SIGINT)
	// It ends by the signal and says so.
	var exit *exec.ExitError
	if ended := record.Wait(); ended != nil && !errors.As(ended, &exit) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s, on %s: %s\n", r.Title, s.Name, s.describe())
	for _, view := range []struct{ title, sort, graph string }{
		{"by function", "dso,symbol", "none"},
		{"by function, with what it calls", "symbol", "caller,0.5,callee,function,percent"},
	} {
		args := []string{"report", "--stdio", "-i", data, "--sort", view.sort, "--percent-limit", "0.7", "-g", view.graph}
		if view.graph == "none" {
			args = append(args, "--no-children")
		}
		got, err := output(ctx, patience, exec.Command(perf, args...))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "\n%s\n%s", view.title, got)
	}
	name := fmt.Sprintf("profile-%s-%s.txt", strings.ReplaceAll(r.Name, "/", "-"), s.Name)
	return os.WriteFile(filepath.Join(out, name), []byte(text.String()), 0o644)
}
