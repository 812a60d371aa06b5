package receive

import (
	"context"
	"testing"

	"github.com/standbyfs/standbyfs/wire"
)

func TestStopRecordsBeforeItSays(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.send(create("f"))
	p.join(g)
	stopped := make(chan error, 1)
	go func() { stopped <- g.recv.Stop(context.Background(), "stopped by the operator") }()
	var bye wire.Goodbye
	p.hear(wire.KindGoodbye, &bye)
	st, _, err := readCopy(t, g.state)
	if err != nil || st.InSync || st.Reason != "stopped by the operator" {
		t.Errorf("at the goodbye %+v is recorded (%v)", st, err)
	}
	if !bye.NotInSync || bye.Reason != "stopped by the operator" {
		t.Errorf("goodbye %+v", bye)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	g.wantDegraded("stopped by the operator")
}

func TestStopWithoutSession(t *testing.T) {
	g := newRig(t)
	p := g.start(hello(), false)
	p.join(g)
	p.lose()
	if err := g.recv.Stop(t.Context(), "stopped"); err != nil {
		t.Fatal(err)
	}
	if st := g.store.Get(); st.InSync || st.Reason != "stopped" {
		t.Errorf("state %+v", st)
	}
}
