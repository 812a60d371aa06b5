package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrHealthy says that there is nothing wrong with a state that is to be reset.
var ErrHealthy = errors.New("the state is not damaged")

// Old is the state that a Reset has moved aside.
type Old struct {
	Moved string // where it is now; "" if there was none
	Was   State  // what it said; zero if it could not be read
}

// Reset gives a node that does not run a fresh state: a new node ID, no
// volume, no epoch. The old one is moved aside. Unlike on first use the replica
// may hold something: as a mirror the node is compared in full with its primary,
// and archives what it has to give up, since nobody knows any more what reign
// that is from (RULES.md 8, 7 ArchiveDurable).
//
// A state that can be read is reset only if force is set, otherwise the error
// wraps ErrHealthy: a node that forgets the epochs that it has seen follows a
// deposed primary again.
func Reset(dir string, force bool) (Old, error) {
	r, kind, err := inspect(dir)
	switch {
	case err != nil:
		return r, err
	case kind == healthy && !force:
		return r, fmt.Errorf("state directory %s: %w", dir, ErrHealthy)
	case kind != "":
		path := filepath.Join(dir, stateFile)
		r.Moved = path + "." + kind + "-" + time.Now().UTC().Format("20060102T150405.000Z")
		if err := os.Rename(path, r.Moved); err != nil {
			return r, fmt.Errorf("move the state aside: %w", err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		return r, err
	}
	err = s.Update(func(st *State) error {
		st.Adopts, st.ArchiveUntilJoined, st.Reason = true, true, "its state was reset"
		return nil
	})
	if err == nil {
		err = s.Event("reset", "the state was reset: as a mirror this node is compared in full")
	}
	return r, errors.Join(err, s.Close())
}

// What the name of a state says that was moved aside.
const (
	healthy = "old"
	broken  = "damaged"
)

// inspect reads the state in dir and returns what kind of state it is, "" if
// there is none that says anything.
func inspect(dir string) (r Old, kind string, err error) {
	switch _, err := os.Lstat(filepath.Join(dir, stateFile)); {
	case errors.Is(err, fs.ErrNotExist):
		return r, "", nil
	case err != nil:
		return r, "", fmt.Errorf("look for the state: %w", err)
	}
	db, state, err := openFile(dir, false)
	if errors.Is(err, ErrDamaged) {
		return r, broken, nil
	}
	if err != nil {
		return r, "", err
	}
	if err := db.Close(); err != nil {
		return r, "", fmt.Errorf("close the state in %s: %w", dir, err)
	}
	if r.Was = state; state.Volume == "" {
		return r, "", nil // made by a start that was refused
	}
	return r, healthy, nil
}
