// Package disk has disks for tests that fail on purpose, each served by a
// process of its own:
//
//	plan.go    which calls fail, as a text
//	drive.go   a drive with a volatile write cache: what a power cut leaves of it
//	calls.go   a directory whose system calls fail
//	serve.go   the process that serves either
//	power.go   a file system on such a drive, from power on to power cut
//	fault.go   a directory with such calls
//
// A Drive is the file behind a loop device with ext4 on it, so everything above
// the blocks is real: the page cache, syncfs(2), the journal and its replay, and
// what the kernel does about a write that fails. A Layer is between the program
// and a directory, for calls of which a drive knows nothing, such as rename.
//
// They are served by another process since the kernel, on behalf of a page fault
// of this one, may have to wait for them, and a Go program in a page fault does
// not run on.
package disk
