package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Plots are SVG, written by hand: bars for ratios, dots for latencies.

// svg collects shapes. Texts are escaped; numbers are pixels.
type svg struct {
	body          bytes.Buffer
	width, height float64
}

const (
	ink   = "#222"
	faint = "#999"
	grid  = "#e4e4e4"
)

// colors of marks, and of ratios with nothing to reach.
var colors = map[string]string{"ok": "#2e8b57", "~": "#d9a400", "NO": "#c0392b", "": "#5b7fa6"}

func (s *svg) text(x, y, size float64, anchor, color, text string) {
	fmt.Fprintf(&s.body, `<text x="%.1f" y="%.1f" font-size="%.0f" text-anchor="%s" fill="%s">`, x, y, size, anchor, color)
	xml.EscapeText(&s.body, []byte(text))
	s.body.WriteString("</text>\n")
}

func (s *svg) line(x1, y1, x2, y2, width float64, color string) {
	fmt.Fprintf(&s.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"/>`+"\n", x1, y1, x2, y2, color, width)
}

func (s *svg) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(&s.body, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, max(w, 0), h, color)
}

func (s *svg) dot(x, y, r float64, color string) {
	fmt.Fprintf(&s.body, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`+"\n", x, y, r, color)
}

// bytes is the whole document.
func (s *svg) bytes() []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, s.width, s.height, s.width, s.height, s.body.Bytes())
}

// bar is one ratio of a chart.
type bar struct {
	label string
	ratio spread
	want  float64 // 0: nothing to reach
	mark  string
}

// group is a row of the table in a chart.
type group struct {
	label string
	bars  []bar
}

// Measures of a chart, in pixels.
const (
	chartWidth = 980.0
	labelWidth = 330.0
	plotWidth  = chartWidth - labelWidth - 130
	barHeight  = 13.0
	barGap     = 4.0
	groupGap   = 9.0
	headHeight = 64.0
)

// barChart draws ratios as horizontal bars: the median as the bar, the spread
// as a thin line over it, what is to reach as a black tick.
func barChart(title, note string, groups []group) []byte {
	s := &svg{width: chartWidth}
	top := 1.0
	for _, g := range groups {
		for _, b := range g.bars {
			top = max(top, b.want*1.15, min(b.ratio.Max, 2*b.ratio.Median))
		}
	}
	// A few that are far ahead must not flatten the others.
	top = min(top, 6)
	at := func(v float64) float64 { return labelWidth + plotWidth*min(v/top, 1) }
	s.text(16, 26, 17, "start", ink, title)
	s.text(16, 45, 12, "start", faint, note)
	y := headHeight
	for _, g := range groups {
		y += groupGap + float64(len(g.bars))*(barHeight+barGap)
	}
	s.height = y + 40
	step := []float64{.1, .2, .25, .5, 1}
	unit := step[slices.IndexFunc(step, func(u float64) bool { return top/u <= 10 || u == 1 })]
	for n := 0; float64(n)*unit <= top+1e-9; n++ {
		v := float64(n) * unit
		s.line(at(v), headHeight, at(v), y+4, 1, grid)
		s.text(at(v), y+20, 11, "middle", faint, fmt.Sprintf("%g", math.Round(v*100)/100))
	}
	s.line(at(1), headHeight, at(1), y+4, 1, faint)
	y = headHeight
	for _, g := range groups {
		y += groupGap
		for i, b := range g.bars {
			if i == 0 {
				s.text(labelWidth-90, y+barHeight-2, 12, "end", ink, g.label)
			}
			s.text(labelWidth-8, y+barHeight-2, 11, "end", faint, b.label)
			s.rect(labelWidth, y, at(b.ratio.Median)-labelWidth, barHeight, colors[b.mark])
			s.line(at(b.ratio.Min), y+barHeight/2, at(b.ratio.Max), y+barHeight/2, 1.5, ink)
			value := digits(b.ratio.Median)
			if b.want > 0 {
				s.line(at(b.want), y-2, at(b.want), y+barHeight+2, 3, "#000")
				value += " of " + digits(b.want)
			}
			s.text(chartWidth-12, y+barHeight-2, 11, "end", colors[b.mark], value)
			y += barHeight + barGap
		}
	}
	return s.bytes()
}

// latencyChart draws percentiles as dots on a logarithmic axis: p50 filled, p99
// and p99.9 smaller, joined by a line.
func latencyChart(rows []row, configs []configuration, res results) []byte {
	s := &svg{width: chartWidth}
	const decades = 7 // from 100 ns to 1 s
	at := func(d time.Duration) float64 {
		return labelWidth + (plotWidth+110)*min(max(math.Log10(float64(d)/100)/decades, 0), 1)
	}
	s.text(16, 26, 17, "start", ink, "Latency")
	s.text(16, 45, 12, "start", faint, "large dot p50, small dots p99 and p99.9; logarithmic")
	palette := []string{"#777", "#c77d2e", "#2e8b57", "#3566b0", "#8a4fa3", "#b03a5b", "#4a9aa8", "#77762c"}
	y := headHeight
	var shapes svg
	for _, r := range rows {
		first := true
		for i, c := range configs {
			var l latencies
			for _, taken := range res[r.Name][c.Name] {
				l.merge(&taken.Latency)
			}
			if len(l.Buckets) == 0 {
				continue
			}
			if first {
				y += groupGap
				shapes.text(labelWidth-90, y+barHeight-2, 12, "end", ink, r.Title)
				first = false
			}
			color, middle := palette[i%len(palette)], y+barHeight/2
			shapes.text(labelWidth-8, y+barHeight-2, 11, "end", color, c.Name)
			shapes.line(at(l.percentile(.5)), middle, at(l.percentile(.999)), middle, 1.5, color)
			shapes.dot(at(l.percentile(.5)), middle, 5, color)
			shapes.dot(at(l.percentile(.99)), middle, 3, color)
			shapes.dot(at(l.percentile(.999)), middle, 2.5, color)
			y += barHeight + barGap
		}
	}
	s.height = y + 40
	for n := range decades + 1 {
		d := time.Duration(100 * math.Pow10(n))
		s.line(at(d), headHeight, at(d), y+4, 1, grid)
		s.text(at(d), y+20, 11, "middle", faint, d.String())
	}
	s.body.Write(shapes.body.Bytes())
	return s.bytes()
}

// plots draws what a run has measured, by file name.
func plots(rows []row, configs []configuration, res results) map[string][]byte {
	out := map[string][]byte{}
	draw := func(file, title, note string, choose func(target) bool, label func(target) string) {
		var groups []group
		for _, r := range rows {
			g := group{label: r.Title}
			targets := slices.Clone(r.Targets)
			// References without anything to reach are worth seeing, too.
			for _, c := range configs {
				for _, over := range references {
					t := target{Config: c.Name, Over: over}
					if c.Kind != native && c.Name != over && !slices.ContainsFunc(targets, func(u target) bool { return u.Config == t.Config && u.Over == over && !u.P50 }) {
						targets = append(targets, t)
					}
				}
			}
			for _, t := range targets {
				if ratio, ok := res.ratio(r.Name, t); ok && choose(t) {
					g.bars = append(g.bars, bar{label(t), ratio, t.Want, t.mark(ratio)})
				}
			}
			if len(g.bars) > 0 {
				groups = append(groups, g)
			}
		}
		if len(groups) > 0 {
			out[file] = barChart(title, note, groups)
		}
	}
	kindOf := func(name string) kind {
		c, _ := parseConfiguration(name, 0)
		return c.Kind
	}
	const more = "bar: median; thin line: spread of the rounds; tick: what is to be reached; more is better"
	config := func(t target) string { return t.Config }
	draw("null-loopback.svg", "Null Committer over go-fuse's loopback", more,
		func(t target) bool { return t.Config == "null" && t.Over == "loopback" }, func(target) string { return "" })
	draw("null-native.svg", "Null Committer over a plain directory", more,
		func(t target) bool { return t.Config == "null" && t.Over == "native" }, func(target) string { return "" })
	draw("mirrors-null.svg", "With mirrors over without", more,
		func(t target) bool { return kindOf(t.Config) == mirrored && t.Over == "null" }, config)
	draw("gluster.svg", "One mirror over GlusterFS, replica 2", more,
		func(t target) bool { return t.Over == "gluster2" }, config)
	draw("wire.svg", "Multiplexed over bare connections", more,
		func(t target) bool { return kindOf(t.Config) == wired }, config)
	draw("distance.svg", "Median latency of ten mirrors over that of one", "bar: median; thin line: spread; tick: what is to be reached; less is better",
		func(t target) bool { return t.P50 }, config)
	if all := breakdowns(res); len(all) > 0 {
		out["breakdown.svg"] = breakdownChart(all)
	}
	out["latency.svg"] = latencyChart(rows, configs, res)
	return out
}

// keepPlots writes them into a folder, in place of those of an earlier run.
func keepPlots(dir string, drawn map[string][]byte) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for name, b := range drawn {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
