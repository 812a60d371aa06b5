package region

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

// loads are what fills a set in different ways. Each mark is of a place of its
// own.
var loads = map[string]func(i int) Mark{
	"directories": func(i int) Mark { return Mark{Path: fmt.Sprintf("home/u%d/mail/d%d", i%300, i), Scope: Entries} },
	"files": func(i int) Mark {
		return Mark{Path: fmt.Sprintf("data/d%d/f%d", i%2000, i), To: End, cut: true}
	},
	"appends": func(i int) Mark {
		return Mark{Path: fmt.Sprintf("logs/%d", i%20), From: int64(i/20) * Extent, To: int64(i/20)*Extent + 4096}
	},
	"random": func(i int) Mark {
		at := rand.New(rand.NewPCG(uint64(i), 1)).Int64N(1 << 40)
		return Mark{Path: fmt.Sprintf("db/%d", i%20), From: at, To: at + 4096}
	},
}

// What it costs to add to a set that is being filled, and to look into a full
// one.
func BenchmarkSet(b *testing.B) {
	const fill = maxUnits * 2 / 5 // marks; most are of two units
	for name, mark := range loads {
		marks := make([]Mark, fill)
		for i := range marks {
			marks[i] = mark(i)
		}
		full := setOf(marks...)
		b.Run(name+"/add", func(b *testing.B) {
			b.ReportAllocs()
			s := NewSet()
			for i := 0; b.Loop(); i++ {
				if i%fill == 0 {
					s = NewSet()
				}
				s.Add(marks[i%fill])
				s.record()
			}
		})
		b.Run(name+"/touch", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if !full.Touch(marks[i%fill], 1) {
					b.Fatalf("%v is not covered", marks[i%fill])
				}
			}
		})
	}
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// stallOf runs fn while another goroutine asks for a look at the store again
// and again. It returns how long the longest look took: so long an op waits.
func stallOf(s *Store, fn func()) time.Duration {
	done, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			select {
			case <-done:
				longest <- most
				return
			default:
			}
			start := time.Now()
			s.Known(0)
			most = max(most, time.Since(start))
			runtime.Gosched()
		}
	}()
	fn()
	close(done)
	return <-longest
}

// The checkpoint that forgets all of a full hot set while nodes are outside, and
// what follows: the size of the file, the load at the next start, the compare
// set.
func BenchmarkFull(b *testing.B) {
	outside := []op.NodeID{1, 2, 3}
	for name, mark := range loads {
		b.Run(name, func(b *testing.B) {
			var checkpoint, stall, load, suspect, hello, idle, still time.Duration
			var size, units, memory int64
			for b.Loop() {
				b.StopTimer()
				db, err := bolt.Open(filepath.Join(b.TempDir(), "db"), 0o600, nil)
				if err != nil {
					b.Fatal(err)
				}
				s, err := Open(db)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Level(outside, func(also func(*bolt.Tx) error) error { return db.Update(also) }); err != nil {
					b.Fatal(err)
				}
				before := inUse()
				for i := range maxUnits * 2 / 5 {
					s.hot.Add(mark(i))
				}
				if err := s.commit(); err != nil {
					b.Fatal(err)
				}
				memory += inUse() - before
				units += int64(s.hot.Len())
				once := func() {
					if err := s.Checkpoint(Checkpoint{
						Sync:      func() error { return nil },
						Committed: func(op.LSN) bool { return true },
						Outside:   func() []op.NodeID { return outside },
						Allowed:   func() bool { return true },
					}); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				// All is of the newest generation: nothing is forgotten.
				still += stallOf(s, func() { idle += timed(once) })
				stall += stallOf(s, func() { checkpoint += timed(once) })
				b.StopTimer()
				if s.hot.Len() > 0 || len(s.Stale(3)) == 0 {
					b.Fatalf("%d units are hot", s.hot.Len())
				}
				hello += stallOf(s, func() { suspect += timed(func() { s.Suspect(1) }) })
				load += timed(func() {
					if _, err := Open(db); err != nil {
						b.Fatal(err)
					}
				})
				err = db.View(func(tx *bolt.Tx) error { size += tx.Size(); return nil })
				if err != nil {
					b.Fatal(err)
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			n := float64(b.N)
			for unit, d := range map[string]time.Duration{
				"ms/checkpoint": checkpoint, "ms-stopped": stall, "ms/load": load, "ms/suspect": suspect, "ms-stopped-at-hello": hello,
				"ms/checkpoint-of-nothing": idle, "ms-stopped-by-nothing": still,
			} {
				b.ReportMetric(d.Seconds()*1000/n, unit)
			}
			b.ReportMetric(float64(size)/float64(1<<20)/n, "MiB-on-disk")
			b.ReportMetric(float64(units)/n, "units")
			b.ReportMetric(float64(memory)/float64(units), "B-in-memory/unit")
		})
	}
}

func timed(fn func()) time.Duration {
	start := time.Now()
	fn()
	return time.Since(start)
}
