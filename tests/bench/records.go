package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// How long recording takes by itself: the changes of a load are announced to a
// node's store of regions and not made. What is left is a look into a map for
// most, and a transaction for a few.

// records are what so many steps of a load cost one node.
type records struct {
	steps int
	took  []time.Duration // by each record
	rest  time.Duration   // by all that needed none
}

// each is how long a record takes: the median.
func (r *records) each() time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(r.took))[len(r.took)/2]
}

// perStep is how long a step is held up, in seconds.
func (r *records) perStep() float64 {
	return (r.each()*time.Duration(len(r.took)) + r.rest).Seconds() / float64(r.steps)
}

// perThousand is how many records a thousand steps need.
func (r *records) perThousand() float64 { return 1000 * float64(len(r.took)) / float64(r.steps) }

// changes calls do for the ops of the i-th step of a load.
func (w work) changes(i int, do func(*op.Op) error) error {
	now := op.Time{Sec: 1}
	var ops []*op.Op
	file := func(path string, size int) {
		ops = append(ops, &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Mode: unix.S_IFREG}},
			&op.Op{Kind: op.Write, Path: path, Data: make([]byte, size)},
			&op.Op{Kind: op.SetAttr, Path: path, Attr: op.Attr{Valid: op.AttrMtime, Mtime: now}})
	}
	switch w.Kind {
	case "create":
		file(fmt.Sprintf("ready/%d", i), 4<<10)
	case "archive": // see writeArchive
		dir := fmt.Sprintf("source/part%d", i/144)
		for _, d := range []struct {
			every int
			path  string
		}{{1 << 30, "source"}, {144, dir}, {12, fmt.Sprintf("%s/package%d", dir, i/12)}} {
			if i%d.every == 0 {
				ops = append(ops, &op.Op{Kind: op.Mkdir, Path: d.path})
			}
		}
		file(fmt.Sprintf("%s/package%d/file%d.go", dir, i/12, i), 6<<10)
	case "grow":
		if i == 0 {
			ops = append(ops, &op.Op{Kind: op.Create, Path: "ready/file", Attr: op.Attr{Mode: unix.S_IFREG}})
		}
		ops = append(ops, &op.Op{Kind: op.Write, Path: "ready/file", Off: int64(i) * int64(w.Size), Data: make([]byte, w.Size)})
	default:
		return fmt.Errorf("the changes of %q are not known", w.Kind)
	}
	for _, o := range ops {
		if err := do(o); err != nil {
			return err
		}
	}
	return nil
}

// add announces the changes of so many steps to a new store in dir.
func (r *records) add(dir string, w work, steps int) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// As a node makes it: with room ahead.
	fresh, err := state.Open(dir)
	if err == nil {
		err = fresh.Close()
	}
	if err != nil {
		return err
	}
	return withRegions(dir, func(db *bolt.DB, s *region.Store) error { return r.announce(db, s, w, steps) })
}

func (r *records) announce(db *bolt.DB, s *region.Store, w work, steps int) error {
	nothing := func(string) (region.Stat, error) { return region.Stat{}, unix.ENOENT }
	at := op.LSN(0)
	for i := range steps {
		err := w.changes(i, func(o *op.Op) error {
			written := writes(db)
			began := time.Now()
			ticket, err := s.Begin(o, nothing)
			if err != nil {
				return err
			}
			at++
			ticket.Leave(at)
			if d := time.Since(began); writes(db) > written {
				r.took = append(r.took, d)
			} else {
				r.rest += d
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.steps += steps
	return nil
}

// writes counts what was written to a database.
func writes(db *bolt.DB) int64 {
	stats := db.Stats()
	return stats.TxStats.GetWrite()
}
