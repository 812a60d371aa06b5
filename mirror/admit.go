package mirror

import (
	"context"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Admit waits until changes are allowed: the reign goes on, the set is large
// enough, and no peer that is to be kept in the ring is too far behind. The
// caller holds no lock, since a mirror may have to be brought level first, and
// that takes them. ctx ends the wait.
func (l *Log) Admit(ctx context.Context) error {
	for {
		if err := l.fence.check(); err != nil {
			return err
		}
		l.mu.Lock()
		news, room := l.news, l.room
		full := l.crowded()
		l.mu.Unlock()
		short := l.sync.short()
		switch {
		case short && l.cfg.OnShortage == ShortageFail:
			return fmt.Errorf("%d mirrors in sync, min_in_sync is %d: %w", len(l.sync.set()), l.cfg.MinInSync, op.ErrShortage)
		case !short && !full:
			return nil
		}
		select {
		case <-news:
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("waiting for mirrors before a change: %w", op.ErrInterrupted)
		}
	}
}

// crowded reports whether a connected peer that calls wait for, or that a
// resync is bringing level, is half a ring behind. Without this bound a writer
// that never stops would push a mirror in resync off the ring for ever. The
// caller holds mu.
func (l *Log) crowded() bool {
	for _, p := range l.peers {
		if p.session != nil && !p.cfg.Async && p.lag() > uint64(l.cfg.RingBytes/2) {
			return true
		}
	}
	return false
}
