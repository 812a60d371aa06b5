// Package model runs the same random system calls in several directories and
// compares everything that a program can see of them: results, errnos,
// attributes, xattrs, contents, holes. A plain directory of the disk is the
// model, a standbyfs mount is what is judged by it.
//
// The steps are made by a crew of processes (crew.go), one of them an ordinary
// user's, which also map files (mapping.go), lock them (lock.go), and lose what
// the kernel caches for them.
//
// A sequence follows from its seed alone, never from what its steps return, so
// that a failing one is replayed by its seed and made shorter by leaving steps
// out (run.go). The names are few, so that steps collide.
package model

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is a system call, or a family of them.
type Kind uint8

const (
	Open        Kind = iota
	Tmpfile          // open with O_TMPFILE
	LinkFD           // linkat of a descriptor
	Close            //
	Write            // at the descriptor's own offset
	Pwrite           //
	Read             // at the descriptor's own offset
	Pread            //
	Truncate         //
	Ftruncate        //
	Fallocate        // with Flags as mode
	CopyRange        // copy_file_range(2)
	SeekHole         //
	SeekData         //
	Rename           // renameat2(2) with Flags
	Link             //
	Symlink          //
	Unlink           //
	Mkdir            //
	Rmdir            //
	Mknod            //
	Chmod            //
	Fchmod           //
	Chown            // lchown(2)
	Fchown           //
	Utimens          // of a path, without following
	Futimens         //
	Setxattr         //
	Fsetxattr        //
	Removexattr      //
	Fsync            //
	Fdatasync        //
	Readdir          //

	// The rest is for crews: who serves a mount must not map its files, and some
	// of it is about processes.
	Map     // a part of a file into memory; Flags: to be written, read, private
	Unmap   //
	Store   // through a mapping
	Load    //
	SetLock // fcntl(2), of the process or of the descriptor; Flags: read, write, none
	GetLock // who holds one that is in the way
	Flock   // Flags: shared, exclusive, none
	Umask   //
	Reclaim // take away what the kernel caches for the crew
	Kill    // and start the process again
	numKinds
)

var kindNames = [numKinds]string{
	"open", "tmpfile", "linkfd", "close", "write", "pwrite", "read", "pread", "truncate", "ftruncate",
	"fallocate", "copyrange", "seekhole", "seekdata", "rename", "link", "symlink", "unlink", "mkdir", "rmdir",
	"mknod", "chmod", "fchmod", "chown", "fchown", "utimens", "futimens", "setxattr", "fsetxattr", "removexattr",
	"fsync", "fdatasync", "readdir", "map", "unmap", "store", "load", "setlock", "getlock", "flock", "umask", "reclaim", "kill",
}

// forCrew reports whether only a crew makes such a step.
func (k Kind) forCrew() bool { return k >= Map }

// String returns the kind's name.
func (k Kind) String() string { return kindNames[k] }

// NumSlots is how many descriptors a world holds at once.
const NumSlots = 6

// Step is one call. Which fields count depends on the kind.
type Step struct {
	Kind        Kind
	Proc        int // which process of a crew makes the call
	Path, Path2 string
	Dir         int // the slot of the directory that Path starts from; -1 is the world's root
	FD, FD2     int // slots
	Off, Off2   int64
	Len         int64
	Flags       int
	Mode        uint32
	ID          int // owner and group, and what data, times and values are made of
	Name        string
}

// String prints the step for a failing run.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %-10s", s.Proc, s.Kind)
	if s.Path != "" {
		fmt.Fprintf(&b, " %q", s.Path)
	}
	if s.Path2 != "" {
		fmt.Fprintf(&b, " %q", s.Path2)
	}
	if s.Dir >= 0 {
		fmt.Fprintf(&b, " at=#%d", s.Dir)
	}
	fmt.Fprintf(&b, " #%d", s.FD)
	if s.Kind == CopyRange {
		fmt.Fprintf(&b, " to #%d off2=%d", s.FD2, s.Off2)
	}
	fmt.Fprintf(&b, " off=%d len=%d flags=%s mode=%#o id=%d", s.Off, s.Len, s.flagNames(), s.Mode, s.ID)
	if s.Name != "" {
		fmt.Fprintf(&b, " name=%q", s.Name)
	}
	return b.String()
}

// flagNames prints Flags as the kind means them.
func (s Step) flagNames() string {
	var names []string
	add := func(bit int, name string) {
		if s.Flags&bit == bit && bit != 0 {
			names = append(names, name)
		}
	}
	switch s.Kind {
	case Open, Tmpfile:
		names = append(names, [...]string{"RDONLY", "WRONLY", "RDWR", "3"}[s.Flags&3])
		add(unix.O_CREAT, "CREAT")
		add(unix.O_EXCL, "EXCL")
		add(unix.O_TRUNC, "TRUNC")
		add(unix.O_APPEND, "APPEND")
		add(unix.O_SYNC, "SYNC")
		if s.Flags&unix.O_SYNC != unix.O_SYNC {
			add(unix.O_DSYNC, "DSYNC")
		}
		add(unix.O_DIRECTORY, "DIRECTORY")
		add(unix.O_NOFOLLOW, "NOFOLLOW")
		add(unix.O_DIRECT, "DIRECT")
	case Map:
		names = append(names, [...]string{"SHARED", "READ", "PRIVATE"}[s.Flags])
	case SetLock, GetLock:
		names = append(names, [...]string{"RDLCK", "WRLCK", "UNLCK"}[s.Flags], [...]string{"OFD", "POSIX"}[s.ID%2])
	case Flock:
		names = append(names, [...]string{"SH", "EX", "UN"}[s.Flags])
	case Rename:
		add(unix.RENAME_NOREPLACE, "NOREPLACE")
		add(unix.RENAME_EXCHANGE, "EXCHANGE")
		add(unix.RENAME_WHITEOUT, "WHITEOUT")
	case Fallocate:
		add(unix.FALLOC_FL_KEEP_SIZE, "KEEP_SIZE")
		add(unix.FALLOC_FL_PUNCH_HOLE, "PUNCH_HOLE")
		add(unix.FALLOC_FL_ZERO_RANGE, "ZERO_RANGE")
	case Setxattr, Fsetxattr:
		add(unix.XATTR_CREATE, "CREATE")
		add(unix.XATTR_REPLACE, "REPLACE")
	}
	if len(names) == 0 {
		return "0"
	}
	return strings.Join(names, "|")
}
