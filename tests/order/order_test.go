package order

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/harness"
	"github.com/standbyfs/standbyfs/tests/seed"
)

var snapshotsFlag = flag.Int("snapshots", 25, "how many instants each test looks at")

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// history is what the writers of one run have done so far.
type history struct {
	ticks chan struct{} // one for each change that has returned

	mu     sync.Mutex // guards all below
	states []map[[32]byte]int
	acked  []int    // changes that have returned, of each writer
	firm   []int    // of them, those behind which everything is on the mirrors
	spans  [][]span // when each change of each writer was made
}

// span is when a change's call was made and when it had returned.
type span struct{ began, ended time.Time }

// write makes changes until ctx ends.
func (h *history) write(ctx context.Context, t int, w *writer) error {
	for ctx.Err() == nil {
		began := time.Now()
		barrier, err := w.next()
		if err != nil {
			return fmt.Errorf("writer %d, change %d: %w", t, w.n-1, err)
		}
		h.mu.Lock()
		h.states[t][digest(w.files)] = w.n
		h.spans[t] = append(h.spans[t], span{began, time.Now()})
		h.acked[t] = w.n
		if barrier {
			h.firm[t] = w.n
		}
		h.mu.Unlock()
		select {
		case h.ticks <- struct{}{}:
		case <-ctx.Done():
		}
	}
	return nil
}

// TestMirrorIsAlwaysAPrefix stops the mirror at random instants while writers
// go on, and looks at what it has.
func TestMirrorIsAlwaysAPrefix(t *testing.T) {
	for _, tt := range []struct {
		sync    mirror.Level
		writers int
	}{
		{mirror.SyncOp, 1}, {mirror.SyncOp, 4}, {mirror.SyncBarrier, 1}, {mirror.SyncBarrier, 4},
	} {
		t.Run(fmt.Sprintf("%s-%d", tt.sync, tt.writers), func(t *testing.T) { record(t, tt.sync, tt.writers) })
	}
}

// copied is what the mirror's replica held at one instant, for each writer, and
// which changes had returned before.
type copied struct {
	files       []map[string]string
	acked, firm []int
}

func record(t *testing.T, sync mirror.Level, writers int) {
	random := rand.New(rand.NewPCG(seed.New(t), 0)) // of the instants
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Processes: true, Mirroring: daemon.Mirroring{Sync: sync}})
	h := &history{ticks: make(chan struct{}), acked: make([]int, writers), firm: make([]int, writers), spans: make([][]span, writers)}

	var all []*writer
	for i := range writers {
		dir := c.Primary.Path(fmt.Sprintf("writer%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		w, err := newWriter(dir)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
		h.states = append(h.states, map[[32]byte]int{digest(w.files): 0})
	}

	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	for i, w := range all {
		group.Go(func() error { return h.write(ctx, i, w) })
	}
	var copies []copied
	for range *snapshotsFlag {
		for range 1 + random.IntN(60) {
			select {
			case <-h.ticks:
			case <-ctx.Done():
				t.Fatal(group.Wait())
			}
		}
		copies = append(copies, snapshot(t, c.Mirrors[0], h, time.Duration(random.IntN(3000))*time.Microsecond))
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, copied := range copies {
		h.check(t, i, copied, sync)
	}
	t.Logf("changes made: %v", h.acked)
}

// snapshot stops the mirror at an instant within the time that the next few
// changes take, reads its replica and lets it go on.
func snapshot(t *testing.T, m *harness.Node, h *history, after time.Duration) copied {
	t.Helper()
	instant := time.After(after)
	for waiting := true; waiting; {
		select {
		case <-h.ticks:
		case <-instant:
			waiting = false
		}
	}
	h.mu.Lock()
	c := copied{acked: append([]int(nil), h.acked...), firm: append([]int(nil), h.firm...)}
	h.mu.Unlock()
	m.Pause()
	defer m.Resume()
	// It is read in place: a child process would inherit what the writers have
	// open under the mount, and its exec(2) would wait for the mirror.
	for i := range c.acked {
		files, err := read(m.InReplica(fmt.Sprintf("writer%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		c.files = append(c.files, files)
	}
	return c
}

// check finds out how many changes of each writer a copy holds.
func (h *history) check(t *testing.T, number int, c copied, sync mirror.Level) {
	t.Helper()
	holds := make([]int, len(h.states))
	for i := range h.states {
		files := c.files[i]
		n, ok := h.states[i][digest(files)]
		if !ok {
			t.Errorf("copy %d: writer %d's directory was never like this; after change\n%s", number, i, nearest(t, files, c.acked[i]))
			return
		}
		holds[i] = n
		must := c.acked[i]
		if sync == mirror.SyncBarrier {
			must = c.firm[i]
		}
		if n < must {
			t.Errorf("copy %d: it holds %d changes of writer %d, but %d were acknowledged before", number, n, i, must)
		}
	}
	// One order over all writers: what a copy lacks did not return before
	// anything began that it has.
	for i, has := range holds {
		for j, lacks := range holds {
			if has == 0 || lacks >= len(h.spans[j]) {
				continue
			}
			if later, missing := h.spans[i][has-1], h.spans[j][lacks]; missing.ended.Before(later.began) {
				t.Errorf("copy %d: change %d of writer %d is there, but not change %d of writer %d, which had returned before the other began",
					number, has-1, i, lacks, j)
			}
		}
	}
}

// nearest does a writer's changes again and says in what files differs from the
// states around the given one.
func nearest(t *testing.T, files map[string]string, around int) string {
	t.Helper()
	w, err := newWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for w.n < around+3 {
		if _, err := w.next(); err != nil {
			t.Fatal(err)
		}
		if w.n < around-3 {
			continue
		}
		fmt.Fprintf(&out, "%d:", w.n)
		for _, name := range slices.Sorted(maps.Keys(w.files)) {
			if text, ok := files[name]; !ok {
				fmt.Fprintf(&out, " %s is missing;", name)
			} else if text != w.files[name] {
				fmt.Fprintf(&out, " %s differs (%d bytes, then %d);", name, len(text), len(w.files[name]))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if _, ok := w.files[name]; !ok {
				fmt.Fprintf(&out, " %s is too much;", name)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// TestWriterKnowsItsDirectory runs a writer on a plain directory: its picture
// must be right, or the test above would prove nothing.
func TestWriterKnowsItsDirectory(t *testing.T) {
	dir := t.TempDir()
	w, err := newWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	for range 30 * cycle {
		if _, err := w.next(); err != nil {
			t.Fatal(err)
		}
		files, err := read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if digest(files) != digest(w.files) {
			t.Fatalf("after change %d the directory is not what its writer thinks", w.n-1)
		}
		seen[digest(files)] = true
	}
	if len(seen) != 30*cycle {
		t.Errorf("only %d of %d states differ", len(seen), 30*cycle)
	}
}
