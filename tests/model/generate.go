package model

import (
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// weights says how often a kind comes, relative to the others.
var weights = [numKinds]int{
	Open: 100, Tmpfile: 6, LinkFD: 8, Close: 12, Write: 40, Pwrite: 40, Read: 12, Pread: 15, Truncate: 12,
	Ftruncate: 16, Fallocate: 30, CopyRange: 20, SeekHole: 8, SeekData: 8, Rename: 45, Link: 18, Symlink: 10,
	Unlink: 28, Mkdir: 30, Rmdir: 12, Mknod: 6, Chmod: 10, Fchmod: 8, Chown: 10, Fchown: 8, Utimens: 12,
	Futimens: 12, Setxattr: 14, Fsetxattr: 10, Removexattr: 8, Fsync: 8, Fdatasync: 6, Readdir: 8,
	Map: 40, Unmap: 5, Store: 60, Load: 30, SetLock: 24, GetLock: 12, Flock: 12, Umask: 4, Reclaim: 6, Kill: 3,
}

// Options bounds what Generate makes.
type Options struct {
	MaxOff int64 // offsets stay below it; 0 is 400 KiB
	Huge   bool  // but a few lie beyond 4 GiB
	// Unwritten lets fallocate(2) reserve space. SEEK_DATA finds such space
	// once it was read and is in the page cache, which says nothing about what
	// anybody did to the file: then where the holes are is not compared.
	Unwritten bool
	Crew      bool // the steps are made by several processes
}

// aspects says what to leave out of a comparison of trees.
func (o Options) aspects() harness.Aspects {
	return harness.Aspects{ClockMtimes: true, Holes: o.Unwritten}
}

// Generate makes a sequence of n steps from a seed. Each step has a random
// stream of its own: a longer sequence begins with the shorter one.
func Generate(seed uint64, n int, o Options) []Step {
	if o.MaxOff == 0 {
		o.MaxOff = 400 << 10
	}
	steps := make([]Step, n)
	for i := range steps {
		g := generator{rand.New(rand.NewPCG(seed, uint64(i))), o}
		steps[i] = g.step()
	}
	return steps
}

type generator struct {
	*rand.Rand
	Options
}

func (g generator) step() Step {
	weights, total := weights, 0
	for kind := range weights {
		if Kind(kind).forCrew() && !g.Crew {
			weights[kind] = 0
		}
		total += weights[kind]
	}
	at, kind := g.IntN(total), Kind(0)
	for at >= weights[kind] {
		at -= weights[kind]
		kind++
	}
	if g.Unwritten && (kind == SeekHole || kind == SeekData) {
		kind = Pread
	}
	s := Step{
		Kind: kind, Dir: -1, FD: g.slot(), FD2: g.slot(),
		Off: g.offset(), Off2: g.offset(), Len: g.length(), Mode: g.mode(), ID: 1 + g.IntN(1000),
	}
	if g.IntN(6) == 0 {
		s.Dir = g.slot()
	}
	if g.Crew {
		s.Proc = pick(g, 0, 0, 0, 0, 0, 1, 1, 2)
	}
	switch kind {
	case Open:
		s.Path, s.Flags = g.path(false), g.openFlags()
	case Tmpfile:
		s.Path, s.Flags = g.path(true), pick(g, unix.O_RDWR, unix.O_WRONLY, unix.O_RDWR|unix.O_EXCL)
	case Rename:
		directory := g.IntN(3) == 0
		s.Path, s.Path2 = g.path(directory), g.path(directory)
		s.Flags = pick(g, 0, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT,
			unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE)
	case Link:
		s.Path, s.Path2 = g.path(false), g.path(false)
	case Symlink:
		s.Path, s.Name = g.path(false), pick(g, "x", "a", "b/y", "missing", "a/b/x", strings.Repeat("long/", 200)+"x")
	case Mknod:
		s.Path, s.Mode = g.path(false), s.Mode&0o7777|pick(g, uint32(unix.S_IFIFO), unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG, unix.S_IFCHR)
	case Fallocate:
		s.Flags = pick(g, 0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
			unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
			unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE)
		if !g.Unwritten && s.Flags&unix.FALLOC_FL_PUNCH_HOLE == 0 {
			s.Flags = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		}
	case Setxattr, Fsetxattr:
		s.Path, s.Name, s.Flags = g.path(false), g.xattr(), pick(g, 0, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
		s.Len = pick(g, int64(0), 1, 10, 100, 100, 300, 6000)
	case Removexattr:
		s.Path, s.Name = g.path(false), g.xattr()
	case Map, SetLock, GetLock, Flock:
		s.Flags = pick(g, 0, 0, 0, 1, 1, 2)
		s.Len = pick(g, s.Len, s.Len, g.Int64N(1<<20))
	case Umask:
		s.Mode = pick(g, uint32(0), 0, 0o022, 0o027, 0o077)
	case Mkdir, Rmdir, Readdir:
		s.Path = g.path(true)
	case Truncate, Unlink, Chmod, Chown, Utimens, LinkFD:
		s.Path = g.path(false)
	}
	return s
}

// slot picks a descriptor: of several processes each has fewer.
func (g generator) slot() int {
	if g.Crew {
		return g.IntN(NumSlots / 2)
	}
	return g.IntN(NumSlots)
}

// path makes a path of one to three names, half of them of one. Directories
// are mostly called a and b, other things x, y and z. Now and then a name is
// strange: it is not UTF-8, as long as may be, or too long.
func (g generator) path(directory bool) string {
	if g.IntN(40) == 0 {
		return "."
	}
	depth := pick(g, 1, 1, 1, 2, 2, 3)
	names := make([]string, depth)
	for i := range names {
		switch g.IntN(60) {
		case 0:
			names[i] = "\xff\xfe \n\"é"
		case 1:
			names[i] = strings.Repeat("n", 255)
		case 2:
			names[i] = strings.Repeat("n", 256)
		default:
			names[i] = pick(g, "a", "b")
			if i == depth-1 && !directory && g.IntN(4) > 0 || g.IntN(16) == 0 {
				names[i] = pick(g, "x", "y", "z")
			}
		}
	}
	path := strings.Join(names, "/")
	if g.IntN(40) == 0 {
		path += "/"
	}
	return path
}

func (g generator) openFlags() int {
	flags := pick(g, unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR, unix.O_RDWR)
	for _, may := range []struct{ bit, oneIn int }{
		{unix.O_CREAT, 2}, {unix.O_EXCL, 6}, {unix.O_TRUNC, 6}, {unix.O_APPEND, 6}, {unix.O_DSYNC, 20},
		{unix.O_SYNC, 20}, {unix.O_NOFOLLOW, 10}, {unix.O_DIRECT, 10},
	} {
		if g.IntN(may.oneIn) == 0 {
			flags |= may.bit
		}
	}
	if flags&unix.O_DIRECT != 0 {
		flags &^= unix.O_APPEND // the end of a file is hardly ever where O_DIRECT may write
	}
	if g.IntN(8) == 0 {
		flags = unix.O_RDONLY | unix.O_DIRECTORY
	}
	return flags
}

func (g generator) offset() int64 {
	switch g.IntN(100) {
	case 0:
		return -1
	case 1:
		if g.Huge {
			return 1<<32 + int64(g.IntN(1<<20))
		}
	}
	off := g.Int64N(g.MaxOff)
	return pick(g, off, off, off&^4095, off&^65535, off&^65535+65535, 0)
}

func (g generator) length() int64 {
	return pick(g, int64(0), 1, g.Int64N(100), g.Int64N(5000), g.Int64N(5000), 4096, 8192, 65536, g.Int64N(200<<10))
}

func (g generator) mode() uint32 {
	mode := pick(g, uint32(0o644), 0o600, 0o755, 0o777, 0o000, 0o664)
	if g.IntN(8) == 0 {
		mode |= pick(g, uint32(unix.S_ISUID), unix.S_ISGID, unix.S_ISVTX, unix.S_ISUID|unix.S_ISGID)
	}
	return mode
}

func (g generator) xattr() string {
	return pick(g, "user.one", "user.one", "user.two", accessList, accessList, defaultList, defaultList, "trusted.three", "security.four", "user."+strings.Repeat("n", 250),
		"user."+strings.Repeat("n", 251), "nonsense.five")
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }
