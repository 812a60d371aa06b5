package state

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/fs/op"
)

// guarded is a database that is damaged at worst. Its file was whole when it was
// opened (pages.Check), but a disk can lose a page of it later, and somebody can
// cut it short: for bbolt, which maps it, that is a fault or a panic. Both end
// here as an error, and the database is not touched any more, since bbolt may
// have kept its locks.
//
// Nor is it where the last sync of a transaction fails. bbolt would go on from
// that one, though its caller was told that nothing is recorded, and the disk may
// have either (guarantee 8).
type guarded struct {
	Database
	dir  string
	file *os.File // bbolt's

	updates, views sync.Mutex // held over a call of bbolt's, which must not wait for a lock that was kept

	mu     sync.Mutex // guards broken
	broken error      // wraps ErrDamaged and op.ErrUnrecorded
}

func (g *guarded) Update(fn func(*bolt.Tx) error) error {
	g.updates.Lock()
	defer g.updates.Unlock()
	id := 0
	err := g.run(func() error {
		return g.Database.Update(func(tx *bolt.Tx) error {
			id = tx.ID()
			return fn(tx)
		})
	})
	if err == nil || id == 0 {
		return err
	}
	seen := 0
	if e := g.View(func(tx *bolt.Tx) error { seen = tx.ID(); return nil }); e != nil {
		return e
	}
	if seen >= id {
		return g.fail(fmt.Errorf("it is not known what the disk has of the last change: %w", err))
	}
	return err
}

func (g *guarded) View(fn func(*bolt.Tx) error) error {
	g.views.Lock()
	defer g.views.Unlock()
	return g.run(func() error { return g.Database.View(fn) })
}

func (g *guarded) run(do func() error) (err error) {
	if err := g.err(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = g.fail(p)
		}
	}()
	return do()
}

func (g *guarded) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.broken
}

func (g *guarded) fail(what any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken == nil {
		g.broken = fmt.Errorf("state directory %s: %w (%v): %w; start this node again, which reads the state anew and says what to do",
			g.dir, ErrDamaged, what, op.ErrUnrecorded)
	}
	return g.broken
}

// Close lets another process have the file.
func (g *guarded) Close() error {
	if g.err() == nil {
		return g.Database.Close()
	}
	// bbolt's mapping stays, and would keep the lock beyond its own Close.
	return errors.Join(unix.Flock(int(g.file.Fd()), unix.LOCK_UN), g.file.Close())
}
