package admin

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)

// aPrimary is healthy, with one mirror of each mode.
func aPrimary() Status {
	return Status{
		Time: now, Replica: "/srv/zodb", StateDir: "/srv/zodb.standbyfs", Mountpoint: "/mnt/zodb", Running: true, Mounted: true,
		Node: 0xa, Name: "alpha", Volume: "v", Role: RolePrimary, Epoch: op.Epoch{Number: 3, Owner: 0xa}, Set: []op.NodeID{0xb},
		Mirroring: &mirror.Status{LSN: 18274, Commit: 18270, Set: []op.NodeID{0xb}, MinInSync: 1, Peers: []mirror.PeerStatus{
			{Node: 0xb, Name: "beta", Addr: "10.0.0.2:7070", Connected: true, InSync: true, State: mirror.StateInSync, Applied: 18274, LastHeard: now.Add(-200 * time.Millisecond)},
			{Node: 0xc, Name: "gamma", Addr: "10.0.0.3:7070", Async: true, Connected: true, State: mirror.StateAsync, Applied: 17000, LagBytes: 12 << 20, LastHeard: now.Add(-time.Second)},
		}},
	}
}

// aVerify was two days ago and has found both mirrors equal.
func aVerify() *state.LastVerify {
	return &state.LastVerify{Ended: now.Add(-50 * time.Hour), Files: 1234, Bytes: 3 << 30, Peers: []state.VerifiedPeer{{Name: "beta"}, {Name: "gamma"}}}
}

// aMirror is healthy.
func aMirror() Status {
	return Status{
		Time: now, Replica: "/srv/zodb", StateDir: "/srv/zodb.standbyfs", Listen: "10.0.0.2:7070", Running: true,
		Node: 0xb, Name: "beta", Volume: "v", Role: RoleMirror, Epoch: op.Epoch{Number: 3, Owner: 0xa}, InSync: true, Set: []op.NodeID{0xb},
		PrimaryHeard: now.Add(-300 * time.Millisecond),
		Receiving:    &Receiving{Connected: true, Primary: 0xa, PrimaryName: "alpha", Applied: 18274, Heartbeat: time.Second, MinInSync: 1},
	}
}

var statuses = []struct {
	name    string
	make    func() Status
	change  func(*Status)
	verdict Verdict
	says    string // in the last line
}{
	{"primary", aPrimary, func(*Status) {}, Healthy, ""},
	{"primary-alone", aPrimary, func(s *Status) { s.Mirroring = nil }, Healthy, "no mirrors"},
	{"primary-resync", aPrimary, func(s *Status) {
		p := &s.Mirroring.Peers[0]
		p.InSync, p.State, p.Reason = false, mirror.StateResync, "first contact"
		p.Resync = &mirror.Progress{Gauge: mirror.Gauge{Done: 1 << 30, Total: 3 << 30, Rate: 80 << 20, Left: 27 * time.Second}, Sent: 1 << 29, Paths: 512}
	}, Degraded, "mirror beta is not in sync: it is being brought level (before that: first contact)"},
	{"primary-paused", aPrimary, func(s *Status) {
		p := &s.Mirroring.Peers[0]
		p.InSync, p.State, p.Paused = false, mirror.StateResync, true
		p.Resync = &mirror.Progress{Gauge: mirror.Gauge{Done: 1 << 30, Total: 3 << 30, Rate: 80 << 20}}
		s.Mirroring.Peers[1].Paused = true
	}, Degraded, "it has to be brought level; resyncs of beta, gamma are paused by the operator"},
	{"primary-counting", aPrimary, func(s *Status) {
		p := &s.Mirroring.Peers[0]
		p.InSync, p.State, p.Resync = false, mirror.StateResync, &mirror.Progress{Paths: 7}
	}, Degraded, "mirror beta is not in sync: it is being brought level"},
	{"primary-never-met", aPrimary, func(s *Status) {
		s.Mirroring.Peers[0] = mirror.PeerStatus{Addr: "10.0.0.2:7070", State: mirror.StateConnecting, Reason: "connection refused"}
	}, Degraded, "mirror 10.0.0.2:7070 is not in sync: connection refused"},
	{"primary-interrupted", aPrimary, func(s *Status) { s.Mirroring.Peers[0].Connected = false }, Degraded, "mirror beta is in sync but not connected"},
	{"primary-async-gone", aPrimary, func(s *Status) { s.Mirroring.Peers[1].Connected = false }, Degraded, "asynchronous mirror gamma is not connected"},
	{"primary-shortage", aPrimary, func(s *Status) {
		s.Mirroring.Shortage, s.Mirroring.Set = true, nil
		s.Mirroring.Peers[0].InSync, s.Mirroring.Peers[0].Connected = false, false
	}, Degraded, "shortage: 0 mirrors in sync, min_in_sync is 1"},
	{"primary-verified", aPrimary, func(s *Status) {
		s.LastVerify = aVerify()
	}, Healthy, ""},
	{"primary-different", aPrimary, func(s *Status) {
		s.LastVerify = aVerify()
		s.LastVerify.Peers[0].Differences, s.LastVerify.Peers[0].First = 3, `"dir/file": content differs in bytes 65536-131071`
		s.LastVerify.Peers[1].Reason = "not connected: connection refused"
	}, Degraded, "the last verify has found differences"},
	{"primary-verifying", aPrimary, func(s *Status) {
		s.Mirroring.Verify = &mirror.Verifying{Began: now.Add(-time.Minute), Files: 12, Gauge: mirror.Gauge{Done: 6 << 30, Total: 9 << 30, Rate: 100 << 20, Left: 31 * time.Second}}
	}, Healthy, ""},
	{"primary-unmounted", aPrimary, func(s *Status) { s.Mounted = false }, Down, "the volume is not mounted"},
	{"primary-deposed", aPrimary, func(s *Status) {
		s.Role, s.Deposed, s.Epoch = RoleMirror, true, op.Epoch{Number: 4, Owner: 0xb}
	}, Down, "deposed: epoch 4/000000000000000b took over; stop this node and start it again with `standbyfs mirror`"},
	{"primary-stopped", aPrimary, func(s *Status) { s.Running, s.Mirroring, s.Mounted = false, nil, false }, Down, "the node is not running"},
	{"mirror", aMirror, func(*Status) {}, Healthy, ""},
	{"mirror-resync", aMirror, func(s *Status) {
		s.InSync, s.Why, s.Receiving.Resyncing = false, "resync with alpha", true
	}, Degraded, "not in sync: resync with alpha"},
	{"mirror-alone", aMirror, func(s *Status) {
		s.Receiving.Connected, s.PrimaryHeard = false, now.Add(-90*time.Second)
	}, Degraded, "no connection to the primary for 1m30s"},
	{"mirror-silent", aMirror, func(s *Status) { s.PrimaryHeard = now.Add(-3100 * time.Millisecond) }, Degraded, "the primary has been silent for 3.1s"},
	{"mirror-new", aMirror, func(s *Status) {
		s.InSync, s.Role, s.PrimaryHeard = false, RoleMirror, time.Time{}
		s.Receiving = &Receiving{Heartbeat: time.Second}
	}, Degraded, "no primary has connected yet"},
	{"mirror-diverged", aMirror, func(s *Status) { s.Divergences = &Divergences{Count: 2, Bytes: 3 << 20} }, Healthy, ""},
	{"mirror-stopped", aMirror, func(s *Status) { s.Running, s.Receiving, s.Listen = false, nil, "" }, Down, "as a mirror it was in sync, and can be promoted once it runs"},
	{"mirror-stopped-in-resync", aMirror, func(s *Status) {
		s.Running, s.Receiving, s.Listen, s.InSync, s.Why, s.Mixed, s.Kept = false, nil, "", false, "resync with alpha", true, now.Add(-3*time.Minute)
	}, Down, "as a mirror it was not in sync: resync with alpha; its replica is mixed, and the consistent state of 3m0s ago is kept"},
	{"mirror-stopped-behind", aMirror, func(s *Status) {
		s.Running, s.Receiving, s.Listen, s.InSync, s.Why, s.AsOf = false, nil, "", false, "expelled by alpha", now.Add(-2*time.Hour)
	}, Down, "as a mirror it was not in sync: expelled by alpha; its replica is as it was 2h0m0s ago"},
	{"mirror-in-resync", aMirror, func(s *Status) { s.InSync, s.Why, s.Mixed = false, "resync with alpha", true }, Degraded,
		"not in sync: resync with alpha; its replica is mixed: parts of it are older than others"},
	{"deposed-stopped", aMirror, func(s *Status) {
		s.Running, s.Receiving, s.Listen, s.InSync, s.Deposed = false, nil, "", false, true
	}, Down, "it was deposed by epoch 3/000000000000000a and can only start as a mirror"},
	{"nothing", func() Status { return Status{Time: now, StateDir: "/srv/zodb.standbyfs", Replica: "/srv/zodb"} }, func(*Status) {}, Down, "never started"},
}

func TestVerdict(t *testing.T) {
	for _, c := range statuses {
		t.Run(c.name, func(t *testing.T) {
			s := c.make()
			c.change(&s)
			s.Judge()
			if s.Verdict != c.verdict || !strings.Contains(s.Summary(), c.says) {
				t.Errorf("verdict %q, want %q with %q", s.Summary(), c.verdict, c.says)
			}
			if s.Judge(); len(s.Reasons) > 3 {
				t.Errorf("a second judgement adds to the first: %q", s.Reasons)
			}
		})
	}
}

func TestTable(t *testing.T) {
	for _, c := range statuses {
		t.Run(c.name, func(t *testing.T) {
			s := c.make()
			c.change(&s)
			s.Judge()
			var got strings.Builder
			if err := s.WriteText(&got); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

func TestStatusSurvivesJSON(t *testing.T) {
	for _, c := range statuses {
		t.Run(c.name, func(t *testing.T) {
			s := c.make()
			c.change(&s)
			s.Judge()
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var got Status
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, s) {
				t.Errorf("got %+v, want %+v", got, s)
			}
		})
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 12 << 20: "12.0 MiB", 3 << 40: "3.0 TiB", 1 << 63: "8192.0 PiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
