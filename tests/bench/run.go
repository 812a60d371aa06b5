package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// results are the samples of a run: by row and configuration, in the order of
// the repeats.
type results map[string]map[string][]*sample

func (r results) add(row, config string, s *sample) {
	if r[row] == nil {
		r[row] = map[string][]*sample{}
	}
	r[row][config] = append(r[row][config], s)
}

// rates of a row on a configuration, in ops a second.
func (r results) rates(row, config string) []float64 {
	var out []float64
	for _, s := range r[row][config] {
		out = append(out, s.rate())
	}
	return out
}

// medians of the latencies of a row on a configuration, in seconds.
func (r results) medians(row, config string) []float64 {
	var out []float64
	for _, s := range r[row][config] {
		out = append(out, s.Latency.percentile(.5).Seconds())
	}
	return out
}

// ratio is what t is about, and whether both of its sides have been measured.
func (r results) ratio(row string, t target) (spread, bool) {
	values := r.rates
	if t.P50 {
		values = r.medians
	}
	a, b := values(row, t.Config), values(row, t.Over)
	return ratioOf(a, b), len(a) > 0 && len(b) > 0
}

// plan is what a run does.
type plan struct {
	rows     []row
	configs  []configuration // in the order of the table
	recovery recovery
	repeats  int
	limit    time.Duration
	profile  string // what to take profiles of: "", "missed" or "all"
	profiles string // the folder for them
	progress io.Writer
}

// task is work with the rows that take a phase of it and the configurations
// on which any of these rows wants it.
type task struct {
	work    work
	rows    []row
	configs []configuration
	repeats int             // 0: as many as the run has
	lost    map[string]bool // configurations on which it has failed
}

// tasks gathers rows that share their work: it is done once for all of them.
func (p *plan) tasks() []task {
	var out []task
	for _, r := range p.rows {
		i := slices.IndexFunc(out, func(t task) bool { return t.work == r.Work })
		if i < 0 {
			i, out = len(out), append(out, task{work: r.Work, repeats: r.Repeats, lost: map[string]bool{}})
		}
		out[i].rows = append(out[i].rows, r)
	}
	for i := range out {
		for _, c := range p.configs {
			if slices.ContainsFunc(out[i].rows, func(r row) bool { return slices.Contains(r.Configs, c.Name) }) {
				out[i].configs = append(out[i].configs, c)
			}
		}
	}
	return out
}

// run runs the plan in rounds over all tasks. Within a task the configurations
// take turns, and each round begins with another one, so that what changes on
// the machine meanwhile meets all of them. No round begins that would probably
// not end within the limit. A configuration that cannot be had is left out, and
// so is what fails; both are said in notes, and an error too for what failed.
func (p *place) run(ctx context.Context, pl plan) (out results, notes []string, err error) {
	out = results{}
	up := map[string]*system{} // nil where it cannot be had
	defer func() {
		for _, s := range up {
			if s != nil {
				err = errors.Join(err, s.stop())
			}
		}
	}()
	tasks := pl.tasks()
	for i := range tasks {
		for _, c := range tasks[i].configs {
			if _, there := up[c.Name]; there {
				continue
			}
			s, err := p.start(ctx, c)
			if errors.Is(err, errUnavailable) {
				notes = append(notes, err.Error())
				s = nil
			} else if err != nil {
				return out, notes, err
			}
			up[c.Name] = s
		}
	}
	failed := false
	began := time.Now()
	for n := range pl.repeats {
		round := time.Now()
		for i := range tasks {
			t := &tasks[i]
			if t.repeats > 0 && n >= t.repeats {
				continue
			}
			for k := range t.configs {
				s := up[t.configs[(k+n)%len(t.configs)].Name]
				if s == nil || t.lost[s.Name] {
					continue
				}
				fmt.Fprintf(pl.progress, "\r\x1b[Kround %d of %d, %s, %s", n+1, pl.repeats, t.name(), s.Name)
				got, err := s.measure(ctx, t.work, int64(n))
				if ctx.Err() != nil {
					return out, notes, context.Cause(ctx)
				}
				if err != nil {
					t.lost[s.Name] = true
					notes = append(notes, fmt.Sprintf("%s on %s: %s", t.name(), s.Name, short(err)))
					failed = failed || !errors.Is(err, errUnavailable)
					continue
				}
				for _, r := range t.rows {
					if taken := got[r.Phase]; taken != nil && slices.Contains(r.Configs, s.Name) {
						out.add(r.Name, s.Name, taken)
					}
				}
			}
		}
		if last := time.Since(round); n+1 < pl.repeats && time.Since(began)+last > pl.limit {
			notes = append(notes, fmt.Sprintf("%d of %d rounds: another one would not have ended within %s", n+1, pl.repeats, pl.limit))
			break
		}
	}
	fmt.Fprint(pl.progress, "\r\x1b[K")
	for name, r := range pl.toProfile(out) {
		s := up[name.config]
		if s == nil {
			continue
		}
		err := s.profile(ctx, r, pl.profiles)
		if errors.Is(err, errUnavailable) {
			notes = append(notes, err.Error())
			break
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("profile of %s on %s: %s", r.Name, s.Name, short(err)))
		}
	}
	if failed {
		err = errors.New("some rows failed: see the notes above the table")
	}
	return out, notes, err
}

// toProfile picks what a profile is to be taken of.
func (p *plan) toProfile(res results) map[profiled]row {
	out := map[profiled]row{}
	for _, r := range p.rows {
		switch p.profile {
		case "all":
			for _, config := range r.Configs {
				out[profiled{r.Name, config}] = r
			}
		case "missed":
			for _, v := range verdicts([]row{r}, res) {
				if v.Mark == "NO" {
					out[profiled{r.Name, v.Config}] = r
				}
			}
		}
	}
	return out
}

// profiled is a row on a configuration.
type profiled struct{ row, config string }

// short is an error in one line: its beginning, and its end, where programs say
// what went wrong.
func short(err error) string {
	const head, tail = 200, 200
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > head+tail {
		text = text[:head] + " ... " + text[len(text)-tail:]
	}
	return text
}

func (t *task) name() string {
	var names []string
	for _, r := range t.rows {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

// measure does some work once.
func (s *system) measure(ctx context.Context, w work, seed int64) (samples, error) {
	j := job{work: w}
	// Each time another name, and so another place on the disk: see scatter.
	s.jobs++
	name := fmt.Sprintf("work-%s-%d", s.Name, s.jobs)
	if w.Keep {
		name = s.kept(w)
	}
	j.Dir, j.Below = filepath.Join(s.dir, name), filepath.Join(s.below, name)
	j.Mount, j.Input, j.Python, j.Servers, j.Seed = s.mount, s.input, s.python, s.servers, seed
	j.Config, j.Address, j.Secret = s.Name, s.address, s.secret
	return runLoad(ctx, j)
}

// kept is the directory of work whose files stay.
func (s *system) kept(w work) string { return fmt.Sprintf("%s-%d-%d", w.Kind, w.Threads, w.Size) }
