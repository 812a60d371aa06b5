package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockReplica(t *testing.T) {
	replica, state := t.TempDir(), t.TempDir()
	l, err := LockReplica(replica, state)
	if err != nil {
		t.Fatal(err)
	}
	_, err = LockReplica(replica, state)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("%d: stop it first", os.Getpid())) {
		t.Errorf("second lock: %v", err)
	}
	// Under another state directory the process is not known, the lock holds.
	_, err = LockReplica(replica, t.TempDir())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "lslocks(8)") {
		t.Errorf("lock with another state directory: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = LockReplica(replica, state)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockReplicaOfNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, replica := range []string{file, file + ".not"} {
		if _, err := LockReplica(replica, t.TempDir()); err == nil || !strings.Contains(err.Error(), replica) {
			t.Errorf("lock of %s: %v", replica, err)
		}
	}
}

func TestClaimReplica(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	mine, other := t.TempDir(), t.TempDir()
	for range 2 {
		if err := s.ClaimReplica(mine); err != nil {
			t.Fatal(err)
		}
	}
	moved := mine + ".moved"
	if err := os.Rename(mine, moved); err != nil {
		t.Fatal(err)
	}
	if err := s.ClaimReplica(moved); err != nil {
		t.Errorf("a moved replica is still the same one: %v", err)
	}
	err := s.ClaimReplica(other)
	if !errors.Is(err, ErrOtherReplica) || !strings.Contains(err.Error(), "standbyfs state reset --force") {
		t.Errorf("another replica: %v", err)
	}
}
