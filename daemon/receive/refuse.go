package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/wire"
)

// refuse says why a hello is not accepted, or nil. It changes nothing: a
// refused peer leaves no trace (RULES.md 7). The caller holds mu.
func (r *Receiver) refuse(h *wire.Hello) *wire.Refusal {
	st := r.cfg.Store.Get()
	epoch := h.Line.Epoch
	refusal := func(code wire.Code, format string, args ...any) *wire.Refusal {
		return &wire.Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case h.Protocol < wire.MinProtocol || h.MinProtocol > wire.Protocol:
		return refusal(wire.CodeProtocol, "%s speaks protocols %d to %d (%s), mirror %s speaks %d to %d (%s): install the same version on both",
			h.Name, h.MinProtocol, h.Protocol, h.Software, r.name(), wire.MinProtocol, wire.Protocol, r.cfg.Software)
	case st.Volume != "" && st.Volume != h.Volume:
		return refusal(wire.CodeForeignVolume, "mirror %s keeps volume %s and %s serves volume %s: connect the primary that this mirror belongs to, or give the mirror an empty replica and a new state directory (now %s) to mirror the other volume; if %s lost its state and holds the same data, stop this mirror and run `standbyfs state reset --force %s`",
			r.name(), st.Volume, h.Name, h.Volume, r.cfg.Store.Dir(), h.Name, r.cfg.Tree.Dir())
	case h.Volume == "" || h.Next == 0 || h.Node != epoch.Owner || epoch.Number == 0:
		return refusal(wire.CodeProtocol, "the hello of %s makes no sense: volume %q, node %s, line %s, next LSN %d", h.Name, h.Volume, h.Node, h.Line, h.Next)
	case h.Node == st.Node:
		return refusal(wire.CodeNotAMirror, "%s has the same node ID as this mirror, %s: its state directory was copied; stop this node and run `standbyfs state reset --force %s`: it starts afresh, and its replica is compared in full", h.Name, st.Node, r.cfg.Tree.Dir())
	case epoch.Compare(st.Epoch) < 0:
		return higherEpoch(&st, h.Name)
	case epoch.Compare(r.floor) < 0:
		return refusal(wire.CodeBusy, "mirror %s is just being asked for a promotion: try again", r.name())
	case r.closed != nil:
		return r.closed
	case st.Role == state.Primary:
		return refusal(wire.CodeNotAMirror, "%s is itself the primary, with epoch %s: stop it and start it as a mirror first", r.name(), st.Epoch)
	}
	if s := r.current; s != nil {
		now := s.hello.Line
		switch {
		case now.Epoch.Owner != epoch.Owner && epoch.Compare(now.Epoch) <= 0:
			return refusal(wire.CodeSecondPrimary, "mirror %s has a session with primary %s (epoch %s): stop that one first; %s comes second with epoch %s",
				r.name(), s.hello.Name, now.Epoch, h.Name, epoch)
		case now.Epoch == epoch && now != h.Line && s.heard.alive(3*r.cfg.Heartbeat):
			// A second process of the same node: its state directory was copied.
			// One that was killed leaves a session that falls silent.
			return refusal(wire.CodeSecondPrimary, "mirror %s has a session with another process of primary %s (line %s, this one is %s): if it still runs, stop it, and never start one state directory twice; if it was killed just now, this is tried again",
				r.name(), s.hello.Name, now, h.Line)
		}
	}
	switch name, err := Unexpected(&st, r.cfg.Tree.Dir()); {
	case err != nil:
		return refusal(wire.CodeBusy, "mirror %s cannot read its replica: %v", r.name(), err)
	case name != "":
		return refusal(wire.CodeNotEmpty, "replica %s of mirror %s is not empty on first use (it holds %q) and a resync would remove what is there: empty it, or give the mirror another directory, or, if this is a copy whose state is lost, stop the mirror, run `standbyfs state reset %s`, and it is compared in full",
			r.cfg.Tree.Dir(), r.name(), name, r.cfg.Tree.Dir())
	}
	return nil
}

// higherEpoch is the refusal of a lower epoch, by whose answer a deposed
// primary learns that it is one (RULES.md 7, RefuseLower).
func higherEpoch(st *state.State, who string) *wire.Refusal {
	return &wire.Refusal{
		Code: wire.CodeHigherEpoch, Epoch: st.Epoch,
		Message: fmt.Sprintf("%s is deposed: %s has seen epoch %s: start %s again as a mirror", who, st.Name, st.Epoch, who),
	}
}

// Unexpected returns a name in a replica that should be empty, since the node has
// not been a mirror before: a resync would remove what is there. It is "" where
// all is as it should be.
func Unexpected(st *state.State, replica string) (string, error) {
	if st.Volume != "" || st.Adopts {
		return "", nil
	}
	d, err := os.Open(replica)
	if err != nil {
		return "", err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if errors.Is(err, io.EOF) || len(names) == 0 && err == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// Refuse hears the hello of a primary in the name of a node that is no mirror,
// and gives it the answer, which refuses it.
func Refuse(ctx context.Context, ws *wire.Session, patience time.Duration, answer func(*wire.Hello) (*wire.Answer, error)) error {
	defer ws.Close()
	stop := context.AfterFunc(ctx, func() { ws.Close() })
	defer stop()
	c := &control{conn: ws.Control(), reader: wire.NewReader(ws.Control()), timeout: patience}
	if err := c.conn.SetReadDeadline(time.Now().Add(greetTimeout)); err != nil {
		return fmt.Errorf("hear %s: %w", ws.PeerName(), err)
	}
	var h wire.Hello
	if err := c.expect(wire.KindHello, &h); err != nil {
		return fmt.Errorf("hello of %s: %w", ws.PeerName(), err)
	}
	a, err := answer(&h)
	if err != nil {
		return err
	}
	if err := c.send(wire.KindAnswer, a); err != nil {
		return fmt.Errorf("refuse %s: %w", h.Name, err)
	}
	return &refusedError{Hello: h, Refusal: a.Refusal}
}
