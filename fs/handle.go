package fs

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

// handle is one open file or directory.
type handle struct {
	n *inode
	*descriptor
	flags uint32
	grows bool       // it was opened when its file was append only; guarded by n.mu from then on
	dir   *dirStream // of a directory
	at    int        // where it is among n's; guarded by handles.mu
}

func (h *handle) writable() bool { return h.flags&unix.O_ACCMODE != unix.O_RDONLY }

// handles numbers what is open.
type handles struct {
	mu   sync.RWMutex // guards all but log, and every inode's open
	open map[uint64]*handle
	last uint64

	// limit is how many may be open. What is left of the process's descriptors
	// is for everything else: whoever has a file open can go on.
	limit int
	log   *slog.Logger
	full  time.Time // when it was last logged that the limit is reached
}

// newHandles keeps a quarter of the process's descriptors for paths, files
// without names, mirrors and the like.
func newHandles(log *slog.Logger) *handles {
	limit := tree.MaxDescriptors()
	return &handles{open: make(map[uint64]*handle), limit: limit - limit/4, log: log}
}

// room returns an error, as a process gets it that has too many files open, if
// no more may be opened. Opens that race each other may go a little beyond.
func (hs *handles) room() error {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if len(hs.open) < hs.limit {
		return nil
	}
	hs.short()
	return unix.EMFILE
}

// seen logs an error that says that there are no descriptors any more, and
// returns it.
func (hs *handles) seen(err error) error {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		hs.short()
	}
	return err
}

// short logs that there are no descriptors, once a minute. The caller holds mu.
func (hs *handles) short() {
	if now := time.Now(); now.Sub(hs.full) > time.Minute {
		hs.full = now
		hs.log.Error("too many open files: opens fail until some are closed (raise the limit on open files of this process)", "open", len(hs.open))
	}
}

func (hs *handles) get(id uint64) *handle {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return hs.open[id]
}

func (hs *handles) add(h *handle) uint64 {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.last++
	hs.open[hs.last] = h
	h.at = len(h.n.open)
	h.n.open = append(h.n.open, h)
	return hs.last
}

// writing reports whether n is open for writing.
func (hs *handles) writing(n *inode) bool {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return slices.ContainsFunc(n.open, (*handle).writable)
}

// mappable reports whether n may be mapped for writing: a mapping keeps what it
// was made with open.
func (hs *handles) mappable(n *inode) bool {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return slices.ContainsFunc(n.open, func(h *handle) bool { return h.flags&unix.O_ACCMODE == unix.O_RDWR })
}

// descriptor returns one through which n is open, to be released, or nil.
func (hs *handles) descriptor(n *inode) *descriptor {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	if len(n.open) == 0 {
		return nil
	}
	return n.open[0].share()
}

// remove closes a handle, if there is one of this number.
func (hs *handles) remove(id uint64) {
	hs.mu.Lock()
	h := hs.open[id]
	if h != nil {
		delete(hs.open, id)
		end := len(h.n.open) - 1
		last := h.n.open[end]
		last.at = h.at
		h.n.open[h.at], h.n.open[end] = last, nil
		h.n.open = h.n.open[:end]
	}
	hs.mu.Unlock()
	if h != nil {
		h.release()
	}
}

// close closes what the kernel had no time to release.
func (hs *handles) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for id, h := range hs.open {
		h.release()
		delete(hs.open, id)
	}
}
