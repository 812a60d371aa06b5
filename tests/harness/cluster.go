package harness

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/tests/disk"
)

// Options says what cluster to set up.
type Options struct {
	Mirrors   int
	Mirroring daemon.Mirroring // Peers are filled in; times are short unless set
	Processes bool             // each node is a process of its own
	Manual    bool             // the test starts the nodes
	// Adopt prepares the primary's replica before its first start.
	Adopt func(replica string)
	// Disks gives nodes, by name, a small disk of their own.
	Disks map[string]DiskOptions
	// Drives are directories that lie on a drive of so many bytes, which can
	// lose power, and Layers are those whose calls can fail: NAME of a node is
	// all it has, NAME/replica and NAME/replica.standbyfs are parts.
	Drives map[string]int64
	Layers []string
}

// DiskOptions says how big a node's disk is and what is on it.
type DiskOptions struct {
	Size        int64  // bytes
	Kind        string // one of ReflinkDisks; "" is ext4
	ReplicaOnly bool   // the state directory is elsewhere
}

// Cluster is a primary and its mirrors, with a faulty network from the primary
// to each of them. Its nodes are there from the start, running or not.
type Cluster struct {
	Primary *Node
	Mirrors []*Node
	Nets    []*Proxy // Nets[i] leads to Mirrors[i]
	Disks   map[string]*Disk
	Drives  map[string]*disk.Drive
	Layers  map[string]*disk.Layer

	t testing.TB
}

// stopTimeout bounds each half of a primary's clean stop: tests stop primaries
// whose mirrors are away, and mounts that are busy.
const stopTimeout = 3 * time.Second

// NewCluster sets a cluster up and waits until all its mirrors are in sync.
// When the test ends it stops every node and checks that the replica of each
// mirror in sync equals the primary's, that no mount and no goroutine is left.
func NewCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	NeedFUSE(t)
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	launch := launcher(inProcess)
	if o.Processes {
		launch = asProcess
	}
	c := &Cluster{t: t, Disks: map[string]*Disk{}, Drives: map[string]*disk.Drive{}, Layers: map[string]*disk.Layer{}}
	for name, size := range o.Drives {
		c.Drives[name] = disk.NewDrive(t, filepath.Join(dir, name), size)
	}
	for _, name := range o.Layers {
		c.Layers[name] = disk.NewLayer(t, filepath.Join(dir, name))
	}
	for name, d := range o.Disks {
		at := filepath.Join(dir, name)
		if d.ReplicaOnly {
			at = filepath.Join(at, "replica")
		}
		if d.Kind == "" {
			c.Disks[name] = NewDisk(t, at, d.Size)
		} else {
			c.Disks[name] = NewReflinkDisk(t, at, d.Kind, d.Size)
		}
	}
	t.Cleanup(func() {
		c.finish()
		for _, net := range c.Nets {
			net.Close()
		}
		for _, n := range c.Nodes() {
			NoMountsLeft(t, n.Mountpoint)
		}
		if !t.Failed() {
			goleak.VerifyNone(t, before)
		}
	})

	m := o.Mirroring
	if m.AckTimeout == 0 {
		m.AckTimeout = 20 * time.Second
	}
	if m.Heartbeat == 0 {
		m.Heartbeat = min(500*time.Millisecond, m.AckTimeout/5)
	}
	if m.CheckpointEvery == 0 {
		m.CheckpointEvery = 300 * time.Millisecond
	}
	peers := m.Peers // their modes; the addresses are the proxies'
	m.Peers = nil
	for i := range o.Mirrors {
		n := newNode(t, dir, fmt.Sprintf("mirror%d", i+1), launch)
		net := newProxy(t, n.Addr)
		c.Mirrors = append(c.Mirrors, n)
		c.Nets = append(c.Nets, net)
		p := mirror.PeerConfig{Addr: net.Addr()}
		if i < len(peers) {
			p.Async = peers[i].Async
		}
		m.Peers = append(m.Peers, p)
	}
	c.Primary = newNode(t, dir, "primary", launch)
	if o.Adopt != nil {
		o.Adopt(c.Primary.Replica)
	}
	for _, n := range c.Nodes() {
		n.Config.Mirror = m
		n.Config.Mirror.Peers = nil
		n.Config.Mirror.MinInSync = 0 // a mirror's own policy counts after its promotion
		n.Config.StopTimeout = stopTimeout
	}
	c.Primary.Config.Mirror = m
	if o.Manual {
		return c
	}
	for _, n := range c.Mirrors {
		n.Start(daemon.Mirror)
	}
	c.Primary.Start(daemon.Primary)
	synced := 0
	for _, p := range m.Peers {
		if !p.Async {
			synced++
		}
	}
	c.Primary.WaitInSync(synced)
	return c
}

// Nodes returns all nodes, the mirrors first.
func (c *Cluster) Nodes() []*Node { return append(slices.Clone(c.Mirrors), c.Primary) }

// NewNode adds a node that the cluster knows nothing of, but which ends with
// it.
func (c *Cluster) NewNode(name string) *Node {
	n := newNode(c.t, c.t.TempDir(), name, c.Primary.launch)
	n.Config.Mirror, n.Config.StopTimeout = c.Primary.Config.Mirror, stopTimeout
	n.Config.Mirror.Peers = nil
	c.t.Cleanup(func() { n.Stop() })
	return n
}

// finish stops the primaries, compares the replicas of the mirrors that were
// in sync with them, and stops the mirrors.
func (c *Cluster) finish() {
	for _, p := range c.Nodes() {
		if !p.Running() {
			continue
		}
		resume(p)
		if p.Config.Role != daemon.Primary && p.Status().Role != string(daemon.Primary) {
			continue
		}
		for _, m := range c.stopPrimary(p) {
			if differ := DifferentReplicas(c.t, p.Replica, m.Replica); len(differ) > 0 {
				c.t.Errorf("%s was in sync with %s, and their replicas differ:\n%s", m.Name, p.Name, strings.Join(differ, "\n"))
			}
		}
	}
	for _, n := range c.Nodes() {
		if n.Running() {
			if err := n.Stop(); err != nil {
				c.t.Errorf("stopping %s at the end: %v", n.Name, err)
			}
		}
	}
}

// stopPrimary stops a primary and returns the mirrors that it had in sync when
// that began and that still say so afterwards.
func (c *Cluster) stopPrimary(p *Node) []*Node {
	var level []*Node
	if s := p.Status(); s.Mirroring != nil && !s.Deposed {
		for _, n := range c.Nodes() {
			for _, peer := range s.Mirroring.Peers {
				if n.Running() && n != p && peer.InSync && peer.Name == n.Name {
					level = append(level, n)
				}
			}
		}
	}
	if err := p.Stop(); err != nil {
		c.t.Errorf("stopping %s at the end: %v", p.Name, err)
		return nil
	}
	return slices.DeleteFunc(level, func(n *Node) bool { return !n.Status().InSync })
}

// DifferentReplicas returns in what two replicas differ, judged by package
// tree and, independently, by a reading of our own.
func DifferentReplicas(t testing.TB, a, b string) []string {
	t.Helper()
	first, err := tree.Open(a)
	if err != nil {
		t.Fatalf("opening replica %s: %v", a, err)
	}
	defer first.Close()
	second, err := tree.Open(b)
	if err != nil {
		t.Fatalf("opening replica %s: %v", b, err)
	}
	defer second.Close()
	differ, err := tree.Diff(first, second)
	if err != nil {
		t.Fatalf("comparing %s with %s: %v", a, b, err)
	}
	for i := range differ {
		differ[i] = "tree.Diff: " + differ[i]
	}
	x, err := ReadSnapshot(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := ReadSnapshot(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Differences(x, y, Aspects{}) {
		differ = append(differ, "snapshot: "+d)
	}
	return differ
}
