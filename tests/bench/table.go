package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// table is the results as text: a block for each row, a line for each
// configuration, with its ratios to others and what they are to reach.
type table struct {
	lines [][]string
}

var columns = []string{"row", "configuration", "op/s", "spread", "/ loopback", "/ native", "/ null", "others", "p50", "p99", "p99.9", "CPU us/op", "servers' MiB"}

// mark says whether a ratio reaches what it is to reach.
func (t target) mark(r spread) string {
	switch {
	case t.Want == 0:
		return ""
	case t.P50 && r.Median <= t.Want, !t.P50 && r.Median >= t.Want:
		return "ok"
	case t.P50 && r.Min <= t.Want, !t.P50 && r.Max >= t.Want:
		return "~" // within the spread of the repeats
	}
	return "NO"
}

// text is a ratio with what it is to reach.
func (t target) text(r spread) string {
	if t.Want == 0 {
		return digits(r.Median)
	}
	return fmt.Sprintf("%s of %s %s", digits(r.Median), digits(t.Want), t.mark(r))
}

// verdict is a target and what was measured.
type verdict struct {
	Row string `json:"row"`
	target
	Ratio spread `json:"ratio"`
	Mark  string `json:"mark"`
}

// verdicts compares the results with the targets of the rows.
func verdicts(rows []row, res results) []verdict {
	var out []verdict
	for _, r := range rows {
		for _, t := range r.Targets {
			if ratio, ok := res.ratio(r.Name, t); ok {
				out = append(out, verdict{r.Name, t, ratio, t.mark(ratio)})
			}
		}
	}
	return out
}

// printTable writes the table and a summary of the targets.
func printTable(w io.Writer, rows []row, configs []configuration, res results) {
	t := table{lines: [][]string{columns}}
	for _, r := range rows {
		t.add(r, configs, res)
	}
	t.print(w)
	all := slices.DeleteFunc(verdicts(rows, res), func(v verdict) bool { return v.Want == 0 })
	count := map[string]int{}
	for _, v := range all {
		count[v.Mark]++
	}
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d of %d ratios reached (ok), %d missed by less than the spread (~), %d missed (NO)\n", count["ok"], len(all), count["~"], count["NO"])
	for _, v := range all {
		if v.Mark != "ok" {
			fmt.Fprintf(w, "  %-2s %s: %s is %s (%s to %s), to reach %s\n", v.Mark, v.Row, v.Config+" "+v.name(),
				digits(v.Ratio.Median), digits(v.Ratio.Min), digits(v.Ratio.Max), digits(v.Want))
		}
	}
}

func (t *table) add(r row, configs []configuration, res results) {
	first := r.Title
	for _, c := range configs {
		got := res[r.Name][c.Name]
		if len(got) == 0 {
			continue
		}
		rate := spreadOf(res.rates(r.Name, c.Name))
		var lat latencies
		var ops int64
		var cpu float64
		var peak int64
		for _, s := range got {
			lat.merge(&s.Latency)
			ops += s.Ops
			cpu += s.LoadCPU + s.ServerCPU
			peak = max(peak, s.PeakKiB)
		}
		wide := fmt.Sprintf("+-%.0f%%", 50*rate.relative())
		if rate.relative() > noisy {
			wide += " noisy"
		}
		line := []string{first, c.Name, quantity(rate.Median), wide}
		line = append(line, ratioCells(r, c, res)...)
		memory := "-"
		if c.Kind != native {
			memory = fmt.Sprintf("%d", peak>>10)
		}
		line = append(line, period(lat.percentile(.5)), period(lat.percentile(.99)), period(lat.percentile(.999)),
			digits(cpu/float64(ops)*1e6), memory)
		t.lines = append(t.lines, line)
		first = ""
	}
}

// ratioCells are c's rates over those of the three references, and its other
// ratios.
func ratioCells(r row, c configuration, res results) []string {
	var cells []string
	for _, over := range references {
		t := target{Config: c.Name, Over: over}
		if i := slices.IndexFunc(r.Targets, func(u target) bool { return u.Config == t.Config && u.Over == t.Over && !u.P50 }); i >= 0 {
			t = r.Targets[i]
		}
		cell := ""
		if ratio, ok := res.ratio(r.Name, t); ok && c.Name != over && c.Kind != native {
			cell = t.text(ratio)
		}
		cells = append(cells, cell)
	}
	var others []string
	for _, t := range r.Targets {
		if ratio, ok := res.ratio(r.Name, t); ok && t.Config == c.Name && (t.P50 || !slices.Contains(references, t.Over)) {
			others = append(others, t.name()+" "+t.text(ratio))
		}
	}
	return append(cells, strings.Join(others, ", "))
}

// references are what most ratios are to.
var references = []string{"loopback", "native", "null"}

// name says what a target compares.
func (t target) name() string {
	if t.P50 {
		return "p50 / " + t.Over
	}
	return "/ " + t.Over
}

func (t *table) print(w io.Writer) {
	width := make([]int, len(columns))
	for _, line := range t.lines {
		for i, cell := range line {
			width[i] = max(width[i], len(cell))
		}
	}
	for n, line := range t.lines {
		if n > 0 && line[0] != "" {
			fmt.Fprintln(w)
		}
		var b strings.Builder
		for i, cell := range line {
			if i < 2 {
				fmt.Fprintf(&b, "%-*s  ", width[i], cell)
			} else {
				fmt.Fprintf(&b, "%*s  ", width[i], cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
