package divergence

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// Config is what a Keeper works with.
type Config struct {
	StateDir string
	Tree     *tree.Tree
	Epoch    op.Epoch // ended the reign that the replica's content is of
	Before   op.Epoch // the highest one before
	Limit    int64    // bytes, of all divergences together; 0 is DefaultLimit
	// Sync makes a file durable; nil is its own Sync. A test looks on, or fails it.
	Sync func(*os.File) error
	// Begun is told when there is something to keep for the first time; nil is
	// nobody.
	Begun func(id string)
}

// Keeper keeps what ops take from a replica. It belongs to the goroutine that
// applies them. After an error it is of no further use: the next one goes on
// from what is on stable storage.
type Keeper struct {
	cfg   Config
	batch batch
	why   string // the op that is looked at

	// Of the op between Before and After.
	loss  tree.Loss
	named []given

	// What need not be kept, by inode. It may be forgotten at any time: then
	// more is kept than has to be, and what was kept first counts.
	marks map[tree.Inode]*mark
	moved origins
	names map[string]tree.Inode // of objects with several names, those that are kept
}

// How much is looked at ahead of the op that is to be applied, so that one sync
// does for many: bytes that are kept.
const maxAhead = 8 << 20

// How many objects are remembered.
const maxMarks = 1 << 20

// Open returns the Keeper for an epoch. It goes on with that epoch's divergence
// if there is one that is not closed; others are closed. Nothing is made before
// there is something to keep.
func Open(cfg Config) (*Keeper, error) {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.Sync == nil {
		cfg.Sync = (*os.File).Sync
	}
	if cfg.Begun == nil {
		cfg.Begun = func(string) {}
	}
	_, root, err := cfg.Tree.Describe(op.Root)
	if err != nil {
		return nil, fmt.Errorf("keep what this node alone may have: %w", err)
	}
	k := &Keeper{
		cfg: cfg, marks: make(map[tree.Inode]*mark), moved: origins{cfg.Tree, make(map[entry]string)}, names: make(map[string]tree.Inode),
		batch: batch{
			stateDir: cfg.StateDir, limit: cfg.Limit, sync: cfg.Sync, begun: cfg.Begun,
			head: Header{Epoch: cfg.Epoch, Before: cfg.Before, Device: root.Dev},
		},
	}
	if err := sweep(cfg.StateDir); err != nil {
		return nil, err
	}
	how := Closed{When: time.Now().UTC(), How: fmt.Sprintf("epoch %s took over before this node had joined", cfg.Epoch)}
	if err := CloseAll(cfg.StateDir, cfg.Epoch, how); err != nil {
		return nil, err
	}
	if _, k.batch.used, err = Kept(cfg.StateDir); err != nil {
		return nil, err
	}
	dir, err := open(cfg.StateDir, cfg.Epoch)
	if err != nil || dir == "" {
		return k, err
	}
	return k, k.resume(dir)
}

// resume goes on with what is kept already: the first content counts, and it is
// not looked at again.
func (k *Keeper) resume(dir string) error {
	a, err := readDir(dir)
	if err != nil {
		return err
	}
	if err := k.batch.resume(dir, a); err != nil {
		return err
	}
	if a.Device != k.batch.head.Device {
		return nil // the replica has moved to another device: inodes may be others
	}
	for _, o := range a.Objects {
		if o.Device != 0 {
			continue // of a file system mounted in the replica, whose number may be another by now
		}
		id := tree.Inode{Dev: a.Device, Ino: o.Inode}
		m := k.mark(id)
		m.object, m.attr, m.all = true, true, m.all || o.Gone
		for _, path := range o.Paths {
			k.names[string(path)] = id
		}
		if o.Object != nil {
			m.data.add(span{beyond(o.Object.Size), endOfTime})
		}
		for _, r := range o.Ranges {
			m.data.add(span{r.Off, r.Off + r.Len})
			if o.Object != nil && r.Off+r.Len == o.Object.Size {
				m.data.add(span{r.Off, beyond(o.Object.Size)})
			}
		}
	}
	return nil
}

// Before keeps what o takes, and returns when that is on stable storage
// (RULES.md 9, Archive). ahead has the ops that are likely to follow: what they
// take is kept with it if there is anything to sync.
func (k *Keeper) Before(o *op.Op, ahead iter.Seq[*op.Op]) error {
	if len(k.marks) > maxMarks {
		k.forget()
	}
	var err error
	if k.loss, err = k.gather(o); errors.Is(err, errDropped) {
		// By force, from under this node: what it loses from now on is kept anew.
		k.forget()
		k.loss, err = k.gather(o)
	}
	if err == nil {
		k.named, err = k.moved.of(o, k.loss)
	}
	if err != nil {
		k.batch.abandon()
		return k.complete(err)
	}
	if !k.batch.pending() {
		return nil
	}
	for next := range ahead {
		if k.batch.end-k.batch.start > maxAhead {
			break
		}
		// It is looked at again when its turn comes, so an error can wait.
		if _, err := k.gather(next); err != nil {
			break
		}
	}
	return k.batch.flush()
}

// forget forgets what need not be kept.
func (k *Keeper) forget() {
	clear(k.marks)
	clear(k.names)
	clear(k.moved.moved)
}

// complete adds to an error what only the keeper knows.
func (k *Keeper) complete(err error) error {
	var limit *LimitError
	if errors.As(err, &limit) {
		limit.Replica = k.cfg.Tree.Dir()
	}
	return err
}

// After notes what o has made equal to the primary's. It follows Before, and is
// not called if o failed.
func (k *Keeper) After(o *op.Op) error {
	if o.Flags&op.Compare != 0 {
		return nil
	}
	if k.named != nil {
		if err := k.moved.follow(o, k.named); err != nil {
			return err
		}
	}
	switch {
	case k.loss.Makes != "":
		put, id, err := k.cfg.Tree.Describe(k.loss.Makes)
		if err != nil {
			return err
		}
		if id.Nlink > 1 && put.Attr.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil // another name of what was there: not new after all
		}
		k.marks[id.Key()] = &mark{all: true}
		return k.moved.made(k.loss.Makes)
	case o.Kind == op.Put:
		_, id, err := k.cfg.Tree.Describe(o.Path)
		if err != nil {
			return err
		}
		k.mark(id).attr = true
	}
	return nil
}

// Compared notes the regions that a Check has found to be the same on both
// sides: what comes over them later takes nothing from this node that the
// primary never had.
func (k *Keeper) Compared(o *op.Op, differ []int64) {
	n := o.Len
	if len(o.Data) == 0 && o.Arg != 0 {
		return // of where holes are, not of content
	}
	if len(o.Data) > 0 {
		n = int64(len(o.Data) / tree.DigestSize * op.RegionSize)
	}
	_, id, err := k.cfg.Tree.Describe(o.Path)
	if err != nil {
		return // it is not there: all regions differ
	}
	m, not := k.mark(id), spans{}
	for _, off := range differ {
		not.add(span{off, off + op.RegionSize})
	}
	for _, equal := range not.without(span{o.Off, o.Off + n}) {
		m.data.add(equal)
	}
}

// mark returns what is known of an object.
func (k *Keeper) mark(id tree.Inode) *mark {
	m := k.marks[id.Key()]
	if m == nil {
		m = &mark{}
		k.marks[id.Key()] = m
	}
	return m
}
