// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"errors"
	"slices"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
	bolt "go.etcd.io/bbolt"
)

// simLies are what the disks of a node do other than they should. Each breaks a
// rule of RULES.md from outside: what the rule has made durable is not. Memory
// is not touched, so a lie shows only once the process has died.
type simLies struct {
	sync, fsync bool // return without doing anything
	commit      bool // a mirror takes all for committed, whatever that rests on
	nextLine    bool // a new line is the next one, as with a state that is copied
	unarchived  bool // what a mirror keeps of a divergence is gone before it is applied
	// edit changes the state that a transaction records; was is the one on disk.
	edit func(was, is *state.State)
	// regions changes the records of regions at the end of a transaction.
	regions func(tx *bolt.Tx, was, is *state.State) error
	// after changes them after each sync of the replica.
	after func(tx *bolt.Tx) error
}

// lie has the disks of a node tell one more lie from now on. Its processes may be
// running.
func (m *simNode) lie(how func(*simLies)) {
	more := *m.lies.Load()
	how(&more)
	m.lies.Store(&more)
}

// update makes a transaction and lies about it.
func (l *simLies) update(db *bolt.DB, fn func(*bolt.Tx) error) error {
	return db.Update(func(tx *bolt.Tx) error {
		was, none := state.In(tx)
		if err := fn(tx); err != nil {
			return err
		}
		is, err := state.In(tx)
		if err = errors.Join(none, err); err != nil {
			return err
		}
		if l.regions != nil {
			if err := l.regions(tx, &was, &is); err != nil {
				return err
			}
		}
		if l.edit == nil {
			return nil
		}
		l.edit(&was, &is)
		return state.Put(tx, &is)
	})
}

// step is how much the incarnation of a new line is above the one before.
func (m *simNode) step() uint64 {
	if m.lies.Load().nextLine {
		return 1
	}
	return drawnStep()
}

// committed is what a mirror takes for committed.
func (m *simNode) committed(really func(op.LSN) bool) func(op.LSN) bool {
	return func(at op.LSN) bool { return m.lies.Load().commit || really(at) }
}

// empty takes all keys out of a bucket of regions, and of those in it.
func empty(b *bolt.Bucket) error {
	if b == nil {
		return nil
	}
	var keys [][]byte
	if err := b.ForEach(func(k, v []byte) error {
		if v == nil {
			return empty(b.Bucket(k))
		}
		keys = append(keys, slices.Clone(k))
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// The lies, by what they forget.
var (
	noHot = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, _, _ *state.State) error { return empty(tx.Bucket([]byte("hot"))) }
	}
	noStale = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, _, _ *state.State) error { return empty(tx.Bucket([]byte("stale"))) }
	}
	// oneRegion forgets the first one of the hot set.
	oneRegion = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, _, _ *state.State) error {
			if b := tx.Bucket([]byte("hot")); b != nil {
				if k, _ := b.Cursor().First(); k != nil {
					return b.Delete(slices.Clone(k))
				}
			}
			return nil
		}
	}
	noHotAfterCheckpoint = func(l *simLies) {
		l.after = func(tx *bolt.Tx) error { return empty(tx.Bucket([]byte("hot"))) }
	}
	noHotAfterJoin = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, was, is *state.State) error {
			if !was.InSync && is.InSync {
				return empty(tx.Bucket([]byte("hot")))
			}
			return nil
		}
	}
	noHotOutOfSync = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, _, is *state.State) error {
			if is.Role == Mirror && !is.InSync {
				return empty(tx.Bucket([]byte("hot")))
			}
			return nil
		}
	}
	noStaleAtOthersJoin = func(l *simLies) {
		l.regions = func(tx *bolt.Tx, was, is *state.State) error {
			if !is.InSync && is.Role == Mirror && len(is.Set) > len(was.Set) {
				return empty(tx.Bucket([]byte("stale")))
			}
			return nil
		}
	}
	pageCache   = func(l *simLies) { l.sync = true }
	early       = func(l *simLies) { l.fsync = true }
	staysMember = func(l *simLies) {
		l.edit = func(was, is *state.State) { is.InSync = is.InSync || was.InSync }
	}
	oldEpoch = func(l *simLies) {
		l.edit = func(was, is *state.State) {
			if was.Volume != "" && is.Epoch.Owner != is.Node {
				is.Epoch, is.History = was.Epoch, was.History
			}
		}
	}
	staysMirror = func(l *simLies) {
		l.edit = func(was, is *state.State) {
			if was.Role == Mirror && is.Role == Primary {
				is.Role, is.Epoch, is.History = was.Role, was.Epoch, was.History
			}
		}
	}
	oldLine = func(l *simLies) {
		l.nextLine = true
		l.edit = func(was, is *state.State) { is.Incarnation = was.Incarnation }
	}
	// higherRestart makes a restart of a primary another reign.
	higherRestart = func(l *simLies) {
		l.edit = func(was, is *state.State) {
			if was.Role == Primary && is.Incarnation > was.Incarnation {
				is.Epoch.Number = was.Epoch.Number + 10
			}
		}
	}
	// othersEpoch records an epoch of this node as that of a node that was in its
	// set.
	othersEpoch = func(l *simLies) {
		var other op.NodeID
		l.edit = func(_, is *state.State) {
			for _, n := range is.Set {
				other = n
			}
			if other != 0 && is.Epoch.Number > 1 && is.Epoch.Owner == is.Node {
				is.Epoch.Owner = other
			}
		}
	}
	unarchived  = func(l *simLies) { l.unarchived = true }
	noArchiving = func(l *simLies) {
		l.edit = func(_, is *state.State) { is.ArchiveUntilJoined = false }
	}
	onlyDeposedArchives = func(l *simLies) {
		l.edit = func(_, is *state.State) { is.ArchiveUntilJoined = is.ArchiveUntilJoined && is.Deposed() }
	}
	noOthers = func(l *simLies) {
		l.edit = func(_, is *state.State) {
			is.Policy.Members = slices.DeleteFunc(is.Policy.Members, func(m wire.Member) bool { return m.Node != is.Node })
		}
	}
	forgetsExpulsions = func(l *simLies) {
		l.edit = func(was, is *state.State) {
			if len(is.Set) < len(was.Set) {
				is.Set, is.Policy.Set = was.Set, was.Set
			}
		}
	}
	commitEarly = func(l *simLies) { l.commit = true }
)
