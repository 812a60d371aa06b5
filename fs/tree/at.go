package tree

import (
	"errors"
	"strings"
	"sync"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// At is where an object is: a descriptor of its directory and its name there.
// All access goes through it, with the *at calls, so that no path is ever
// resolved by the kernel with links followed or beyond PATH_MAX.
type At struct {
	FD   int // O_PATH; good for *at calls only
	Name string
	dir  *cachedFD // nil for the root's own descriptor
}

// Close gives the descriptor back.
func (a At) Close() {
	if a.dir != nil {
		a.dir.release()
	}
}

// maxStep is how much of a path is resolved by one call: below PATH_MAX (4096)
// with its terminating zero.
const maxStep = 4000

// At returns where path is. The directory must exist, the name need not. The
// root is "." in itself.
func (t *Tree) At(path string) (At, error) {
	dir, name := op.SplitPath(path)
	if name == ".." { // the one name that leads out of its directory
		return At{}, pathError("open", path, unix.EINVAL)
	}
	if dir == op.Root {
		return At{FD: int(t.root.Fd()), Name: name}, nil
	}
	c, err := t.openDir(dir)
	if err != nil {
		return At{}, err
	}
	return At{FD: c.fd, Name: name, dir: c}, nil
}

// openDir returns a descriptor of a directory below the root.
func (t *Tree) openDir(dir string) (*cachedFD, error) {
	c, drops := t.dirs.get(dir)
	if c != nil {
		return c, nil
	}
	fd, err := walk(int(t.root.Fd()), dir)
	if err != nil {
		return nil, pathError("open directory", dir, err)
	}
	return t.dirs.put(dir, fd, drops), nil
}

// walk opens dir below root in as many steps as its length needs.
func walk(root int, dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	at := root
	for rest := dir; ; {
		step := rest
		if len(step) > maxStep {
			// Without a slash the name is too long for the kernel to take.
			if i := strings.LastIndexByte(step[:maxStep], '/'); i > 0 {
				step = step[:i]
			}
		}
		fd, err := unix.Openat2(at, step, &how)
		for errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			fd, err = unix.Openat2(at, step, &how)
		}
		if at != root {
			unix.Close(at)
		}
		if err != nil || len(step) == len(rest) {
			return fd, err
		}
		at, rest = fd, rest[len(step)+1:]
	}
}

// Forget drops what is kept open of path and below. Whoever moves or removes
// names by other means than Apply calls it afterwards.
func (t *Tree) Forget(path string) {
	t.dirs.drop(path)
	t.files.drop(path)
}

// fdCache keeps the descriptors that were used last, by path.
type fdCache struct {
	mu    sync.Mutex // guards all below, and the fields of every cachedFD
	limit int
	open  map[string]*cachedFD
	clock uint64
	drops uint64 // how often drop was called
}

// cachedFD is a descriptor that closes once nobody uses it and it is not in
// the cache any more.
type cachedFD struct {
	cache *fdCache
	fd    int
	users int
	kept  bool
	used  uint64 // clock of the last use
}

// Pinned is a descriptor that stays open until Close, whatever becomes of the
// cache meanwhile.
type Pinned struct{ c *cachedFD }

// FD is the descriptor.
func (p Pinned) FD() int { return p.c.fd }

// Close gives the descriptor back.
func (p Pinned) Close() { p.c.release() }

func newFDCache(limit int) *fdCache {
	return &fdCache{limit: limit, open: make(map[string]*cachedFD)}
}

// get returns a kept descriptor, to be released, or nil. Whoever then opens
// one passes the second result on to put.
func (c *fdCache) get(path string) (*cachedFD, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.open[path]
	if f != nil {
		f.users++
		c.clock++
		f.used = c.clock
	}
	return f, c.drops
}

// put keeps a descriptor and returns it for use, to be released. If anything
// was dropped since get it is not kept: it may have been opened before a rename
// and would stand for the wrong object ever after.
func (c *fdCache) put(path string, fd int, drops uint64) *cachedFD {
	c.mu.Lock()
	defer c.mu.Unlock()
	if drops != c.drops {
		return &cachedFD{cache: c, fd: fd, users: 1}
	}
	if old := c.open[path]; old != nil {
		c.remove(path, old)
	}
	if len(c.open) >= c.limit {
		var oldest string
		for p, f := range c.open {
			if oldest == "" || f.used < c.open[oldest].used {
				oldest = p
			}
		}
		c.remove(oldest, c.open[oldest])
	}
	c.clock++
	f := &cachedFD{cache: c, fd: fd, users: 1, kept: true, used: c.clock}
	c.open[path] = f
	return f
}

// drop forgets path and all below it.
func (c *fdCache) drop(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for p, f := range c.open {
		if op.Within(p, path) {
			c.remove(p, f)
		}
	}
}

// remove takes f out. The caller holds mu.
func (c *fdCache) remove(path string, f *cachedFD) {
	delete(c.open, path)
	f.kept = false
	f.closeIfUnused()
}

func (f *cachedFD) release() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.users--
	f.closeIfUnused()
}

// closeIfUnused closes the descriptor after its last use. Errors of close are
// those of writes, which every barrier reports by its own fsync.
func (f *cachedFD) closeIfUnused() {
	if f.users == 0 && !f.kept {
		unix.Close(f.fd)
	}
}
