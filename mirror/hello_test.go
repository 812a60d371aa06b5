package mirror

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
	"github.com/standbyfs/standbyfs/wire"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// What is renamed while a mirror has yet to say what it may have wrong is looked
// at under its new name: by then it was not known to be pending.
func TestRenameDuringHello(t *testing.T) {
	regions, err := region.Open(nil)
	must(t, err)
	must(t, regions.Level([]op.NodeID{2}, func(func(*bolt.Tx) error) error { return nil }))
	begun, renamed := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var did []string // by the stream; guarded by mu
	r := newRig(t, func(c *Config) { c.Regions, c.CheckpointEvery = regions, 1<<62 }, func(s *scripted) error {
		var h wire.Hello
		var b wire.Begin
		if err := errors.Join(
			s.hear(wire.KindHello, &h),
			s.say(wire.KindAnswer, wire.Answer{Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "b", Knows: true}),
			s.hear(wire.KindBegin, &b)); err != nil {
			return err
		}
		close(begun)
		<-renamed
		if err := errors.Join(
			s.say(wire.KindBegun, wire.Begun{}),
			s.say(wire.KindRegions, wire.Regions{Regions: []wire.Region{{Path: []byte("f")}}})); err != nil {
			return err
		}
		s.heard = func(o *op.Op) {
			mu.Lock()
			defer mu.Unlock()
			did = append(did, o.Kind.String()+" "+o.Path)
		}
		return s.rest()
	})
	<-begun
	_, err = r.Commit(t.Context(), &op.Op{Kind: op.Rename, Path: "f", Path2: "g"}, func() error {
		return unix.Rename(r.cfg.Tree.Dir()+"/f", r.cfg.Tree.Dir()+"/g")
	})
	must(t, err)
	close(renamed)
	r.until("the mirror has joined", func(_ Status, p PeerStatus) bool { return p.InSync })
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(did, "put g") && !slices.Contains(did, "survey .") {
		t.Errorf("nothing looks at g: %q", did)
	}
}

// A mirror whose session ended while it began a resync, or before it had taken
// anything of it, offers to resume what was not: it begins anew.
func TestResyncIsNotResumedBeforeItBegan(t *testing.T) {
	for _, c := range []struct {
		name  string
		begun bool // the first session comes that far
	}{
		{"what it may have wrong was not heard", false},
		{"nothing of it was taken", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := make(chan struct{})
			began := make(chan wire.Begin, 2)
			r := newRig(t, nil, func(s *scripted) error {
				<-start
				var h wire.Hello
				var b wire.Begin
				again := len(began) > 0
				a := wire.Answer{Protocol: wire.Protocol, Volume: "v", Node: 2, Name: "b"}
				if err := s.hear(wire.KindHello, &h); err != nil {
					return err
				}
				if again {
					a.Resume = &op.Position{Line: h.Line}
				}
				if err := errors.Join(s.say(wire.KindAnswer, a), s.hear(wire.KindBegin, &b)); err != nil {
					return err
				}
				began <- b
				switch {
				case again:
					return errors.Join(s.say(wire.KindBegun, wire.Begun{}), s.rest())
				case c.begun:
					return s.say(wire.KindBegun, wire.Begun{})
				}
				return nil
			})
			_, err := r.Commit(t.Context(), &op.Op{Kind: op.SetAttr, Path: op.Root}, func() error { return nil })
			must(t, err)
			close(start)
			r.until("the mirror has joined", func(_ Status, p PeerStatus) bool { return p.InSync })
			for i := range 2 {
				if b := <-began; b.Resume {
					t.Errorf("session %d resumes", i+1)
				}
			}
		})
	}
}
