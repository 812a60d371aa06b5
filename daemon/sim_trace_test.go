// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"golang.org/x/sys/unix"
)

// A trace is what mirror/model prints for a rule that is left out, as far as
// whole nodes can be led there. Its steps, apart by semicolons:
//
//	A starts [as mirror, as primary]        A stops        A is killed
//	A loses power, all survives             A loses power, nothing survives
//	A dies after write       it will, at the next step of that name
//	A writes r0              without waiting for mirrors
//	A counts                 a barrier, which is acknowledged
//	cut A B    heal A B      the link
//	A tries to count         which may be acknowledged or not
//	B takes over             by force: B is promoted, whatever it knows
//	B is asked               without force, and whatever comes of it
//	B is refused             it may not take over without force
//	A is fenced              it has heard of the higher epoch
//	A or B is fenced         either has heard of the other's
//	B joins                  until the primary has it in its set
//	wait                     for expulsions and checkpoints
//	lie                      from here on the disks lie
//
// In the end everything is healed, and all replicas have to be equal.
type trace struct {
	rule  string
	nodes int
	steps string
	// liar breaks the rule, in a second run, by its disks' lie. What then
	// happens must be noticed.
	liar string
	lie  func(*simLies)
	// patient: nobody is expelled for being silent. rare is a node
	// that makes no checkpoints.
	patient bool
	rare    string
	min     int // min_in_sync
}

// TestEveryRule: each rule of the model has its trace, here or elsewhere.
func TestEveryRule(t *testing.T) {
	elsewhere := map[string]string{
		"PutInOrder": "package mirror", "CopyMarks": "package mirror", "MarkedAgain": "package mirror", "MoveMarks": "package mirror",
		"LeaseWait": "no cluster mode yet", "LeaseCheck": "no cluster mode yet", "AskRegister": "no cluster mode yet",
	}
	text, err := os.ReadFile("../mirror/model/RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	has := make(map[string]bool)
	for _, tr := range traces {
		for rule := range strings.SplitSeq(tr.rule, ", ") {
			has[rule] = true
		}
	}
	rules := regexp.MustCompile(`\[([A-Z]\w+)\]`).FindAllSubmatch(text, -1)
	if len(rules) < 38 {
		t.Fatalf("%d rules found: RULES.md has another form now", len(rules))
	}
	for _, rule := range rules {
		if name := string(rule[1]); has[name] == (elsewhere[name] != "") {
			t.Errorf("%s: here %v, elsewhere %q: want one of them", name, has[name], elsewhere[name])
		}
	}
}

func TestTraces(t *testing.T) {
	if byItself(t) {
		return
	}
	for _, tr := range traces {
		t.Run(tr.rule, func(t *testing.T) {
			if s := tr.run(t, false); len(s.failed) > 0 {
				t.Errorf("%s\n%s", strings.Join(s.failed, "\n"), strings.Join(s.log, "\n"))
			}
		})
		if tr.lie == nil {
			continue
		}
		t.Run(tr.rule+" broken", func(t *testing.T) {
			if s := tr.run(t, true); len(s.failed) == 0 {
				t.Errorf("nothing was noticed:\n%s", strings.Join(s.log, "\n"))
			} else {
				t.Log(s.failed[0])
			}
		})
	}
}

func (tr *trace) run(t *testing.T, lie bool) *simulation {
	seed := rand.Uint64()
	return inBubble(t, seed, func(dir string) *simulation {
		s := bareSimulation(dir, seed)
		s.policy = Mirroring{
			Sync: mirror.SyncOp, OnShortage: mirror.ShortageBlock, AckTimeout: 3 * time.Second, RingBytes: 1 << 20, CheckpointEvery: time.Second,
		}
		s.policy.MinInSync = tr.min
		if tr.patient {
			s.policy.AckTimeout = time.Hour
		}
		s.makeNodes(tr.nodes)
		liar := s.node(tr.liar)
		if lie && !strings.Contains(tr.steps, "lie;") {
			liar.lie(tr.lie)
		}
		s.begin()
		s.joined(tr.nodes - 1)
		s.put("r0", "r1", "r2")
		s.doOwn(0)
		time.Sleep(10 * time.Second) // nothing is hot any more
		if n := s.node(tr.rare); n != nil {
			n.stop()
			n.checkpoints = 24 * time.Hour
			if err := n.start(Mirror); err != nil {
				s.fail("%v", err)
			}
			s.joined(tr.nodes - 1)
		}
		for step := range strings.SplitSeq(tr.steps, "; ") {
			if step == "lie" {
				if lie {
					liar.lie(tr.lie)
				}
				continue
			}
			s.say("%s", step)
			s.play(step)
			if len(s.failed) > 0 {
				break
			}
		}
		if len(s.failed) == 0 {
			s.mend()
			s.compare()
		}
		s.end()
		return s
	})
}

func (s *simulation) node(name string) *simNode {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// play does one step.
func (s *simulation) play(step string) {
	who, what, _ := strings.Cut(step, " ")
	n := s.node(who)
	switch {
	case who == "cut" || who == "heal":
		s.network.sever(s.node(what[:1]).addr, s.node(what[2:]).addr, who == "cut")
	case who == "wait":
		time.Sleep(10 * time.Second)
	case what == "starts":
		s.bury()
		if n.alive.Load() == nil {
			s.restart(n)
			time.Sleep(time.Second)
		}
	case strings.HasPrefix(what, "starts as "):
		s.bury()
		if err := n.start(Role(strings.TrimPrefix(what, "starts as "))); err != nil {
			s.fail("%v", err)
		}
		time.Sleep(time.Second)
	case what == "stops":
		n.stop()
	case what == "is killed":
		n.kill(false, true)
	case strings.HasPrefix(what, "loses power, "):
		n.survives, _, _ = strings.Cut(strings.TrimPrefix(what, "loses power, "), " ")
		n.kill(true, true)
	case strings.HasPrefix(what, "dies "):
		trap := strings.TrimPrefix(what, "dies ")
		n.survives = "all"
		n.alive.Load().loud = true
		n.alive.Load().trap.Store(&trap)
	case strings.HasPrefix(what, "writes "):
		s.write(n, strings.TrimPrefix(what, "writes "))
		time.Sleep(100 * time.Millisecond)
		s.bury()
	case what == "counts":
		s.doOwn(s.index(n))
	case what == "tries to count":
		bounded, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		s.count(bounded, n.alive.Load(), s.index(n))
	case what == "is asked":
		s.bury()
		s.promote(n, false)
	case what == "takes over":
		s.bury()
		s.promote(n, true)
	case what == "is refused":
		p := n.alive.Load()
		s.promote(n, false)
		if p.reigns() {
			s.fail("%s was promoted", n.name)
		}
	case what == "is fenced":
		time.Sleep(10 * time.Second)
		if n.unfenced() {
			s.fail("%s has not heard of the higher epoch", n.name)
		}
	case strings.HasPrefix(what, "or ") && strings.HasSuffix(what, " is fenced"):
		time.Sleep(10 * time.Second)
		if other := s.node(what[3:4]); n.unfenced() && other.unfenced() {
			s.fail("%s and %s both reign", n.name, other.name)
		}
	case what == "joins":
		for range 300 {
			if in := n.alive.Load().n.store.Get().InSync; in {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		s.fail("%s has not joined", n.name)
	case strings.HasPrefix(what, "holds "):
		if _, err := n.alive.Load().reign.log.Pause(s.node(strings.TrimPrefix(what, "holds ")).addr, true); err != nil {
			s.fail("%v", err)
		}
	default:
		s.fail("no such step: %q", step)
	}
}

// unfenced reports whether a node reigns and has not heard of a higher epoch.
func (m *simNode) unfenced() bool {
	p := m.alive.Load()
	return p != nil && p.reigns() && p.reign.log.Status().Fenced == nil
}

func (s *simulation) index(n *simNode) int {
	for i, other := range s.nodes {
		if other == n {
			return i
		}
	}
	return -1
}

// joined waits until so many mirrors are in sync.
func (s *simulation) joined(n int) {
	for s.chiefProcess() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), simCalm)
	defer cancel()
	if err := s.chiefProcess().reign.waitInSync(ctx, n); err != nil {
		s.fail("%v", err)
	}
}

// chiefProcess is the process of the node that reigns; nil: none does.
func (s *simulation) chiefProcess() *simProcess {
	s.mu.Lock()
	none := len(s.reigns) == 0
	s.mu.Unlock()
	if none {
		return nil
	}
	if p := s.chief().alive.Load(); p != nil && p.serves() {
		return p
	}
	return nil
}

// put makes files of several regions.
func (s *simulation) put(names ...string) {
	for _, name := range names {
		s.order(s.nodes[0], &op.Op{
			Kind: op.Create, Path: name, Dir: op.Time{Sec: 1},
			Attr: op.Attr{Valid: op.AttrMode | op.AttrOwner | op.AttrMtime, Mode: unix.S_IFREG | 0o600, Mtime: op.Time{Sec: 1}},
		})
		s.write(s.nodes[0], name)
	}
}

// write writes something new to a file, whose time stays as it is, so that nothing
// but its content tells.
func (s *simulation) write(n *simNode, name string) {
	s.order(n, &op.Op{
		Kind: op.Write, Path: name, Off: 3 * op.RegionSize, Data: fmt.Append(nil, "content ", s.clock.Add(1)),
		Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1}},
	})
}

// order has a node that reigns order an op. What it dies of is the trace's.
func (s *simulation) order(n *simNode, o *op.Op) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, _ = n.alive.Load().do(ctx, func() *op.Op { return o })
}

// doOwn counts at the node and has it acknowledged.
func (s *simulation) doOwn(k int) {
	s.mu.Lock()
	before := s.barriers
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.count(ctx, s.nodes[k].alive.Load(), k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barriers == before {
		s.failLocked("%s does not acknowledge a barrier", s.nodes[k].name)
	}
}
