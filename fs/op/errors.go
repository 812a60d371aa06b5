package op

import "errors"

// What ordering an op can fail with, whoever orders it. The file system turns
// them into what its caller gets to see (fs/errno.go).
var (
	// ErrFenced: a higher epoch exists. This node orders nothing any more.
	ErrFenced = errors.New("a higher epoch exists")
	// ErrShortage: fewer mirrors are in sync than the policy asks for, and it
	// says to fail rather than to wait.
	ErrShortage = errors.New("too few mirrors in sync")
	// ErrUnrecorded: what has to be recorded first cannot be, and never will be by
	// this process.
	ErrUnrecorded = errors.New("nothing is recorded any more")
	// ErrInterrupted: the caller gave up before the op took effect.
	ErrInterrupted = errors.New("interrupted before it took effect")
)
