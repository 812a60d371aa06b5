package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

// Node is what the server speaks for: the running daemon. Its methods are
// called from several goroutines at once.
type Node interface {
	Status() Status
	// Events returns the newest n events, oldest first.
	Events(n int) ([]Event, error)
	// WaitInSync returns nil once n mirrors are in sync.
	WaitInSync(ctx context.Context, n int) error
	// Verify compares every connected replica with the primary's. With versions
	// the report says who has which version of what differs.
	Verify(ctx context.Context, versions bool) (*mirror.VerifyReport, error)
	// Repair makes all replicas be of the chosen versions.
	Repair(ctx context.Context, choices []mirror.Choice) ([]mirror.Mended, error)
	// Resync pauses the resyncs of mirrors or has them go on. It returns the names
	// of those that are meant.
	Resync(ctx context.Context, req ResyncRequest) (ResyncResult, error)
	// Promote makes a mirror the primary.
	Promote(ctx context.Context, req PromoteRequest) (PromoteResult, error)
}

// ResyncRequest pauses resyncs or has them go on.
type ResyncRequest struct {
	Mirror string `json:"mirror,omitempty"` // its name or address; none: all
	Pause  bool   `json:"pause"`
}

// ResyncResult says of whom.
type ResyncResult struct {
	Mirrors []string `json:"mirrors"`
}

// PromoteRequest asks a mirror to become the primary.
type PromoteRequest struct {
	Mountpoint string   `json:"mountpoint"`
	Mirrors    []string `json:"mirrors,omitempty"` // HOST:PORT; none: those of the node's configuration
	Force      bool     `json:"force,omitempty"`
	// Take says which state of a replica that is mixed is taken: TakeConsistent,
	// TakeMixed, or, if it is "", the consistent one where one is kept.
	Take string `json:"take,omitempty"`
}

// The states that a mirror in mid-resync may have.
const (
	TakeConsistent = "consistent"
	TakeMixed      = "mixed"
)

// PromoteResult says what a promotion that took place is worth.
type PromoteResult struct {
	// Promised: nothing that was acknowledged as durable is missing here.
	Promised bool `json:"promised"`
	// Text says what is promised, or since when the node cannot know, and what
	// may be lost; one sentence a line.
	Text  []string `json:"text"`
	Epoch op.Epoch `json:"epoch"`
}

// Code names a kind of error across the socket.
type Code string

const (
	CodeRefused    Code = "refused"     // the node could, but must not without --force
	CodeNotPrimary Code = "not_primary" // asked of a mirror, but only a primary can
	CodeStarting   Code = "starting"    // the node has no role yet: try again
	CodeFailed     Code = "failed"      // anything else
)

// Error is a node's answer that it did not do what it was asked.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is compare codes, so that the sentinels below match whatever
// the message.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Code == e.Code
}

// Errorf makes an Error of a kind.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

var (
	// Each matches every Error of its code.
	ErrRefused    = &Error{Code: CodeRefused}
	ErrNotPrimary = &Error{Code: CodeNotPrimary}
	ErrStarting   = &Error{Code: CodeStarting}
	// ErrNotRunning: no node answers at the state directory's socket.
	ErrNotRunning = errors.New("no node is running")
)
