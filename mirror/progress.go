package mirror

import (
	"context"
	"io/fs"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// tasks returns all that is pending.
func (p *pending) tasks() []task {
	tasks := make([]task, 0, len(p.items))
	for path, i := range p.items {
		tasks = append(tasks, task{path, i.all, i.marks})
	}
	return tasks
}

// count adds up the size of what a resync will look at, for its progress. What
// goes meanwhile is passed over.
func (r *resync) count(ctx context.Context, tasks []task) {
	var total uint64
	for _, t := range tasks {
		n, err := r.weigh(ctx, t)
		if err != nil {
			return // the resync is over, or will fail of the same: progress without a total
		}
		total += n
	}
	r.log.mu.Lock()
	if r.p.resync != nil {
		r.p.resync.Total = total
	}
	r.log.mu.Unlock()
}

// weigh returns how many bytes a task is about.
func (r *resync) weigh(ctx context.Context, t task) (uint64, error) {
	var total uint64
	err := r.log.cfg.Tree.WalkEntries(t.path, func(path string, e tree.Entry) error {
		size, data := int64(0), t.spans()
		if e.Mode == unix.S_IFREG {
			size = e.Size
		}
		switch {
		case e.Mode == unix.S_IFDIR:
			if path == t.path && t.wide() || t.whole {
				return ctx.Err()
			}
			return fs.SkipDir
		case t.scope == region.Children:
			data = []span{{0, region.End}}
		case t.scope == region.Entries:
			data = []span{{0, op.RegionSize}}
		}
		for _, s := range data {
			total += uint64(max(0, min(s.to, size)-s.from))
		}
		return ctx.Err()
	})
	return total, err
}

// did says that bytes of files are done with, for which so many were read.
func (r *resync) did(bytes, read int64) {
	r.compared += uint64(read)
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.p.resync.Done += uint64(bytes)
	r.progress()
}

// progress brings the estimate up to date. The caller holds mu.
func (r *resync) progress() {
	r.p.resync.estimate(r.p.busy(time.Since(r.began)))
}

// estimate brings the rate and what is left up to date, after so long a time of
// work.
func (g *Gauge) estimate(busy time.Duration) {
	if s := busy.Seconds(); s > 0 {
		g.Rate = float64(g.Done) / s
	}
	if g.Total > 0 {
		g.Total = max(g.Total, g.Done) // what is written meanwhile comes on top
	}
	g.Left = 0
	if g.Rate > 0 && g.Total > g.Done {
		g.Left = time.Duration(float64(g.Total-g.Done) / g.Rate * float64(time.Second)).Round(time.Second)
	}
}

// count adds up the size of what a verify will look at. A file with several names
// is compared once.
func (v *verify) count(ctx context.Context) {
	var total uint64
	seen := make(map[uint64]bool)
	err := v.log.cfg.Tree.WalkEntries(op.Root, func(path string, e tree.Entry) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !v.log.rules.mirrored(path):
			return fs.SkipDir
		case e.Mode != unix.S_IFREG || seen[e.Ino]:
			return nil
		case e.Links > 1:
			seen[e.Ino] = true
		}
		total += uint64(e.Size)
		return nil
	})
	if err != nil {
		return // the verify is over, or will fail of the same
	}
	v.log.mu.Lock()
	v.gauge.Total = total
	v.log.mu.Unlock()
}

// progress is how far it has come. The caller holds log.mu.
func (v *verify) progress() *Verifying {
	v.gauge.Done = v.report.Bytes
	v.gauge.estimate(time.Since(v.began))
	return &Verifying{Began: v.began, Files: v.report.Files, Gauge: v.gauge}
}
