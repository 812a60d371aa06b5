package daemon

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"golang.org/x/sys/unix"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func makeDirs(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrepared(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	makeDirs(t, at("replica/sub"), at("mnt/sub"), at("state"))
	if err := os.WriteFile(at("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("replica"), at("link")); err != nil {
		t.Fatal(err)
	}
	primary := func(c Config) Config { c.Role = Primary; return c }
	peers := func(addrs ...string) (m Mirroring) {
		for _, a := range addrs {
			m.Peers = append(m.Peers, mirror.PeerConfig{Addr: a})
		}
		return m
	}
	for _, c := range []struct {
		name string
		cfg  Config
		says string // "" for no error
	}{
		{"primary", primary(Config{Replica: at("replica"), Mountpoint: at("mnt")}), ""},
		{"mirror", Config{Role: Mirror, Replica: at("replica"), Listen: "127.0.0.1:0"}, ""},
		{"no role", Config{Replica: at("replica")}, `role "": want primary or mirror`},
		{"mirror without an address", Config{Role: Mirror, Replica: at("replica")}, "--listen HOST:PORT"},
		{"primary without a mount point", primary(Config{Replica: at("replica")}), "needs a mount point"},
		{"no replica", primary(Config{Replica: at("none"), Mountpoint: at("mnt")}), "make it with `mkdir " + at("none")},
		{"replica is a file", primary(Config{Replica: at("file"), Mountpoint: at("mnt")}), "is not a directory"},
		{"no mount point", primary(Config{Replica: at("replica"), Mountpoint: at("none")}), "make it with `mkdir " + at("none")},
		{"mount point in the replica", primary(Config{Replica: at("replica"), Mountpoint: at("replica/sub")}), "lies in the replica"},
		{"mount point is the replica", primary(Config{Replica: at("replica"), Mountpoint: at("replica")}), "is the replica"},
		{"mount point is the replica by a link", primary(Config{Replica: at("replica"), Mountpoint: at("link")}), "is the replica"},
		{"mount point in the replica by a link", primary(Config{Replica: at("replica"), Mountpoint: at("link/sub")}), "lies in the replica"},
		{"replica in the mount point", primary(Config{Replica: at("mnt/sub"), Mountpoint: at("mnt"), StateDir: at("state")}), "lies in the mount point"},
		{"mount point in the state", primary(Config{Replica: at("replica"), Mountpoint: at("mnt/sub"), StateDir: at("mnt")}), "lies in the state directory"},
		{"state in the replica", primary(Config{Replica: at("replica"), Mountpoint: at("mnt"), StateDir: at("replica/state")}), "lies in the replica"},
		{"state in the replica by a link", primary(Config{Replica: at("replica"), Mountpoint: at("mnt"), StateDir: at("link/state")}), "lies in the replica"},
		{"state is the replica", Config{Role: Mirror, Replica: at("replica"), Listen: "[::1]:0", StateDir: at("replica")}, "is the replica"},
		{"listen beyond loopback", Config{Role: Mirror, Name: "beta", Replica: at("replica"), Listen: "0.0.0.0:7070"}, "`standbyfs ca issue beta`"},
		{"listen on all", Config{Role: Mirror, Replica: at("replica"), Listen: ":7070"}, "`insecure: true`"},
		{"listen beyond loopback, insecure", Config{Role: Mirror, Replica: at("replica"), Listen: ":7070", Insecure: true}, ""},
		{"listen on localhost", Config{Role: Mirror, Replica: at("replica"), Listen: "localhost:7070"}, ""},
		{"listen on nonsense", Config{Role: Mirror, Replica: at("replica"), Listen: "7070"}, "want HOST:PORT"},
		{"mirror beyond loopback", primary(Config{Replica: at("replica"), Mountpoint: at("mnt"), Mirror: peers("127.0.0.1:1", "beta:7070")}), "connect to mirror beta:7070: only loopback"},
		{"more in sync than there are", primary(Config{Replica: at("replica"), Mountpoint: at("mnt"), Mirror: Mirroring{MinInSync: 1}}), "min_in_sync is 1, and there are 0 mirrors to be in sync"},
		{"a rule that is none", Config{Role: Mirror, Replica: at("replica"), Listen: "localhost:1", Mirror: Mirroring{Rules: []mirror.Rule{{Match: "[", Sync: mirror.SyncLocal}}}}, "mirroring: rule 1"},
		{"a ring too small", Config{Role: Mirror, Replica: at("replica"), Listen: "localhost:1", Mirror: Mirroring{RingBytes: 1}}, "mirroring: ring of 1 bytes"},
		{"a mirror's policy for later", Config{Role: Mirror, Replica: at("replica"), Listen: "localhost:1", Mirror: Mirroring{MinInSync: 1}}, ""},
		{"mirrors on loopback", primary(Config{Replica: at("replica"), Mountpoint: at("mnt"), Mirror: peers("127.9.9.9:1", "[::1]:2", "[::ffff:127.0.0.1]:3")}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Logger, c.cfg.Ready = quiet, func(string) {}
			got, err := c.cfg.prepared()
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("error %v, want %q", err, c.says)
			}
			if err == nil && (got.StateDir != DefaultStateDir(at("replica")) || got.Name == "" || got.Mirror.Heartbeat == 0) {
				t.Errorf("defaults are missing: %+v", got)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	mirrored := state.State{Volume: "v", Node: 2, Role: Mirror, Epoch: op.Epoch{Number: 1, Owner: 1}, History: []state.EpochStart{{Epoch: op.Epoch{Number: 1, Owner: 1}}}}
	took := mirrored // 1 was the primary once
	took.Node, took.ArchiveUntilJoined = 1, true
	took.Epoch = op.Epoch{Number: 2, Owner: 2}
	took.History = append(took.History, state.EpochStart{Epoch: took.Epoch})
	back := took // and has joined since
	back.ArchiveUntilJoined = false
	for _, c := range []struct {
		name  string
		role  Role
		state state.State
		want  error
	}{
		{"a primary on nothing", Primary, state.State{}, nil},
		{"a primary on its own", Primary, state.State{Volume: "v", Role: Primary}, nil},
		{"a primary on a mirror that heard nobody", Primary, state.State{Role: Mirror}, nil},
		{"a primary on a mirror", Primary, mirrored, ErrIsMirror},
		{"a primary on a deposed one", Primary, took, ErrDeposed},
		{"a primary on one that follows again", Primary, back, ErrIsMirror},
		{"a mirror on a mirror", Mirror, mirrored, nil},
		{"a mirror on a primary", Mirror, state.State{Volume: "v", Role: Primary}, nil},
		{"a mirror on a deposed one", Mirror, took, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := admit(Config{Role: c.role, Replica: "/r", Mountpoint: "/m"}, c.state)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "standbyfs mirror /r --listen") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// TestMountInReplica: what is mounted in a replica is not made durable with it.
func TestMountInReplica(t *testing.T) {
	m := newMachine(t, "alpha")
	within := filepath.Join(m.replica, "sub")
	makeDirs(t, within, m.replica+"2")
	for _, dir := range []string{within, m.replica + "2"} { // the second one stands beside it
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	if _, err := m.try(m.config(Primary, 0)); err == nil || !strings.Contains(err.Error(), "at "+within+" (tmpfs): unmount it") {
		t.Errorf("error %v", err)
	}
	if err := unix.Unmount(within, 0); err != nil {
		t.Fatal(err)
	}
	m.start(m.config(Primary, 0))
}
