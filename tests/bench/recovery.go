package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// What a repair costs: how much travels and how long it takes until a mirror
// that was away is in sync again, and what being prepared for that costs while
// nothing happens. These are no rows: each figure is measured once or a few
// times, and has a bound instead of ratios between configurations.

// figure is one of them.
type figure struct {
	Name  string  `json:"name"`
	Title string  `json:"title"`
	Value spread  `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Bound float64 `json:"bound,omitempty"` // 0: none
	Least bool    `json:"least,omitempty"` // the bound is one from below
	About string  `json:"about"`           // what it was measured on
}

// once is the value of what was measured once.
func once(v float64) spread { return spread{v, v, v} }

func (f figure) mark() string {
	v, best := f.Value.Median, f.Value.Min
	if f.Least {
		best = f.Value.Max
	}
	within := func(x float64) bool { return x <= f.Bound != f.Least || x == f.Bound }
	switch {
	case f.Bound == 0:
		return ""
	case within(v):
		return "ok"
	case within(best):
		return "~"
	}
	return "NO"
}

func (f figure) bound() string {
	switch {
	case f.Bound == 0:
		return ""
	case f.Least:
		return "at least " + digits(f.Bound) + f.Unit
	}
	return "at most " + digits(f.Bound) + f.Unit
}

// recovery is what is measured of it, and on how much.
type recovery struct {
	parts []section
	bytes int64 // of a tree, and of one large file
	files int   // small ones
	pairs int   // of samples with the hot set and without
}

// section is a volume of its own with the figures that are taken on it.
type section struct {
	name, title string
	measure     func(r recovery, ctx context.Context, p *place, add func(figure)) error
}

func sections() []section {
	return []section{
		{"recovery-data", "repairs of a tree and of a large file", recovery.data},
		{"recovery-files", "repairs of very many small files", recovery.many},
		{"recovery-hot", "what is recorded before each change", recovery.hot},
	}
}

// newRecovery chooses the parts that match.
func newRecovery(match *regexp.Regexp, full bool) recovery {
	r := recovery{bytes: 1 << 30, files: 20_000, pairs: 12}
	if full {
		r = recovery{bytes: 10 << 30, files: 1_000_000, pairs: 40}
	}
	for _, p := range sections() {
		if match.MatchString(p.name) {
			r.parts = append(r.parts, p)
		}
	}
	return r
}

// runRecovery measures all parts. A part that fails is left out from there on
// and said in notes, and an error.
func (p *place) runRecovery(ctx context.Context, r recovery, progress io.Writer) (figures []figure, notes []string, err error) {
	for _, part := range r.parts {
		fmt.Fprintf(progress, "\r\x1b[K%s", part.title)
		began := time.Now()
		failed := part.measure(r, ctx, p, func(f figure) {
			f.Name = part.name + "/" + f.Name
			figures = append(figures, f)
			fmt.Fprintf(progress, "\r\x1b[K%s: %s %s%s", part.title, f.Title, digits(f.Value.Median), f.Unit)
		})
		if ctx.Err() != nil {
			return figures, notes, context.Cause(ctx)
		}
		if failed != nil {
			notes = append(notes, fmt.Sprintf("%s: %s", part.name, short(failed)))
			err = errors.New("some figures of repairs failed: see the notes above the table")
			continue
		}
		notes = append(notes, fmt.Sprintf("%s took %s", part.name, time.Since(began).Round(time.Second)))
	}
	fmt.Fprint(progress, "\r\x1b[K")
	return figures, notes, err
}

// printFigures writes the table.
func printFigures(w io.Writer, figures []figure) {
	if len(figures) == 0 {
		return
	}
	lines := [][]string{{"what a repair costs", "measured", "bound", "", "on"}}
	for _, f := range figures {
		value := digits(f.Value.Median) + f.Unit
		if f.Value.Min != f.Value.Max {
			value += fmt.Sprintf(" (%s to %s)", digits(f.Value.Min), digits(f.Value.Max))
		}
		lines = append(lines, []string{f.Title, value, f.bound(), f.mark(), f.About})
	}
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			fmt.Fprintf(&b, "%-*s  ", width[i], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintln(w)
}

const mib = 1 << 20

// ending stops what a part has started.
func ending(v *volume, err *error) { *err = errors.Join(*err, v.stop()) }

// data measures repairs of a tree of large and middling files, and of a file
// that is as large as all of these.
func (r recovery) data(ctx context.Context, p *place, add func(figure)) (err error) {
	v, first, err := p.newVolume(ctx, "recovery-data", func(dir string) error {
		if err := writeTree(filepath.Join(dir, "tree"), r.bytes); err != nil {
			return err
		}
		return writeFile(filepath.Join(dir, "big"), r.bytes, random(7))
	})
	if err != nil {
		return err
	}
	defer ending(v, &err)
	tree, below := filepath.Join(v.mount, "tree"), filepath.Join(v.below, "tree")
	alone, err := cat(ctx, below)
	if err != nil {
		return err
	}
	both, err := cat(ctx, below, filepath.Join(v.root, mirrorName0, "tree"))
	if err != nil {
		return err
	}
	size := float64(r.bytes)
	reference := fmt.Sprintf("cat of one replica %s MB/s, of both side by side %s MB/s each", digits(size/alone/1e6), digits(size/both/1e6))
	add(figure{Name: "copy", Title: "first copy / cat", Value: once(2 * alone / first.seconds),
		About: fmt.Sprintf("%s MB/s; %s", digits(2*size/first.seconds/1e6), reference)})

	if err := v.settle(ctx); err != nil {
		return err
	}
	got, err := v.away(ctx, false, func() error {
		b := make([]byte, 4096)
		random(time.Now().UnixNano()).Read(b)
		return writeAt(filepath.Join(v.mount, "big"), b, r.bytes/2+12345)
	})
	if err != nil {
		return err
	}
	digests := float64(r.bytes) / regionSize * 16
	add(figure{Name: "one", Title: "on the wire, 4 KiB changed in a large file", Value: once(float64(got.bytes) / 1024), Unit: " KiB",
		Bound: (regionSize + digests) / 1024, About: fmt.Sprintf("a file of %d MiB: one region is 64 KiB, digests of all of it %s KiB; %s s", r.bytes/mib, digits(digests/1024), digits(got.whole))})

	var changed int64
	got, err = v.away(ctx, false, func() (err error) {
		changed, err = changeRegions(tree, int(r.bytes/100/regionSize))
		return err
	})
	if err != nil {
		return err
	}
	add(figure{Name: "changed", Title: "on the wire / changed, 1 % of a tree", Value: once(float64(got.bytes) / float64(changed)), Bound: 1.1,
		About: fmt.Sprintf("%s MiB in regions all over a tree of %d MiB; %s s", digits(float64(changed)/mib), r.bytes/mib, digits(got.whole))})

	elsewhere := filepath.Join(v.mount, "moved")
	if got, err = v.away(ctx, false, func() error { return os.Rename(tree, elsewhere) }); err != nil {
		return err
	}
	add(figure{Name: "moved", Title: "on the wire / moved, a directory", Value: once(100 * float64(got.bytes) / size), Unit: " %", Bound: .1,
		About: fmt.Sprintf("a tree of %d MiB; %s s", r.bytes/mib, digits(got.whole))})
	if err := os.Rename(elsewhere, tree); err != nil {
		return err
	}
	v.changed()

	if err := v.settle(ctx); err != nil {
		return err
	}
	if got, err = v.underLoad(ctx, tree); err != nil {
		return err
	}
	add(figure{Name: "return", Title: "a killed mirror's return until in sync, under load", Value: once(got.whole), Unit: " s",
		About: fmt.Sprintf("away for %s, 500 writes and 25 new files a second all the while; %s MiB on the wire", outage, digits(float64(got.bytes)/mib))})

	if got, err = v.away(ctx, true, func() error { return turnOver(tree) }); err != nil {
		return err
	}
	add(figure{Name: "compare", Title: "comparing a tree, cold / cat", Value: once(alone / got.seconds), Bound: .5, Least: true,
		About: fmt.Sprintf("%s MB/s; %s; %s MiB on the wire", digits(size/got.seconds/1e6), reference, digits(float64(got.bytes)/mib))})
	verify, err := v.verify(ctx)
	if err != nil {
		return err
	}
	add(figure{Name: "verify", Title: "verify of all, cold / cat", Value: once(2 * alone / verify), Bound: .5, Least: true,
		About: fmt.Sprintf("%s MB/s; %s", digits(2*size/verify/1e6), reference)})
	return nil
}

// many measures repairs of very many small files.
func (r recovery) many(ctx context.Context, p *place, add func(figure)) (err error) {
	v, first, err := p.newVolume(ctx, "recovery-files", func(dir string) error { return writeMany(filepath.Join(dir, "many"), r.files) })
	if err != nil {
		return err
	}
	defer ending(v, &err)
	many, below := filepath.Join(v.mount, "many"), filepath.Join(v.below, "many")
	alone, err := cat(ctx, below)
	if err != nil {
		return err
	}
	both, err := cat(ctx, below, filepath.Join(v.root, mirrorName0, "many"))
	if err != nil {
		return err
	}
	n := float64(r.files)
	reference := fmt.Sprintf("cat of one replica %s files/s, of both side by side %s each", quantity(n/alone), quantity(n/both))
	add(figure{Name: "copy", Title: "first copy of many small files / cat", Value: once(alone / first.seconds),
		About: fmt.Sprintf("%s files, %s files/s; %s", quantity(n), quantity(n/first.seconds), reference)})
	if err := v.settle(ctx); err != nil {
		return err
	}
	var changed int64
	got, err := v.away(ctx, false, func() (err error) {
		changed, err = changeFiles(many, r.files/100)
		return err
	})
	if err != nil {
		return err
	}
	add(figure{Name: "changed", Title: "on the wire / changed, 1 % of many small files", Value: once(float64(got.bytes) / float64(changed)),
		About: fmt.Sprintf("%s files, %s KiB, %s s", quantity(n/100), digits(float64(changed)/1024), digits(got.whole))})
	if got, err = v.away(ctx, true, func() error { return turnOver(many) }); err != nil {
		return err
	}
	add(figure{Name: "compare", Title: "comparing many small files, cold / cat", Value: once(alone / got.seconds), Bound: .5, Least: true,
		About: fmt.Sprintf("%s files/s; %s; %s MiB on the wire", quantity(n/got.seconds), reference, digits(float64(got.bytes)/mib))})
	verify, err := v.verify(ctx)
	if err != nil {
		return err
	}
	add(figure{Name: "verify", Title: "verify of many small files, cold / cat", Value: once(alone / verify), Bound: .5, Least: true,
		About: fmt.Sprintf("%s files/s; %s", quantity(n/verify), reference)})
	return nil
}

// outage is how long the mirror is away under load.
const outage = 10 * time.Second

// underLoad kills the mirror and brings it back while a program goes on writing.
func (v *volume) underLoad(ctx context.Context, tree string) (repair, error) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		_, err := runLoad(loading, job{work: work{Kind: "steady", Threads: 1, Time: repairLimit, Keep: true}, Dir: tree, Below: tree})
		ended <- err
	}()
	select { // until there is something hot
	case <-time.After(2 * time.Second):
	case err := <-ended:
		return repair{}, err
	}
	got, err := v.away(ctx, false, func() error {
		select {
		case <-time.After(outage):
			return nil
		case err := <-ended:
			return fmt.Errorf("the load ended: %w", err)
		}
	})
	stop()
	<-ended
	v.changed()
	return got, err
}
