package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/mirror"
)

// shownEvents is how many events a status carries.
const shownEvents = 10

// Status implements admin.Node.
func (n *node) Status() admin.Status {
	s := describe(n.store.Get())
	s.Running, s.PID, s.Started = true, os.Getpid(), n.started
	s.Replica, s.StateDir, s.Mountpoint = n.cfg.Replica, n.cfg.StateDir, n.cfg.Mountpoint
	s.Version = n.cfg.Version
	s.Hot, s.Stale = n.store.Regions().Count()
	if n.peers != nil {
		s.Listen = n.peers.Addr().String()
	}
	if r, err := n.playing(); err == nil {
		r.fill(&s)
	}
	if err := n.store.Trouble(); err != nil {
		s.Trouble = append(s.Trouble, fmt.Sprintf("what the node decides cannot be recorded: %v", err))
	}
	events, err := n.Events(shownEvents)
	if err != nil {
		n.log.Warn("events cannot be read", "error", err)
	}
	s.Events = events
	if s.Divergences, err = divergences(n.store.Dir()); err != nil {
		n.log.Warn("divergences cannot be read", "error", err)
	}
	return s
}

// divergences says what is kept in a state directory; nil is nothing.
func divergences(stateDir string) (*admin.Divergences, error) {
	count, bytes, err := divergence.Kept(stateDir)
	if err != nil || count == 0 {
		return nil, err
	}
	return &admin.Divergences{Count: count, Bytes: bytes}, nil
}

// Events implements admin.Node.
func (n *node) Events(count int) ([]admin.Event, error) {
	events, err := n.store.Events(count)
	return show(events), err
}

// WaitInSync implements admin.Node.
func (n *node) WaitInSync(ctx context.Context, count int) error {
	r, err := n.playing()
	if err != nil {
		return err
	}
	return r.waitInSync(ctx, count)
}

// Verify implements admin.Node.
func (n *node) Verify(ctx context.Context, versions bool) (*mirror.VerifyReport, error) {
	r, err := n.playing()
	if err != nil {
		return nil, err
	}
	return r.verify(ctx, versions)
}

// Repair implements admin.Node.
func (n *node) Repair(ctx context.Context, choices []mirror.Choice) ([]mirror.Mended, error) {
	r, err := n.playing()
	if err != nil {
		return nil, err
	}
	return r.mend(ctx, choices)
}

// Resync implements admin.Node.
func (n *node) Resync(_ context.Context, req admin.ResyncRequest) (admin.ResyncResult, error) {
	r, err := n.playing()
	if err != nil {
		return admin.ResyncResult{}, err
	}
	return r.resync(req)
}

// FromState returns the status of a node that does not run, from what it
// durably knows. Where there is no state the status says that.
func FromState(stateDir string) (admin.Status, error) {
	st, events, err := state.Read(stateDir, shownEvents)
	s := describe(st)
	s.StateDir, s.Events = stateDir, show(events)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		s.Divergences, err = divergences(stateDir)
	}
	s.Judge()
	return s, err
}

// describe says what is known of a node whether it runs or not.
func describe(s state.State) admin.Status {
	var kept time.Time
	if s.Kept != nil {
		kept = s.Kept.AsOf
	}
	if s.Overtaken() {
		s.InSync, s.Reason = false, fmt.Sprintf("node %s took over with epoch %s, and has not brought this mirror level since", s.Epoch.Owner, s.Epoch)
	}
	return admin.Status{
		Mixed: s.Mixed, AsOf: s.AsOf, Kept: kept,
		Time: time.Now(), Node: s.Node, Name: s.Name, Volume: s.Volume, Role: string(s.Role), Epoch: s.Epoch,
		InSync: s.InSync, Why: s.Reason, Set: s.Set, Deposed: s.Deposed(), PrimaryHeard: s.PrimaryHeard,
		LastVerify: s.LastVerify,
	}
}

func show(events []state.Event) []admin.Event {
	shown := make([]admin.Event, len(events))
	for i, e := range events {
		shown[i] = admin.Event(e)
	}
	return shown
}
