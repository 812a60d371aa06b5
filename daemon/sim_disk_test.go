// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	bolt "go.etcd.io/bbolt"
)

// simDisk is the disk below a simulated node's replica: what was changed since
// it was last known to be on stable storage, so that a power loss can take it.
//
// The model is a file system with a journal of its metadata (ext4, XFS): of the
// changes of names and attributes a prefix survives, with at least all that came
// before the last sync of anything; of the data written before the end of that
// prefix each piece survives or not, unless its file was synced since.
//
// A power loss does all that has survived anew, from the beginning.
type simDisk struct {
	replica string

	mu      sync.Mutex // guards all below
	past    []*op.Op   // survived
	changes []*simChange
	floor   int // as many changes of metadata are safe
}

// simChange is an op that was applied.
type simChange struct {
	op   *op.Op
	file uint64 // of a change of data: the inode; otherwise 0
	safe bool
}

// note takes down an op that was applied. What a copy has copied is written: what
// it was copied from may be lost.
func (d *simDisk) note(t *tree.Tree, o *op.Op) error {
	var file uint64
	path, ops := o.Path, []*op.Op{copied(o)}
	switch o.Kind {
	case op.CopyRange:
		path, ops = o.Path2, nil
		err := t.PutRange(path, o.Off2, o.Len, func(o *op.Op) error {
			ops = append(ops, copied(o))
			return nil
		})
		if err != nil {
			return err
		}
		ops = append(ops, &op.Op{Kind: op.SetAttr, Path: path, Attr: o.Attr})
		fallthrough
	case op.Write, op.Truncate, op.Fallocate:
		if st, err := t.Stat(path); err == nil {
			file = st.Ino
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range ops {
		d.changes = append(d.changes, &simChange{op: o, file: file})
	}
	return nil
}

func copied(o *op.Op) *op.Op {
	c := *o
	c.Data, c.Names, c.Xattrs = slices.Clone(o.Data), slices.Clone(o.Names), slices.Clone(o.Xattrs)
	for i, x := range c.Xattrs {
		c.Xattrs[i].Value = slices.Clone(x.Value)
	}
	return &c
}

// mark is how many changes a sync that begins now covers.
func (d *simDisk) mark() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.changes)
}

// synced says that the changes before mark are safe, those of data if they are
// of the file, or, with 0, all.
func (d *simDisk) synced(mark int, file uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.changes[:mark] {
		c.safe = c.safe || file == 0 || c.file == file
	}
	d.floor = max(d.floor, mark)
}

// lose leaves of the replica what survives a power loss. Nobody has it open.
func (d *simDisk) lose(r *rand.Rand, survives string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := d.floor + r.IntN(len(d.changes)-d.floor+1)
	odds := r.IntN(4) // of each piece of data, in fourths
	if survives == "" {
		survives = []string{"all", "nothing", "", ""}[r.IntN(4)]
	}
	switch survives {
	case "all": // a test of this model
		end, odds = len(d.changes), 4
	case "nothing":
		end, odds = d.floor, 0
	}
	for _, c := range d.changes[:end] {
		if c.file == 0 || c.safe || r.IntN(4) < odds {
			d.past = append(d.past, c.op)
		}
	}
	d.changes, d.floor = nil, 0
	anew := d.replica + ".anew"
	if err := d.redo(anew); err != nil {
		return err
	}
	if odds == 4 {
		if err := unchanged(d.replica, anew); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(d.replica), os.Rename(anew, d.replica))
}

// redo does all that survives in a new directory.
func (d *simDisk) redo(dir string) error {
	if err := makeReplica(dir); err != nil {
		return err
	}
	t, err := tree.Open(dir)
	if err != nil {
		return err
	}
	for _, o := range d.past {
		_ = t.ApplyLenient(o) // failed then as it does now
	}
	return t.Close()
}

// makeReplica makes an empty replica with a time that is always the same.
func makeReplica(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0)))
}

// unchanged checks that two directories are equal.
func unchanged(dirs ...string) error {
	var trees []*tree.Tree
	for _, dir := range dirs {
		t, err := tree.Open(dir)
		if err != nil {
			return err
		}
		defer t.Close()
		trees = append(trees, t)
	}
	differ, err := tree.Diff(trees[0], trees[1])
	// Every op sets a time of 1970, but for those that put data in a resync.
	differ = slices.DeleteFunc(differ, func(d string) bool {
		return strings.Contains(d, ": mtime is ") && strings.Count(d, "1970-") < 2
	})
	if err == nil && len(differ) > 0 {
		err = fmt.Errorf("the simulated disk is not what its changes make of it: %q", differ)
	}
	return err
}

var (
	errSimDead = errors.New("the simulated process is dead")
	errSimDisk = fmt.Errorf("the simulated disk: %w", syscall.EIO)
)

// change makes one change of what a process leaves behind, unless it is dead. It
// may die before and behind it. A process that was killed goes on in memory
// until it notices, but changes nothing any more and is heard of by nobody.
func (p *simProcess) change(what string, do func() error) error {
	p.step("before", what)
	p.gate.RLock()
	err := errSimDead
	if !p.dead {
		err = do()
	}
	p.gate.RUnlock()
	p.step("after", what)
	return err
}

// around stands between a process and its replica.
func (p *simProcess) around(o *op.Op, do func() error) error {
	disk := p.of.disk
	if o == nil {
		return p.change("sync", func() error {
			mark := disk.mark()
			if err := p.fault(); err != nil {
				return err
			}
			err := do()
			if err == nil && !p.of.lies.Load().sync {
				disk.synced(mark, 0)
			}
			if after := p.of.lies.Load().after; after != nil {
				err = errors.Join(err, p.db.Update(after))
			}
			return err
		})
	}
	end := p.watch(o)
	return p.change(o.String(), func() error {
		if err := p.fault(); err != nil {
			return err
		}
		err := do()
		end()
		if err == nil || !p.strict.Load() { // a lenient one may have done something
			if noted := disk.note(p.n.tree, o); noted != nil && err == nil {
				p.of.sim.fail("%v: %v", o, noted)
			}
		}
		return err
	})
}

// fault is the error that the disk has for this call.
func (p *simProcess) fault() error {
	if p.faulty.Add(-1) == 0 {
		p.of.failing.Store(true)
		p.of.sim.say("%s: its disk fails", p.of.name)
		return errSimDisk
	}
	return nil
}

// simDatabase stands between a process and its state file.
type simDatabase struct {
	*bolt.DB
	p *simProcess
}

// Update makes a transaction, which a power loss leaves whole or not at all.
func (d simDatabase) Update(fn func(*bolt.Tx) error) error {
	return d.p.change("record", func() error {
		if err := d.p.fault(); err != nil {
			return err
		}
		return d.p.of.lies.Load().update(d.DB, fn)
	})
}

// simBusy is half of the syncs that an applier lets run at a time.
const simBusy = 32

// simSyncer syncs a mirror's files.
type simSyncer struct {
	p       *simProcess
	after   func()
	running sync.WaitGroup
	count   atomic.Int64 // that run
}

// Start syncs fd.
func (s *simSyncer) Start(fd int, _ bool, done func(error)) {
	var st syscall.Stat_t
	err := syscall.Fstat(fd, &st)
	mark := s.p.of.disk.mark()
	s.running.Go(func() {
		busy := s.count.Add(1) > simBusy
		defer s.count.Add(-1)
		if err == nil && !s.p.of.lies.Load().fsync {
			// A full applier waits with a mutex held, for which no time passes.
			if !busy {
				s.p.of.sim.pause(simFsync)
			}
			err = s.p.change("fsync", func() error {
				if err := s.p.fault(); err != nil {
					return err
				}
				s.p.of.disk.synced(mark, st.Ino)
				return nil
			})
		}
		done(err)
		s.after()
	})
}

// Close waits for all.
func (s *simSyncer) Close() { s.running.Wait() }
