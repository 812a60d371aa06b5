package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// Lock keeps other nodes away from a replica.
type Lock struct {
	dir *os.File // flock(2) of the replica directory itself: it cannot go stale
}

// LockReplica takes the replica for this process, so that no second node
// writes to it under whatever state directory, and leaves the process ID in
// STATE/lock for the error of whoever comes second. The error then wraps
// ErrLocked and names that process. Both directories exist.
func LockReplica(replica, stateDir string) (*Lock, error) {
	dir, err := os.OpenFile(replica, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("replica %s: %w", replica, heldBy(stateDir))
		}
		return nil, fmt.Errorf("lock replica %s: %w", replica, err)
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := os.WriteFile(filepath.Join(stateDir, lockFile), []byte(pid), 0o600); err != nil {
		dir.Close()
		return nil, fmt.Errorf("note the process ID: %w", err)
	}
	return &Lock{dir: dir}, nil
}

// Close gives the replica free.
func (l *Lock) Close() error { return l.dir.Close() }

// heldBy names the process that has what belongs to a state directory.
func heldBy(stateDir string) error {
	pid, err := holder(stateDir)
	if err != nil {
		return fmt.Errorf("%w: find it with lsof(8) or lslocks(8) and stop it first", ErrLocked)
	}
	return fmt.Errorf("%w, standbyfs with process ID %d: stop it first (kill %d), or ask it with `standbyfs status`", ErrLocked, pid, pid)
}

func holder(stateDir string) (pid int, err error) {
	text, err := os.ReadFile(filepath.Join(stateDir, lockFile))
	if err != nil {
		return 0, err
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, err
	}
	return pid, unix.Kill(pid, 0)
}

// ClaimReplica ties the state to the replica directory on first use, and
// afterwards returns an error that wraps ErrOtherReplica if it is not the same
// directory: a state says nothing about a replica that was restored, copied or
// swapped.
func (s *Store) ClaimReplica(replica string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, replica, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fmt.Errorf("identify replica %s: %w", replica, err)
	}
	var born time.Time
	if st.Mask&unix.STATX_BTIME != 0 {
		born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).UTC()
	}
	return s.Update(func(state *State) error {
		if state.ReplicaIno == 0 {
			state.ReplicaIno, state.ReplicaBorn = st.Ino, born
			return nil
		}
		if state.ReplicaIno != st.Ino || !state.ReplicaBorn.Equal(born) {
			return fmt.Errorf("state directory %s: %w (a directory with inode %d born %s, %s has inode %d born %s): give the directory that it belongs to, or run `standbyfs state reset --force %s`, and this node starts afresh with what is there",
				s.dir, ErrOtherReplica, state.ReplicaIno, state.ReplicaBorn.Format(time.RFC3339), replica, st.Ino, born.Format(time.RFC3339), replica)
		}
		return nil
	})
}
