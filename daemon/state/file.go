package state

import (
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon/state/pages"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
)

const (
	stateFile = "state.db"
	// reserve is allocated when the file is made. A mirror whose disk is full
	// has to record that it is out of sync, and its state usually lies on the
	// same disk. There is room for more than the bounded records of regions take.
	reserve = 4 << 20
)

// makeFile makes a state.db with a new node's state, under another name
// first: a kill or a power loss leaves either none or a whole one, so that a
// file without a state in it is a damaged one.
func makeFile(dir string) error {
	path := filepath.Join(dir, stateFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	var id [8]byte
	crand.Read(id[:])
	node := op.NodeID(binary.LittleEndian.Uint64(id[:]) | 1) // never zero
	made := db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(made, record(db, &State{Node: node}), db.Close()); err != nil {
		return err
	}
	if err := allocate(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return errors.Join(tree.SyncDir(dir), tree.SyncDir(filepath.Dir(dir)))
}

func allocate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserve)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("reserve %d bytes for %s: %w", reserve, path, err)
	}
	return f.Sync()
}

// lockTimeout is how long another process's lock is waited for: long enough
// for one that ends just now.
const lockTimeout = 200 * time.Millisecond

// openFile opens the file and reads all that is in it: a damaged one must show
// here, and not when a mirror has to record something.
func openFile(dir string, readOnly bool) (db *guarded, state State, err error) {
	path := filepath.Join(dir, stateFile)
	var file *os.File
	options := &bolt.Options{
		ReadOnly: readOnly, InitialMmapSize: reserve,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = openWhole(path, flag, mode, readOnly)
			return file, err
		},
		// What was checked is what bbolt reads: it stays in memory.
		Mlock: true,
	}
	bare, err := bolt.Open(path, 0o600, options)
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EAGAIN) { // RLIMIT_MEMLOCK
		options.Mlock = false
		bare, err = bolt.Open(path, 0o600, options)
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, State{}, fmt.Errorf("state directory %s: %w", dir, heldBy(dir))
	case errors.Is(err, errNotWhole):
		return nil, State{}, damaged(dir, err)
	case errors.As(err, new(syscall.Errno)): // the system would not open or map it
		return nil, State{}, fmt.Errorf("open state %s: %w", path, err)
	case err != nil:
		return nil, State{}, damaged(dir, err)
	}
	db = &guarded{Database: bare, dir: dir, file: file}
	err = db.View(func(tx *bolt.Tx) error {
		if err := complete(tx); err != nil {
			return err
		}
		if state, err = In(tx); err != nil {
			return err
		}
		return checkEvents(tx.Bucket(eventBucket))
	})
	if err == nil {
		_, err = region.Open(db)
	}
	if err != nil {
		return nil, State{}, errors.Join(damaged(dir, err), db.Close())
	}
	return db, state, nil
}

var errNotWhole = errors.New("the file is not whole")

// openWhole opens a file for bbolt and locks it as bbolt would, so that nobody
// changes it while it is looked at.
func openWhole(path string, flag int, mode os.FileMode, shared bool) (*os.File, error) {
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	if err := lockWithin(f, shared, lockTimeout); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// What the disk refused to store is clean for the kernel: read what it has.
	err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	var st os.FileInfo
	if err == nil {
		st, err = f.Stat()
	}
	if err == nil {
		if err = pages.Check(f, st.Size()); err != nil {
			err = fmt.Errorf("%w: %w", errNotWhole, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func lockWithin(f *os.File, shared bool, patience time.Duration) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for begun := time.Now(); ; time.Sleep(patience / 10) {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
		case err == nil, !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Since(begun) > patience:
			return bolterrors.ErrTimeout
		}
	}
}

func damaged(dir string, what any) error {
	return fmt.Errorf("state directory %s: %w (%v): `standbyfs state reset --state %s` moves it aside, and this node starts afresh with its replica as it is: a mirror is compared in full; a primary makes a new volume, so if a mirror of it is there, promote that one, and start this node as a mirror",
		dir, ErrDamaged, what, dir)
}
