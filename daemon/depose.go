package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/daemon/receive"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// A primary learns of a higher epoch in one of four ways: a mirror refuses its
// hello (mirror.Config.Fenced), a node that takes over tells it (fence), another
// primary says hello (serveOps), or its operator starts it as a mirror
// (node.demote). All but the last end here.

func (r *reign) fence(_ context.Context, req fenceRequest) error {
	return r.depose(req.Epoch, req.Name)
}

// depose ends the reign's right to acknowledge, and then records it.
func (r *reign) depose(epoch op.Epoch, by string) error {
	if highest := r.node.store.Get().Epoch; epoch.Compare(highest) <= 0 {
		return &wire.Refusal{Code: wire.CodeHigherEpoch, Epoch: highest,
			Message: fmt.Sprintf("%s has seen epoch %s: %s of %s is not higher", r.node.cfg.Name, highest, epoch, by)}
	}
	if r.log != nil {
		r.log.Fence(epoch, by)
	} else {
		r.alone.Fence(epoch, by)
	}
	return r.stepDown(epoch, by)
}

// stepDown records, in one transaction, that this node is a mirror of a higher
// epoch, behind, with content that may be the only copy (RULES.md 15). Hot set
// and stale maps stay. A second call for the same epoch does nothing.
func (r *reign) stepDown(epoch op.Epoch, by string) error {
	r.stepping.Lock()
	defer r.stepping.Unlock()
	if epoch.Compare(r.node.store.Get().Epoch) <= 0 {
		return nil
	}
	if err := r.node.store.Update(func(s *state.State) error {
		s.See(epoch, 0, time.Now().UTC())
		s.Role, s.InSync, s.Set, s.ArchiveUntilJoined = Mirror, false, nil, true
		s.Reason = fmt.Sprintf("deposed by %s with epoch %s", by, epoch)
		s.Level(time.Now())
		return nil
	}); err != nil {
		return err
	}
	r.node.event("deposed", fmt.Sprintf("%s took over with epoch %s: this node was the primary with epoch %s; its mount is read-only", by, epoch, r.line.Epoch))
	return nil
}

// serveOps refuses a primary's session, as a primary does. One of a higher
// epoch has news first.
func (r *reign) serveOps(ctx context.Context, session *wire.Session) error {
	return receive.Refuse(ctx, session, 3*r.node.cfg.Mirror.Heartbeat, func(h *wire.Hello) (*wire.Answer, error) {
		s := r.node.store.Get()
		if h.Volume == s.Volume && h.Line.Epoch.Compare(s.Epoch) > 0 {
			if err := r.depose(h.Line.Epoch, h.Name); err != nil {
				return nil, err
			}
			s = r.node.store.Get()
		}
		return &wire.Answer{Protocol: wire.Protocol, Volume: s.Volume, Node: s.Node, Name: s.Name, Epoch: s.Epoch, Refusal: r.refusal(s, h)}, nil
	})
}

func (r *reign) refusal(s state.State, h *wire.Hello) *wire.Refusal {
	switch {
	case h.Volume != s.Volume:
		return &wire.Refusal{Code: wire.CodeForeignVolume,
			Message: fmt.Sprintf("%s is the primary of volume %s, and %s serves volume %s", s.Name, s.Volume, h.Name, h.Volume)}
	case h.Line.Epoch.Compare(s.Epoch) < 0:
		return &wire.Refusal{Code: wire.CodeHigherEpoch, Epoch: s.Epoch,
			Message: fmt.Sprintf("%s is deposed: %s has seen epoch %s: start %s again as a mirror", h.Name, s.Name, s.Epoch, h.Name)}
	case s.Role == Mirror:
		return &wire.Refusal{Code: wire.CodeNotAMirror,
			Message: fmt.Sprintf("%s was the primary and still has its mount: stop it and start it again with `standbyfs mirror`", s.Name)}
	}
	return &wire.Refusal{Code: wire.CodeNotAMirror,
		Message: fmt.Sprintf("%s is the primary, with epoch %s: it mirrors nobody", s.Name, s.Epoch)}
}
