package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// row is one line of the table: a phase of some work, on some configurations.
type row struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Unit    string   `json:"unit"` // of one op
	Work    work     `json:"work"`
	Phase   string   `json:"phase"`
	Configs []string `json:"configs"`
	Targets []target `json:"targets,omitempty"`
	Repeats int      `json:"repeats,omitempty"` // 0: as many as the run has
	Full    bool     `json:"full,omitempty"`    // only in a full run, or when asked for by name
}

// target is a ratio to be reached: Config's rate over Over's, at least Want, or
// its median latency over Over's, at most Want. With Want 0 the ratio is shown.
type target struct {
	Config string  `json:"config"`
	Over   string  `json:"over"`
	Want   float64 `json:"want"`
	P50    bool    `json:"p50,omitempty"`
}

// sampleTime is how long one sample takes, unless the run is told otherwise.
const sampleTime = 400 * time.Millisecond

// ratios are the targets of a row; zero is none.
type ratios struct{ loopback, native, op, barrier float64 }

func (r ratios) targets() []target {
	var out []target
	for _, t := range []target{
		{Config: "null", Over: "loopback", Want: r.loopback}, {Config: "null", Over: "native", Want: r.native},
		{Config: "op1", Over: "null", Want: r.op}, {Config: "barrier1", Over: "null", Want: r.barrier},
	} {
		if t.Want > 0 {
			out = append(out, t)
		}
	}
	return out
}

// rows are all rows, in the order of the table.
func rows() []row {
	var all []row
	add := func(r row, phase string, want ratios, extra ...string) {
		r.Phase, r.Targets = phase, want.targets()
		r.Configs = append(slices.Clone(standard), extra...)
		r.Full = r.Full || r.Work.Threads == 64 && r.Work.Kind != "write" || r.Work.Threads == 64 && r.Work.Size > 4<<10
		if want, ok := overGluster(r.Name); ok {
			r.Targets = append(r.Targets, target{Config: "op1", Over: "gluster2", Want: want})
		}
		all = append(all, r)
	}
	threads := func(n int) string {
		if n == 1 {
			return "1 thread"
		}
		return fmt.Sprintf("%d threads", n)
	}
	pick := func(n int, one, eight, many float64) float64 {
		return map[int]float64{1: one, 8: eight, 64: many}[n]
	}
	for _, n := range []int{1, 8, 64} {
		add(row{Name: fmt.Sprintf("write4k/%d", n), Title: "4K writes, " + threads(n), Unit: "write",
			Work: work{Kind: "write", Threads: n, Size: 4 << 10, Keep: true}}, "write",
			ratios{loopback: 2, op: pick(n, .15, .30, .60), barrier: pick(n, .35, .50, .60)}, more...)
	}
	for _, n := range []int{1, 8, 64} {
		want := ratios{loopback: pick(n, 1.3, 1, 1), native: .6, op: pick(n, .50, .45, .80)}
		want.barrier = want.op
		add(row{Name: fmt.Sprintf("sync4k/%d", n), Title: "4K + fdatasync, " + threads(n), Unit: "write",
			Work: work{Kind: "write", Threads: n, Size: 4 << 10, Every: 1, Keep: true}}, "write", want, more...)
	}
	for _, size := range []struct {
		name, title string
		bytes       int
	}{{"write128k", "128K writes", 128 << 10}, {"write1m", "1M writes", 1 << 20}} {
		for _, n := range []int{1, 8, 64} {
			add(row{Name: fmt.Sprintf("%s/%d", size.name, n), Title: size.title + ", " + threads(n), Unit: "write",
				Work: work{Kind: "write", Threads: n, Size: size.bytes, Keep: true}}, "write", ratios{loopback: 1.4, op: .5, barrier: .5})
		}
	}
	for _, n := range []int{1, 8, 64} {
		add(row{Name: fmt.Sprintf("random4k/%d", n), Title: "4K random + fsync, " + threads(n), Unit: "write",
			Work: work{Kind: "random", Threads: n, Size: 4 << 10, Keep: true}}, "write", ratios{})
		add(row{Name: fmt.Sprintf("append4k/%d", n), Title: "4K append, every 8th synced, " + threads(n), Unit: "append",
			Work: work{Kind: "append", Threads: n, Size: 4 << 10, Every: 8}}, "append", ratios{})
	}
	for _, n := range []int{1, 8, 64} {
		add(row{Name: fmt.Sprintf("read4k/%d", n), Title: "4K reads, cached, " + threads(n), Unit: "read",
			Work: work{Kind: "read", Threads: n, Size: 4 << 10, Keep: true}}, "read", ratios{1, .95, 1, 1})
		add(row{Name: fmt.Sprintf("read1m/%d", n), Title: "1M reads, opened anew, " + threads(n), Unit: "read",
			Work: work{Kind: "reopen", Threads: n, Size: 1 << 20, Keep: true}}, "read", ratios{3, .9, 1, 1})
	}
	add(row{Name: "cold4k", Title: "4K reads, cold, 1 thread", Unit: "read",
		Work: work{Kind: "cold", Threads: 1, Size: 4 << 10, Keep: true}}, "read", ratios{})
	add(row{Name: "mmap", Title: "mmap reads, cached, 1 thread", Unit: "page",
		Work: work{Kind: "mapped", Threads: 1, Size: 4 << 10, Keep: true}}, "read", ratios{})
	for _, n := range []int{1, 8, 64} {
		for _, phase := range []struct {
			name, title string
			loopback    float64
		}{{"create", "create", 1}, {"stat", "stat, cold names", 1.4}, {"rename", "rename", 1}, {"unlink", "unlink", 2}} {
			mirror := pick(n, .3, .6, .6)
			var extra []string
			if phase.name == "create" {
				extra = more
			}
			if phase.name == "stat" {
				mirror = 1
			}
			add(row{Name: fmt.Sprintf("%s/%d", phase.name, n), Title: phase.title + ", " + threads(n), Unit: phase.name,
				Work: work{Kind: "names", Threads: n}}, phase.name,
				ratios{loopback: phase.loopback, op: mirror, barrier: mirror}, extra...)
		}
	}
	add(row{Name: "readdir", Title: "readdir, 10,000 entries", Unit: "listing",
		Work: work{Kind: "list", Threads: 1, Size: 10_000, Keep: true}}, "readdir", ratios{5, .6, 1, 1})
	add(row{Name: "untar", Title: "untar a source tree", Unit: "file", Repeats: 3,
		Work: work{Kind: "archive", Threads: 1, Size: 1000}}, "untar", ratios{})
	add(row{Name: "rmtree", Title: "rm -rf a source tree", Unit: "file", Repeats: 3,
		Work: work{Kind: "archive", Threads: 1, Size: 1000}}, "rm", ratios{})
	for _, kind := range []struct {
		name string
		want ratios
	}{{"small", ratios{1.3, .6, .5, .7}}, {"large", ratios{2, .55, .3, .6}}, {"blob", ratios{1.3, .5, .5, .75}}} {
		add(row{Name: "zodb-" + kind.name, Title: "ZODB commits, " + kind.name, Unit: "commit",
			Work: work{Kind: "zodb", Flavor: kind.name}}, "commit", kind.want)
	}
	for _, n := range []int{1, 4} {
		title := "ZEO commits, 1 client"
		if n > 1 {
			title = fmt.Sprintf("ZEO commits, %d clients", n)
		}
		add(row{Name: fmt.Sprintf("zeo-small/%d", n), Title: title, Unit: "commit",
			Work: work{Kind: "zodb", Flavor: "small", Threads: n}}, "commit", ratios{native: .8, barrier: .85})
	}
	for _, kind := range []string{"large", "blob"} {
		add(row{Name: fmt.Sprintf("zeo-%s/1", kind), Title: fmt.Sprintf("ZEO commits, %s, 1 client", kind), Unit: "commit", Full: true,
			Work: work{Kind: "zodb", Flavor: kind, Threads: 1}}, "commit", ratios{})
	}
	for _, journal := range []string{"delete", "wal"} {
		add(row{Name: "sqlite-" + journal, Title: "SQLite transactions, " + journal, Unit: "transaction",
			Work: work{Kind: "sqlite", Flavor: journal}}, "transaction", ratios{})
	}
	add(row{Name: "pgbench", Title: "pgbench, 4 clients", Unit: "transaction", Repeats: 3,
		Work: work{Kind: "postgres", Keep: true}}, "transaction", ratios{})
	for _, w := range []struct {
		name, title   string
		size, waiting int
	}{{"wire64/1", "64-byte", 64, 1}, {"wire4k/1", "4K", 4 << 10, 1}, {"wire4k/8", "4K", 4 << 10, 8}, {"wire4k/64", "4K", 4 << 10, 64}} {
		all = append(all, row{Name: w.name, Title: fmt.Sprintf("%s ops on the wire, %d waiting", w.title, w.waiting), Unit: "op",
			Work: work{Kind: "wire", Threads: w.waiting, Size: w.size}, Phase: "op", Configs: wires[:2],
			Targets: []target{{Config: "yamux-tls", Over: "bare-tls"}, {Config: "yamux-plain", Over: "bare-plain"}}})
	}
	return append(all, partRows()...)
}

// overGluster is how many times the rate of GlusterFS's replica 2 one mirror is
// to reach.
func overGluster(name string) (float64, bool) {
	for _, t := range []struct {
		prefix string
		want   float64
	}{
		{"sync4k/", 3}, {"random4k/", 3}, {"append4k/", 3}, {"write1m/", 2},
		{"create/", 10}, {"rename/", 10}, {"unlink/", 10}, {"zodb-", 3},
	} {
		if strings.HasPrefix(name, t.prefix) {
			return t.want, true
		}
	}
	return 0, false
}

// fits reports whether work can be done on a configuration.
func (w work) fits(c configuration) bool {
	if w.Kind == "parts" && c.Kind != native {
		return false
	}
	return (w.Kind == "wire") == (c.Kind == wired)
}

// distant changes a row for mirrors at a distance: what the mount costs without
// them is known then, and what counts is that many cost little more than one.
func (r *row) distant() {
	r.Targets = nil
	for _, sync := range []string{"op", "barrier"} {
		r.Targets = append(r.Targets, target{Config: sync + "10", Over: sync + "1", Want: 1.2, P50: true})
	}
}

// choose returns the rows whose names match; without an expression those that
// are not for a full run only, unless it is one.
func choose(all []row, match *regexp.Regexp, full bool) []row {
	full = full || match.String() != ""
	return slices.DeleteFunc(slices.Clone(all), func(r row) bool { return !match.MatchString(r.Name) || r.Full && !full })
}
