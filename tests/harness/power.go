package harness

import "golang.org/x/sys/unix"

// LosePower takes the power of nodes, each on a drive of its own, away at one
// instant. What their drives keep is decided by the seed. When it returns the
// nodes are gone, and so are their directories, until PowerOn.
func (c *Cluster) LosePower(seed uint64, nodes ...*Node) {
	c.t.Helper()
	for i, n := range nodes {
		c.Drives[n.Name].Cut(seed + uint64(i))
	}
	for _, n := range nodes {
		n.Signal(unix.SIGKILL)
	}
	for _, n := range nodes {
		d := c.Drives[n.Name]
		d.Dead()
		n.Kill()
		for _, at := range mountsBelow(c.t, d.Dir) {
			if at == d.Dir {
				continue
			}
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				c.t.Fatalf("detaching %s, which its server has left: %v", at, err)
			}
		}
		d.Off()
	}
}

// PowerOn gives nodes their directories back. It starts none.
func (c *Cluster) PowerOn(nodes ...*Node) {
	c.t.Helper()
	for _, n := range nodes {
		if err := c.Drives[n.Name].PowerOn(); err != nil {
			c.t.Fatal(err)
		}
	}
}
