package receive

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// reasonFor begins the reason for which a mirror leaves the in-sync set.
func reasonFor(err error) string {
	if fault := tree.FaultOf(err); fault != "" {
		return fault
	}
	if errors.Is(err, state.ErrDamaged) {
		return "the node's state is damaged"
	}
	return "replica is not what the primary has"
}

// leaving is the failure of this node's disk to take what it has to.
func leaving(err error) *leaveError {
	return &leaveError{reason: reasonFor(err) + ": " + err.Error(), err: err}
}

// unrecorded is the failure of a record that has to be durable before an ack.
func unrecorded(err error) *leaveError {
	return &leaveError{reason: "state not recorded: " + err.Error(), err: err}
}

// applyError is the failure of an op that takes the mirror out of the in-sync
// set.
func applyError(o *op.Op, err error) error {
	reason := err.Error()
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		reason = fmt.Sprintf("%s %q: %s", o.Kind, o.Path, errno)
	}
	return &leaveError{reason: fmt.Sprintf("%s: %s", reasonFor(err), reason), err: err}
}

func isLeave(err error) bool {
	var leave *leaveError
	return errors.As(err, &leave)
}
