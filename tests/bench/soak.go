package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A soak is no measure of speed: much flows through a mount, very many files
// come and go, and what its servers hold meanwhile has to stay where it is.

// soak is how much.
type soak struct {
	megabytes int
	files     int
}

// held is what the servers of a configuration hold at a moment.
type held struct {
	resident int64 // KiB
	files    int
	threads  int
}

// steady is how much more a server may hold in the last third of a soak than
// in the second: as a part, and beyond that.
const (
	steadyPart     = 0.10
	steadyResident = 24 << 10 // KiB; a garbage collector's pace
	steadyFiles    = 32
	steadyThreads  = 8
)

// runSoak runs a soak on each configuration and prints what was held. The error
// says what has grown.
func (p *place) runSoak(ctx context.Context, w io.Writer, configs []configuration, s soak) error {
	var grown []error
	for _, c := range configs {
		err := func() (err error) {
			sys, err := p.start(ctx, c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, sys.stop()) }()
			const threads = 4
			for _, part := range []struct {
				title string
				work  work
			}{
				{fmt.Sprintf("%d MiB written", s.megabytes), work{Kind: "flow", Threads: threads, Size: 1 << 20, Count: s.megabytes}},
				{fmt.Sprintf("%d files created and removed", s.files), work{Kind: "churn", Threads: threads, Count: s.files}},
			} {
				part.work.Time = 2 * time.Hour
				seen, err := sys.watch(ctx, part.work)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s, %s: MiB resident, open files, threads of %s\n", c.Name, part.title, strings.Join(sys.names(), ", "))
				if err := printHeld(w, seen); err != nil {
					grown = append(grown, fmt.Errorf("%s, %s: %w", c.Name, part.title, err))
				}
			}
			return nil
		}()
		if err != nil {
			return fmt.Errorf("soak on %s: %w", c.Name, err)
		}
	}
	return errors.Join(grown...)
}

// names of the servers, in the order of their processes.
func (s *system) names() []string {
	var out []string
	for _, p := range s.procs {
		out = append(out, p.name)
	}
	return out
}

// watch does some work and looks at the servers meanwhile: one row a look, one
// value a server.
func (s *system) watch(ctx context.Context, w work) (seen [][]held, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var row []held
			for _, pid := range s.servers {
				row = append(row, look(pid))
			}
			seen = append(seen, row)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	_, err = s.measure(ctx, w, 1)
	stop()
	looking.Wait()
	return seen, err
}

func look(pid int) held {
	var h held
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.Atoi(fields[0])
		switch name {
		case "VmRSS":
			h.resident = int64(n)
		case "Threads":
			h.threads = n
		}
	}
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	h.files = len(open)
	return h
}

// printHeld prints what was held in each tenth of the time at most, and returns
// an error about what has grown.
func printHeld(w io.Writer, seen [][]held) error {
	const parts = 10
	for i := range parts {
		from, to := i*len(seen)/parts, (i+1)*len(seen)/parts
		if from == to {
			continue
		}
		line := fmt.Sprintf("  %3d%%", (i+1)*100/parts)
		for n := range seen[0] {
			m := most(seen[from:to], n)
			line += fmt.Sprintf("   %5d %5d %4d", m.resident>>10, m.files, m.threads)
		}
		fmt.Fprintln(w, line)
	}
	return growth(seen)
}

// growth compares the last third with the second.
func growth(seen [][]held) error {
	third := len(seen) / 3
	if third == 0 {
		return nil
	}
	var errs []error
	for n := range seen[0] {
		before, after := most(seen[third:2*third], n), most(seen[2*third:], n)
		for _, g := range []struct {
			what          string
			before, after float64
			slack         float64
		}{
			{"KiB resident", float64(before.resident), float64(after.resident), steadyResident},
			{"open files", float64(before.files), float64(after.files), steadyFiles},
			{"threads", float64(before.threads), float64(after.threads), steadyThreads},
		} {
			if g.after > g.before*(1+steadyPart)+g.slack {
				errs = append(errs, fmt.Errorf("server %d has grown from %.0f to %.0f %s", n, g.before, g.after, g.what))
			}
		}
	}
	return errors.Join(errs...)
}

// most is the largest of each value of a server.
func most(seen [][]held, server int) held {
	var m held
	for _, row := range seen {
		h := row[server]
		m.resident, m.files, m.threads = max(m.resident, h.resident), max(m.files, h.files), max(m.threads, h.threads)
	}
	return m
}

// loadFlow writes so many times, over a bounded file a thread.
func loadFlow(l *loader) error {
	size := l.share()
	var fds []int
	err := l.timed("write", false, func(thread int) (step, error) {
		fd, err := l.file(thread, size)
		fds = append(fds, fd)
		p, per, calls := payload(l.Size, l.Seed), int(size)/l.Size, l.part(thread)
		return func(i int) error {
			if i == calls {
				return errDone
			}
			return pwrite(fd, p, int64(i%per)*int64(l.Size))
		}, err
	})
	return l.settle(fds, err)
}

// part is how much of the job's count is a thread's.
func (l *loader) part(thread int) int {
	return (thread+1)*l.Count/l.Threads - thread*l.Count/l.Threads
}

// loadChurn creates so many files and removes them, in directories that come
// and go.
func loadChurn(l *loader) error {
	const each = 1000
	return l.timed("file", false, func(thread int) (step, error) {
		files := l.part(thread)
		dirs := int(math.Ceil(float64(files) / each))
		return func(i int) error {
			if i == dirs {
				return errDone
			}
			// Beside the job's directory: see scatter.
			dir := filepath.Join(filepath.Dir(l.Dir), fmt.Sprintf("churn%d-%d", thread, i))
			if err := unix.Mkdir(dir, 0o755); err != nil {
				return fmt.Errorf("mkdir %s: %w", dir, err)
			}
			for n := range min(each, files-i*each) {
				path := filepath.Join(dir, strconv.Itoa(n))
				fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
				if err != nil {
					return fmt.Errorf("create %s: %w", path, err)
				}
				unix.Close(fd)
			}
			for n := range min(each, files-i*each) {
				path := filepath.Join(dir, strconv.Itoa(n))
				if err := unix.Unlink(path); err != nil {
					return fmt.Errorf("unlink %s: %w", path, err)
				}
			}
			return unix.Rmdir(dir)
		}, nil
	})
}
