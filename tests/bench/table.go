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

var columns = []string{"row", "configuration", "op/s", "spread", "/ loopback", "/ native", "/ null", "p50", "p99", "p99.9", "CPU us/op", "servers' MiB"}

// mark says whether a ratio reaches what it is to reach.
func mark(r spread, want float64) string {
	switch {
	case r.Median >= want:
		return "ok"
	case r.Max >= want:
		return "~" // within the spread of the repeats
	}
	return "NO"
}

// verdict is a target and what was measured.
type verdict struct {
	Row    string  `json:"row"`
	Config string  `json:"config"`
	Over   string  `json:"over"`
	Want   float64 `json:"want"`
	Ratio  spread  `json:"ratio"`
	Mark   string  `json:"mark"`
}

// verdicts compares the results with the targets of the rows.
func verdicts(rows []row, res results) []verdict {
	var out []verdict
	for _, r := range rows {
		for _, t := range r.Targets {
			a, b := res.rates(r.Name, t.Config), res.rates(r.Name, t.Over)
			if len(a) == 0 || len(b) == 0 {
				continue
			}
			ratio := ratioOf(a, b)
			out = append(out, verdict{r.Name, t.Config, t.Over, t.Want, ratio, mark(ratio, t.Want)})
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
	all := verdicts(rows, res)
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
			fmt.Fprintf(w, "  %-2s %s: %s / %s is %s (%s to %s), to reach %s\n", v.Mark, v.Row, v.Config, v.Over,
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
		for _, over := range []string{"loopback", "native", "null"} {
			line = append(line, ratioCell(r, c, over, res))
		}
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

// ratioCell is c's rate over another's, with what it is to reach. A
// configuration with mirrors is compared with the null Committer, the null
// Committer with the plain loopback and the plain directory.
func ratioCell(r row, c configuration, over string, res results) string {
	a, b := res.rates(r.Name, c.Name), res.rates(r.Name, over)
	if c.Name == over || len(a) == 0 || len(b) == 0 || c.Kind == native {
		return ""
	}
	ratio := ratioOf(a, b)
	i := slices.IndexFunc(r.Targets, func(t target) bool { return t.Config == c.Name && t.Over == over })
	if i < 0 {
		return digits(ratio.Median)
	}
	return fmt.Sprintf("%s of %s %s", digits(ratio.Median), digits(r.Targets[i].Want), mark(ratio, r.Targets[i].Want))
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
