package main

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
)

// Where the time of one call goes. The parts are medians of rows of the same
// run, measured alone, and the whole is the call on a mount with one mirror.
// What the parts do not explain is the last one.

// loadParts does by itself what primary and mirror do with an op, without a
// kernel or a network between: encode it into memory that is there, apply it.
func loadParts(l *loader) error {
	t, err := tree.Open(l.Dir)
	if err != nil {
		return err
	}
	defer t.Close()
	now := op.Time{Sec: time.Now().Unix()}
	attr := op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: unix.S_IFREG | 0o644, Mtime: now}
	ops := map[string]func(i int) *op.Op{
		"write": func(i int) *op.Op {
			return &op.Op{Kind: op.Write, Path: "file", Off: int64(i % 1024 * 4096), Data: make([]byte, 4096)}
		},
		"create": func(i int) *op.Op {
			return &op.Op{Kind: op.Create, Path: fmt.Sprintf("f%d", i), Attr: attr, Dir: now}
		},
		"fsync": func(int) *op.Op {
			return &op.Op{Kind: op.Fsync, Path: "file", Flags: op.Barrier | op.DataOnly}
		},
	}
	if err := t.Apply(&op.Op{Kind: op.Create, Path: "file", Attr: attr, Dir: now}); err != nil {
		return err
	}
	ring := make([]byte, 0, 2<<20)
	for _, kind := range []string{"write", "create", "fsync"} {
		// Made beforehand: in the daemon the kernel's request has it all.
		ready := make([]*op.Op, 50_000)
		for i := range ready {
			ready[i] = ops[kind](i)
			if kind == "write" && i >= 64 {
				ready[i] = ready[i%64]
			}
		}
		var frame []byte
		if err := l.timed("encode-"+kind, true, func(int) (step, error) {
			return func(i int) error {
				var err error
				if frame, err = wire.AppendOp(frame[:0], 1, ready[i%len(ready)]); err != nil {
					return err
				}
				wire.Seal(frame, op.LSN(i), uint64(i))
				if len(ring)+len(frame) > cap(ring) {
					ring = ring[:0]
				}
				ring = append(ring, frame...)
				return nil
			}, nil
		}); err != nil {
			return err
		}
		if err := l.timed("apply-"+kind, false, func(int) (step, error) {
			return func(i int) error {
				if kind == "fsync" {
					return l.applySync(t)
				}
				if i == len(ready) {
					return errDone
				}
				return t.Apply(ready[i])
			}, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// applySync writes, which does not count much beside what follows, and syncs as
// a mirror does.
func (l *loader) applySync(t *tree.Tree) error {
	if err := t.Apply(&op.Op{Kind: op.Write, Path: "file", Data: make([]byte, 4096)}); err != nil {
		return err
	}
	file, err := t.OpenForSync("file")
	if err != nil {
		return err
	}
	defer file.Close()
	return fdatasync(file.FD())
}

// partRows are the rows that a breakdown needs and nothing else does.
func partRows() []row {
	var out []row
	for _, p := range []struct{ name, title string }{
		{"encode-write", "encode a 4K write"}, {"apply-write", "apply a 4K write"},
		{"encode-create", "encode a create"}, {"apply-create", "apply a create"},
		{"encode-fsync", "encode an fdatasync"}, {"apply-fsync", "apply a 4K write + fdatasync"},
	} {
		out = append(out, row{Name: "part-" + p.name, Title: p.title, Unit: "op",
			Work: work{Kind: "parts", Threads: 1}, Phase: p.name, Configs: []string{"native"}})
	}
	return out
}

// part is a piece of a call's time.
type part struct {
	Name string        `json:"name"`
	Time time.Duration `json:"time"`
	// Beside is true for what runs at the same time as the part before it: the
	// longer of both counts.
	Beside bool `json:"beside,omitempty"`
}

// whole is a call with its parts.
type whole struct {
	Call  string        `json:"call"`
	Time  time.Duration `json:"time"`
	Parts []part        `json:"parts"`
}

// breakdowns takes calls apart as far as their rows have been run.
func breakdowns(res results) []whole {
	complete := true
	at := func(row, config string) time.Duration {
		var l latencies
		for _, s := range res[row][config] {
			l.merge(&s.Latency)
		}
		complete = complete && len(l.Buckets) > 0
		return l.percentile(.5)
	}
	const acked = "there and back on the wire: frames, TLS, wake-ups, the ack"
	var out []whole
	keep := func(call string, total time.Duration, parts ...part) {
		if !complete {
			complete = true
			return
		}
		var sum, last time.Duration
		for _, p := range parts {
			if p.Beside {
				sum += max(p.Time-last, 0)
			} else {
				sum += p.Time
			}
			last = p.Time
		}
		out = append(out, whole{call, total, append(parts, part{Name: "the rest: waiting for a processor, order, bookkeeping, the reply", Time: total - sum})})
	}
	for _, c := range []struct{ call, row, name, wire string }{
		{"4K write", "write4k/1", "write", "wire4k/1"},
		{"create and close", "create/1", "create", "wire64/1"},
	} {
		local := at(c.row, "native")
		encode := at("part-encode-"+c.name, "native")
		keep(c.call, at(c.row, "op1"),
			part{Name: "kernel and local call, as on a plain directory", Time: local},
			part{Name: "FUSE: the kernel's requests handed over and answered", Time: at(c.row, "null") - local},
			part{Name: "encode, checksums, into the ring", Time: encode},
			part{Name: acked, Time: at(c.wire, "yamux-tls") - encode},
			part{Name: "apply on the mirror", Time: at("part-apply-"+c.name, "native")})
	}
	// An fdatasync is what it adds to a write.
	local := at("sync4k/1", "native") - at("write4k/1", "native")
	encode := at("part-encode-fsync", "native")
	keep("fdatasync after a 4K write", at("sync4k/1", "op1")-at("write4k/1", "op1"),
		part{Name: "FUSE: the kernel's requests handed over and answered", Time: at("sync4k/1", "null") - at("write4k/1", "null") - local},
		part{Name: "encode, checksums, into the ring", Time: encode},
		part{Name: acked, Time: at("wire64/1", "yamux-tls") - encode},
		part{Name: "apply on the mirror: fdatasync", Time: at("part-apply-fsync", "native") - at("part-apply-write", "native")},
		part{Name: "fdatasync here, at the same time", Time: local, Beside: true})
	return out
}

// printBreakdowns writes them as text.
func printBreakdowns(w io.Writer, all []whole) {
	for _, b := range all {
		fmt.Fprintf(w, "\nwhere the time of one %s goes, one mirror, sync: op, TLS: %s\n", b.Call, period(b.Time))
		for _, p := range b.Parts {
			fmt.Fprintf(w, "  %9s  %3.0f%%  %s\n", period(p.Time), 100*float64(p.Time)/float64(b.Time), p.Name)
		}
	}
}

// breakdownChart draws them as bars of parts.
func breakdownChart(all []whole) []byte {
	s := &svg{width: chartWidth}
	palette := []string{"#3566b0", "#c77d2e", "#77762c", "#8a4fa3", "#2e8b57", "#b0b0b0", "#777"}
	s.text(16, 26, 17, "start", ink, "Where the time of one call goes")
	s.text(16, 45, 12, "start", faint, "one mirror on the same machine, sync: op, TLS; medians")
	y := headHeight
	for _, b := range all {
		s.text(16, y+14, 13, "start", ink, fmt.Sprintf("%s: %s", b.Call, period(b.Time)))
		y += 24
		for i, p := range b.Parts {
			part := max(float64(p.Time)/float64(b.Time), 0)
			s.rect(16, y, min(part, 1)*360, barHeight, palette[i%len(palette)])
			s.text(390, y+barHeight-2, 12, "start", ink, fmt.Sprintf("%s (%.0f%%)  %s", period(p.Time), 100*part, p.Name))
			y += barHeight + barGap
		}
		y += 2 * groupGap
	}
	s.height = y + 10
	return s.bytes()
}
