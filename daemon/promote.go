package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/divergence"
	"github.com/standbyfs/standbyfs/daemon/receive"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// A promotion in a static set-up, in the order that RULES.md 12 and 14 demand:
//
//  1. ask     every node that can be reached for what it knows
//  2. rule    whether to take over, and whether to promise (decide.go)
//  3. fence   all who were reached: they record the new epoch
//  4. rule    again, with those who really did
//  5. detach  the own session ends; what was received is applied
//  6. take    a consistent state for a mixed replica, if one is kept
//  7. record  epoch, role and the empty set in one transaction
//  8. reign   mount, and only then say hello as the primary
//
// Up to 5 it can be given up, and the node goes on as a mirror. The nodes that
// were fenced then follow nobody but a higher epoch, so the next attempt takes
// one. After 7 there is no way back.

// askTimeout bounds the calls to one node. A promotion happens when machines
// are gone: most of these calls are never answered.
const askTimeout = 3 * time.Second

// promotion is a request on its way from the admin server to the role.
type promotion struct {
	ctx    context.Context // the request's: who asked may go away
	req    admin.PromoteRequest
	answer chan<- outcome // takes one, and never blocks
}

type outcome struct {
	result admin.PromoteResult
	err    error
}

// Promote implements admin.Node: it hands the request to the role and waits.
func (n *node) Promote(ctx context.Context, req admin.PromoteRequest) (admin.PromoteResult, error) {
	answer := make(chan outcome, 1)
	select {
	case n.promotions <- promotion{ctx, req, answer}:
	case <-ctx.Done():
		return admin.PromoteResult{}, fmt.Errorf("the node stops or another promotion runs: %w", context.Cause(ctx))
	}
	select {
	case o := <-answer:
		return o.result, o.err
	case <-ctx.Done():
		// The role sees it too. If it was too late to give up, status shows it.
		return admin.PromoteResult{}, fmt.Errorf("promotion interrupted, see `standbyfs status`: %w", context.Cause(ctx))
	}
}

// promote does the steps 1 to 7 and returns the term to reign in. A promotion
// that was refused or given up answers p and returns nil. Its error ends the
// node: the replica is neither here nor there until the next start.
func (s *standby) promote(node context.Context, p promotion) (*term, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(node, cancel)()
	t, result, err := s.takeOver(ctx, node, p.req)
	if err != nil {
		s.node.event("promotion", "not promoted: "+strings.TrimPrefix(err.Error(), "not promoted: "))
		p.answer <- outcome{err: err}
		if s.node.store.Get().Exchange != nil {
			return nil, err
		}
		return nil, nil
	}
	t.begun = func(err error) {
		if err != nil {
			err = fmt.Errorf("epoch %s is taken and recorded, but the volume is not mounted: %w; once that is mended, `standbyfs mount %s %s` starts it",
				t.line.Epoch, err, s.node.cfg.Replica, t.mountpoint)
		}
		p.answer <- outcome{result, err}
	}
	return t, nil
}

// takeOver works in ctx, the request's, as long as it can be given up.
func (s *standby) takeOver(ctx, node context.Context, req admin.PromoteRequest) (*term, admin.PromoteResult, error) {
	var result admin.PromoteResult
	n := s.node
	mountpoint, peers, err := n.checkPromotion(req)
	if err != nil {
		return nil, result, err
	}
	if !req.Force {
		s.awaitSilence(ctx)
	}
	view := s.outlook(n.askAll(ctx, n.whom(peers)))
	view.Take = req.Take
	first := rule(view)
	if len(first.Refuse) > 0 && !req.Force {
		return nil, result, refused(first)
	}
	view.Taken, view.Others = first.Epoch, n.fenceAll(ctx, first, view, req.Force)
	final := rule(view)
	if len(first.Refuse) > 0 {
		final = first // forced: what was known before it is what matters
	}
	if len(final.Refuse) > 0 && !req.Force {
		return nil, result, refused(final)
	}
	if err := ctx.Err(); err != nil {
		return nil, result, fmt.Errorf("given up in time, nothing is changed here: %w", context.Cause(ctx))
	}
	// From here on whoever asked may go away: a session that has begun to end
	// is waited for, so that two never apply to one replica.
	if err := s.Detach(node); err != nil {
		return nil, result, fmt.Errorf("end the session with the primary: %w", err)
	}
	s.detached = true
	taken, err := n.take(view)
	if err != nil {
		return nil, result, err
	}
	if _, err := n.moveBorder(); err != nil {
		return nil, result, err
	}
	t := &term{mountpoint: mountpoint, peers: peers}
	if err := n.record(t, view.Self, first.Epoch, req.Force); err != nil {
		return nil, result, err
	}
	// Nothing is kept for this replica any more: it is what counts now.
	closed := divergence.Closed{When: time.Now().UTC(), How: fmt.Sprintf("this node was promoted with epoch %s", final.Epoch)}
	if err := divergence.CloseAll(n.store.Dir(), op.Epoch{}, closed); err != nil {
		n.log.Warn("the divergence is not noted as closed", "error", err)
	}
	n.keeper.Sweep()
	result = admin.PromoteResult{Promised: final.Promised, Text: append(final.Text, taken...), Epoch: final.Epoch}
	if t.weaker != "" {
		result.Text = append(result.Text, t.weaker)
	}
	for _, text := range result.Text {
		n.event("promotion", text)
	}
	return t, result, nil
}

// take makes the replica of a node whose session has ended what the promotion was
// decided on, and says what it has put aside.
func (n *node) take(v outlook) ([]string, error) {
	n.keeper.Halt()
	now := n.store.Get()
	switch {
	case now.Mixed != v.Self.Mixed || (now.Kept == nil) != (v.Self.Kept == nil):
		return nil, errChanged
	case v.older():
		aside, err := n.keeper.Exchange(v.Now)
		return []string{"the mixed replica is put aside: remove " + aside + " when you need nothing of it"}, err
	case now.Mixed && now.Kept != nil:
		aside, err := n.keeper.Leave(v.Now)
		return []string{"the consistent state of " + v.ago(now.Kept.AsOf) + " is put aside: remove " + aside + " when you need nothing of it"}, err
	}
	return nil, nil
}

func refused(r ruling) error {
	var text string
	for i, why := range r.Refuse {
		if i > 0 {
			text += "; "
		}
		text += why
	}
	return admin.Errorf(admin.CodeRefused, "not promoted: %s (--force takes over all the same, and says what may be lost)", text)
}

// checkPromotion refuses what could only fail after the epoch is taken.
func (n *node) checkPromotion(req admin.PromoteRequest) (mountpoint string, peers []mirror.PeerConfig, err error) {
	s := n.store.Get()
	if req.Take == admin.TakeConsistent && s.Mixed && s.Kept == nil {
		return "", nil, admin.Errorf(admin.CodeFailed, "there is no consistent state to take%s (--take mixed takes what there is)", because(s.NotKept))
	}
	if s.Volume == "" {
		return "", nil, admin.Errorf(admin.CodeFailed, "%s is new: it has never been a mirror of anything; start a volume with `standbyfs mount`", n.cfg.Replica)
	}
	if mountpoint = req.Mountpoint; mountpoint == "" {
		if mountpoint = n.cfg.Mountpoint; mountpoint == "" {
			return "", nil, admin.Errorf(admin.CodeFailed, "a primary needs a mount point: --mount MOUNTPOINT")
		}
	}
	if mountpoint, err = n.cfg.checkMountpoint(mountpoint); err != nil {
		return "", nil, err
	}
	if err := fs.CleanStale(mountpoint); err != nil {
		return "", nil, fmt.Errorf("mount point: %w", err)
	}
	peers = n.cfg.Mirror.Peers
	if len(req.Mirrors) > 0 {
		peers = nil
		for _, addr := range req.Mirrors {
			peers = append(peers, mirror.PeerConfig{Addr: addr})
		}
	}
	if err := n.cfg.checkAddrs(peers); err != nil {
		return "", nil, err
	}
	return mountpoint, peers, n.cfg.Mirror.check(Primary, peers)
}

// awaitSilence gives a session whose primary was killed just now the time to
// notice it: a live one is refused only after that.
func (s *standby) awaitSilence(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 4*s.node.cfg.Mirror.Heartbeat)
	defer cancel()
	// Whether it fell silent is looked at afterwards.
	_ = s.until(ctx, func(m receive.Status) bool { return !m.Connected })
}

// outlook gathers what this node knows itself.
func (s *standby) outlook(others []other) outlook {
	m := s.Status()
	v := outlook{Self: s.node.store.Get(), Heard: m.LastHeard, Now: time.Now(), Others: others}
	v.Self.InSync, v.Self.Reason = m.InSync, m.Reason
	if m.Connected {
		v.Live = m.Primary
	}
	return v
}

// whom returns the addresses to ask, each once: those of the mirrors that the
// primary had, then the mirrors to come. A node may have an address in either,
// and its first answer counts. Of a mirror that the primary had not met when
// this one last heard its policy, only the primary's own address tells which it
// is (counts), so the primary's come first.
func (n *node) whom(peers []mirror.PeerConfig) []string {
	var addrs []string
	seen := make(map[string]bool)
	add := func(addr string) {
		if addr != "" && !seen[addr] && n.cfg.checkAddr("ask", addr) == nil {
			seen[addr] = true
			addrs = append(addrs, addr)
		}
	}
	s := n.store.Get()
	for _, m := range s.Policy.Members {
		if m.Node != s.Node {
			add(m.Addr)
		}
	}
	for _, p := range peers {
		add(p.Addr)
	}
	return addrs
}

// askAll asks all of them at once.
func (n *node) askAll(ctx context.Context, addrs []string) []other {
	others := make([]other, len(addrs))
	var calls sync.WaitGroup
	for i, addr := range addrs {
		calls.Go(func() {
			others[i].Addr = addr
			others[i].Err = n.call(ctx, addr, methodAsk, struct{}{}, &others[i].AskAnswer)
		})
	}
	calls.Wait()
	return others
}

// fenceAll has the nodes of r.Fence record r.Epoch and returns all that were
// asked, with what the fenced ones knew when they had recorded it. One that did
// not counts as not reached.
func (n *node) fenceAll(ctx context.Context, r ruling, v outlook, force bool) []other {
	req := fenceRequest{
		FenceRequest: wire.FenceRequest{Volume: v.Self.Volume, Epoch: r.Epoch, Name: v.Self.Name},
		Force:        force,
	}
	fenced := make([]other, len(r.Fence))
	var calls sync.WaitGroup
	for i, o := range r.Fence {
		calls.Go(func() {
			fenced[i].Addr = o.Addr
			fenced[i].Err = n.call(ctx, o.Addr, methodFence, req, &fenced[i].AskAnswer)
		})
	}
	calls.Wait()
	others := fenced
	for _, o := range v.Others {
		if !has(r.Fence, o) {
			others = append(others, o)
		}
	}
	return others
}

// has reports whether o, at that address or as that node at another one, is
// among others. A node that did not record the epoch must not count as reached
// by its other address.
func has(others []other, o other) bool {
	return slices.ContainsFunc(others, func(one other) bool {
		return one.Addr == o.Addr || o.Err == nil && one.Node == o.Node
	})
}

// call makes one call on a session of its own.
func (n *node) call(ctx context.Context, addr, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := n.dial(ctx, addr, wire.LaneBulk)
	if err != nil {
		return err
	}
	defer s.Close()
	return wire.Call(ctx, s, method, in, out)
}

// errChanged: the node's standing is no longer what the promotion was decided on.
var errChanged = errors.New("what this mirror knows changed during the promotion: try again")

// record takes the epoch: epoch, role and the empty set in one transaction,
// before the first op and before any hello as primary (RULES.md 12,
// PromotePersist). The session has ended by now; if its last entries changed
// what was ruled on, only force goes on.
func (n *node) record(t *term, ruled state.State, epoch op.Epoch, force bool) error {
	return n.store.Update(func(s *state.State) error {
		if epoch.Compare(s.Epoch) <= 0 || !force && (s.Epoch != ruled.Epoch || s.InSync != ruled.InSync) {
			return errChanged
		}
		s.See(epoch, 1, time.Now().UTC())
		s.Role, s.InSync, s.Reason, s.Set, s.ArchiveUntilJoined = Primary, false, "", nil, false
		s.LastVerify, s.Paused, s.Stopped = nil, nil, nil // they were of another reign
		s.Mixed, s.Kept, s.NotKept = false, nil, ""
		t.enter(s, n)
		return nil
	})
}
