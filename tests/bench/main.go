// Command bench measures standbyfs against what its users would use instead: a
// plain directory, go-fuse's loopback example, and our own file system without
// mirrors. One run prints one table of medians, spreads and ratios, and writes
// the same as JSON and as plots. docs/performance.md says how to read it.
//
//	main.go           what to run
//	configuration.go  what is compared
//	system.go         a configuration that runs; server.go the servers that this program is itself
//	row.go            the lines of the table, with the ratios to reach
//	run.go            rounds over configurations
//	load.go           load processes: threads, clocks, samples
//	write.go read.go names.go directory.go archive.go python.go postgres.go wire.go   the loads
//	breakdown.go      where the time of one call goes
//	profile.go        profiles; soak.go what the servers hold
//	recovery.go       what a repair costs: outage.go a mirror that is away, dataset.go on what data,
//	                  hot.go and records.go what is recorded before a change, steady.go their loads
//	gluster.go        GlusterFS, in a network namespace
//	statistics.go     medians, spreads, percentiles
//	table.go plot.go  what people look at
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	// A child's signal at the death of its parent belongs to the thread that
	// has started it.
	runtime.LockOSThread()
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch finds the role of this process: the bench itself, a server, or a
// load.
func dispatch(args []string) error {
	if len(args) > 0 {
		if role, ok := roles()[args[0]]; ok {
			return role(args[1:])
		}
	}
	return benchMain(args, os.Stdout)
}

// roles are what this program is when it starts itself.
func roles() map[string]func(args []string) error {
	return map[string]func([]string) error{
		"load": loadMain, "serve-loopback": serveLoopback, "serve-null": serveNull, "network": network, "serve-wire": serveWire,
	}
}

// settings are what a run is told.
type settings struct {
	dir     string
	out     string
	program string
	python  string
	run     string
	configs string
	repeats int
	delay   time.Duration
	time    time.Duration
	limit   time.Duration
	full    bool
	peers   bool
	list    bool
	profile string
	soaking bool
	soak    soak
}

func parseSettings(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.dir, "dir", "build/bench/run", "work in `DIR`, which must be on a real disk")
	flags.StringVar(&s.out, "out", "build/bench", "write results into `DIR`")
	flags.StringVar(&s.program, "program", "build/standbyfs", "the standbyfs `FILE` to measure")
	flags.StringVar(&s.python, "python", "build/venv/bin/python", "the Python `FILE` that has ZODB")
	flags.StringVar(&s.run, "run", "", "only rows whose names match `REGEXP`")
	flags.StringVar(&s.configs, "configs", "", "only these configurations, on all chosen rows: `LIST` such as native,null,op1,barrier3,op1-plain")
	flags.IntVar(&s.repeats, "repeats", 5, "at most so many rounds over all rows and configurations")
	flags.DurationVar(&s.time, "time", sampleTime, "how long one sample takes, beside a third more before it: `TIME`")
	flags.DurationVar(&s.limit, "limit", 0, "begin no round that would not end within `TIME` (14m; none with -full or -peers)")
	flags.DurationVar(&s.delay, "delay", 0, "put the mirrors at a distance: each byte arrives so much later, in each direction: `TIME`")
	flags.BoolVar(&s.full, "full", false, "every configuration on every row")
	flags.BoolVar(&s.peers, "peers", false, "GlusterFS, too")
	flags.BoolVar(&s.list, "list", false, "list the rows and stop; with -full those of a full run, too")
	flags.StringVar(&s.profile, "profile", "", "afterwards, take profiles of the servers with perf: of `WHAT` missed its ratio (missed), or of all rows (all)")
	flags.BoolVar(&s.soaking, "soak", false, "measure nothing: watch what op1, or -configs, holds while much flows through it")
	flags.IntVar(&s.soak.megabytes, "soak-mib", 10<<10, "write `MIB` in a soak")
	flags.IntVar(&s.soak.files, "soak-files", 1_000_000, "create and remove `FILES` in a soak")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.repeats < 1 || s.time <= 0 || s.delay < 0 {
		return s, errors.New("-repeats and -time must be positive, and -delay not negative")
	}
	if s.profile != "" && s.profile != "missed" && s.profile != "all" {
		return s, fmt.Errorf("-profile %q: want missed or all", s.profile)
	}
	return s, nil
}

// plan decides which rows run on which configurations.
func (s *settings) plan() (plan, error) {
	pl := plan{repeats: s.repeats, limit: s.limit, profile: s.profile, progress: io.Discard}
	if pl.limit == 0 {
		pl.limit = 14 * time.Minute
		if s.full || s.peers {
			pl.limit = math.MaxInt64
		}
	}
	match, err := regexp.Compile(s.run)
	if err != nil {
		return pl, fmt.Errorf("-run: %w", err)
	}
	pl.rows = choose(rows(), match, s.full)
	// Of these there is one configuration, and all is near.
	if s.configs == "" && !s.peers && s.delay == 0 {
		pl.recovery = newRecovery(match, s.full)
	}
	if len(pl.rows) == 0 && len(pl.recovery.parts) == 0 {
		return pl, fmt.Errorf("no row matches -run %q", s.run)
	}
	// In the order of the table.
	names := slices.Concat(standard, more, every, peers, wires)
	if s.configs != "" {
		names = split(s.configs)
	}
	byName := map[string]configuration{}
	for _, name := range names {
		c, err := parseConfiguration(name, s.delay)
		if err != nil {
			return pl, err
		}
		pl.configs, byName[name] = append(pl.configs, c), c
	}
	for i := range pl.rows {
		r := &pl.rows[i]
		r.Work.Time = s.time
		if s.delay > 0 {
			r.distant()
		}
		switch mirrors := slices.Contains(r.Configs, "op10"); {
		case s.configs != "" || s.full && r.Work.Kind == "wire":
			r.Configs = names
		case s.delay > 0 && mirrors:
			r.Configs = []string{"null", "op1", "barrier1", "op10", "barrier10"}
		case s.delay > 0:
			r.Configs = nil
		case s.full:
			r.Configs = slices.Concat(standard, more, every)
		}
		if s.peers && s.configs == "" && s.delay == 0 {
			r.Configs = slices.Concat(r.Configs, peers)
		}
		r.Configs = slices.DeleteFunc(slices.Clone(r.Configs), func(name string) bool { return !r.Work.fits(byName[name]) })
	}
	pl.rows = slices.DeleteFunc(pl.rows, func(r row) bool { return len(r.Configs) == 0 })
	if len(pl.rows) == 0 && len(pl.recovery.parts) == 0 {
		return pl, errors.New("no row runs on these configurations")
	}
	return pl, nil
}

func benchMain(args []string, w io.Writer) (err error) {
	s, err := parseSettings(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	pl, err := s.plan()
	if err != nil {
		return err
	}
	if s.list {
		for _, r := range pl.rows {
			fmt.Fprintf(w, "%-20s %s\n", r.Name, r.Title)
		}
		for _, p := range pl.recovery.parts {
			fmt.Fprintf(w, "%-20s %s\n", p.name, p.title)
		}
		return nil
	}
	if st, err := os.Stderr.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
		pl.progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	p := place{}
	for _, path := range []struct {
		to   *string
		from string
	}{{&p.dir, s.dir}, {&p.program, s.program}, {&p.python, s.python}, {&s.out, s.out}} {
		if *path.to, err = filepath.Abs(path.from); err != nil {
			return err
		}
	}
	if err := p.clean(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.clean()) }()
	began := time.Now()
	about := machine(p.dir)
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	pl.profiles = s.out
	if s.soaking {
		return s.runSoak(ctx, p, w)
	}
	figures, said, failed := p.runRecovery(ctx, pl.recovery, pl.progress)
	if ctx.Err() != nil {
		return failed
	}
	pl.limit -= time.Since(began)
	res, notes, err := p.run(ctx, pl)
	notes, failed = append(said, notes...), errors.Join(failed, err)
	// As a file, too: what is printed scrolls away.
	text, err := os.Create(filepath.Join(s.out, "results.txt"))
	if err != nil {
		return errors.Join(failed, err)
	}
	defer func() { err = errors.Join(err, text.Close()) }()
	w = io.MultiWriter(w, text)
	about = append(about, fmt.Sprintf("%d rows, %d repeats, %s", len(pl.rows), pl.repeats, time.Since(began).Round(time.Second)))
	for _, line := range about {
		fmt.Fprintln(w, line)
	}
	for _, c := range pl.configs {
		if slices.ContainsFunc(pl.rows, func(r row) bool { return len(res[r.Name][c.Name]) > 0 }) {
			fmt.Fprintf(w, "%-16s %s\n", c.Name, c.describe())
		}
	}
	for _, line := range notes {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	printFigures(w, figures)
	if len(pl.rows) > 0 {
		printTable(w, pl.rows, pl.configs, res)
	}
	printBreakdowns(w, breakdowns(res))
	return errors.Join(failed, s.keep(report{about, notes, figures, pl.rows, pl.configs, res, verdicts(pl.rows, res), breakdowns(res)}))
}

// runSoak runs a soak on the chosen configurations.
func (s *settings) runSoak(ctx context.Context, p place, w io.Writer) error {
	names := []string{"op1"}
	if s.configs != "" {
		names = split(s.configs)
	}
	var configs []configuration
	for _, name := range names {
		c, err := parseConfiguration(name, s.delay)
		if err != nil {
			return err
		}
		configs = append(configs, c)
	}
	return p.runSoak(ctx, w, configs, s.soak)
}

// report is what is written as JSON.
type report struct {
	About    []string        `json:"about"`
	Notes    []string        `json:"notes,omitempty"`
	Figures  []figure        `json:"recovery,omitempty"`
	Rows     []row           `json:"rows"`
	Configs  []configuration `json:"configs"`
	Samples  results         `json:"samples"`
	Verdicts []verdict       `json:"verdicts"`
	Wholes   []whole         `json:"breakdowns,omitempty"`
}

// keep writes the report and the plots into the folder of results.
func (s *settings) keep(r report) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.out, "results.json"), b, 0o644); err != nil {
		return err
	}
	return keepPlots(s.out, plots(r.Rows, r.Configs, r.Samples))
}

// clean makes the place empty, also of what a run that was killed has left.
func (p *place) clean() error {
	if err := cleanStale(p.dir); err != nil {
		return err
	}
	return os.RemoveAll(p.dir)
}

// machine says on what and of what this run is.
func machine(dir string) []string {
	var name unix.Utsname
	unix.Uname(&name)
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	commit := "unknown"
	if b, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output(); err == nil {
		commit = strings.TrimSpace(string(b))
	}
	load := ""
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return []string{
		fmt.Sprintf("%d x %s, Linux %s, %s, commit %s", runtime.NumCPU(), model, unix.ByteSliceToString(name.Release[:]), runtime.Version(), commit),
		fmt.Sprintf("%s, work in %s, %s, load before the run %s", time.Now().Format(time.RFC3339), dir, diskBelow(dir), load),
	}
}

// diskBelow names the file system that holds a path, and says whether an ext4
// has a journal: without one a sync takes half as long.
func diskBelow(path string) string {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	device, at, kind := "", "", "unknown file system"
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 2 && len(f[1]) >= len(at) && (f[1] == "/" || f[1] == path || strings.HasPrefix(path, f[1]+"/")) {
			device, at, kind = filepath.Base(f[0]), f[1], f[2]
		}
	}
	if kind == "ext4" {
		if journals, err := filepath.Glob("/proc/fs/jbd2/" + device + "-*"); err == nil && len(journals) == 0 {
			return "ext4 without a journal"
		}
	}
	return kind
}
