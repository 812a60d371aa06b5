package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// TestStateBreaks takes the file away under a store that is in use, and has bbolt
// panic in a commit: who records something hears of it, at once and ever after,
// and the next start finds the damage if there is one.
func TestStateBreaks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  func(t *testing.T, s *Store)
		remains bool
	}{
		{"a page cannot be read", func(t *testing.T, s *Store) {
			if err := os.Truncate(filepath.Join(s.dir, stateFile), 2*4096); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"a panic in a commit", func(_ *testing.T, s *Store) {
			s.db.Database = panicking{s.db.Database.(*bolt.DB)}
		}, false},
		{"the last sync of a commit fails", func(_ *testing.T, s *Store) {
			s.db.Database = failing{s.db.Database.(*bolt.DB), true}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			use(t, s, 50)
			before := s.Get()
			tt.damage(t, s)
			wrong := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "start this node again") {
					t.Errorf("%s: error %v", what, err)
				}
			}
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() { wrong("event", s.Event("k", "text")) })
				all.Go(func() { wrong("update", s.Update(func(st *State) error { st.InSync = !st.InSync; return nil })) })
				all.Go(func() {
					_, err := s.Regions().Begin(&op.Op{Kind: op.Write, Path: "new/file", Data: []byte("x")}, func(string) (region.Stat, error) { return region.Stat{}, nil })
					wrong("region", err)
				})
			}
			all.Wait()
			_, err := s.Events(3)
			wrong("events", err)
			wrong("trouble", s.Trouble())
			if s.Get().InSync != before.InSync {
				t.Error("what was not recorded counts")
			}
			closeStore(t, s)
			again, err := Open(dir)
			switch {
			case tt.remains:
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "state reset") {
					t.Errorf("the next start: %v", err)
				}
			case err != nil:
				t.Errorf("the next start: %v", err)
			default:
				closeStore(t, again)
			}
		})
	}
}

// panicking gives up in a commit and keeps its lock.
type panicking struct{ *bolt.DB }

func (db panicking) Update(fn func(*bolt.Tx) error) error {
	tx, err := db.Begin(true)
	if err == nil {
		err = fn(tx)
	}
	panic(err)
}

// failing fails in a commit, before anything of it can be seen or after.
type failing struct {
	*bolt.DB
	late bool
}

func (db failing) Update(fn func(*bolt.Tx) error) error {
	tx, err := db.Begin(true)
	if err == nil {
		err = fn(tx)
	}
	if db.late {
		return errors.Join(err, tx.Commit(), syscall.EIO)
	}
	return errors.Join(err, tx.Rollback(), syscall.ENOSPC)
}

// TestStateRecovers: where nothing of a transaction is in the file the next one may
// succeed, such as when the disk has room again.
func TestStateRecovers(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	db := s.db.Database
	s.db.Database = failing{db.(*bolt.DB), false}
	change := func(st *State) error { st.Reason = "changed"; return nil }
	if err := s.Update(change); !errors.Is(err, syscall.ENOSPC) || s.Get().Reason != "" {
		t.Errorf("error %v, state %q", err, s.Get().Reason)
	}
	s.db.Database = db
	if err := s.Update(change); err != nil || s.Trouble() != nil || s.Get().Reason != "changed" {
		t.Errorf("error %v, trouble %v, state %q", err, s.Trouble(), s.Get().Reason)
	}
}
