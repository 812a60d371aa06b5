package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// volume is a primary and one mirror that may be away for a while, with a
// network between them that counts.
type volume struct {
	*system
	network *harness.Proxy
	settled time.Time // when what was changed before need not be compared any more
}

const mirrorName0 = "mirror0"

// repairLimit bounds one repair.
const repairLimit = time.Hour

// checkpoints are how long it takes until a node has forgotten what it did
// last: three times what there is between two looks, and what a sync takes.
const checkpoints = 3*15*time.Second + 5*time.Second

// newVolume fills the primary's replica and starts its nodes. It returns the
// volume once the mirror has its first copy, and what the repair was that made it.
func (p *place) newVolume(ctx context.Context, name string, fill func(dir string) error) (v *volume, first repair, err error) {
	root := filepath.Join(p.dir, name)
	v = &volume{system: &system{configuration: configuration{Name: name, Kind: mirrored, Mirrors: 1, Sync: "op"}}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), v.stop())
		}
	}()
	v.below, v.mount = filepath.Join(root, "data"), filepath.Join(root, "mnt")
	for _, dir := range []string{v.below, v.mount} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return v, first, err
		}
	}
	scatter(v.below)
	if err := fill(v.below); err != nil {
		return v, first, err
	}
	if err := dropCaches(v.below); err != nil {
		return v, first, err
	}
	err = v.prepareNodes(ctx, p, root, func(addrs []string) ([]string, error) {
		var err error
		v.network, err = harness.ListenProxy(addrs[0])
		if err != nil {
			return nil, err
		}
		v.undo = append(v.undo, func() error { v.network.Close(); return nil })
		return []string{v.network.Addr()}, nil
	}, "--sync", "op", "--min-in-sync", "0")
	if err != nil {
		return v, first, err
	}
	if err := v.startNode(ctx, mirrorName0); err != nil {
		return v, first, err
	}
	first, err = v.watchRepair(ctx, func() error { return v.startNode(ctx, "primary") })
	v.changed()
	return v, first, err
}

// repair is what bringing the mirror level took.
type repair struct {
	bytes   int64   // on the wire, in both directions
	whole   float64 // seconds from the return of the mirror until it was in sync
	seconds float64 // the same without the wait for the primary's next attempt to connect
}

// away kills the mirror, does something, and returns what it took to bring the
// mirror level when it came back. With cold nothing is cached then. (One that is
// stopped cleanly resumes where it was, and little of this would be a repair.)
func (v *volume) away(ctx context.Context, cold bool, meanwhile func() error) (repair, error) {
	if err := v.stopNode(mirrorName0, unix.SIGKILL); err != nil {
		return repair{}, err
	}
	if err := meanwhile(); err != nil {
		return repair{}, err
	}
	if cold {
		if err := dropCaches(v.below); err != nil {
			return repair{}, err
		}
	}
	r, err := v.watchRepair(ctx, func() error { return v.startNode(ctx, mirrorName0) })
	v.changed()
	return r, err
}

// watchRepair brings nodes together and waits until the mirror is in sync.
func (v *volume) watchRepair(ctx context.Context, begin func() error) (repair, error) {
	before, conns := v.network.Bytes(), v.network.Conns()
	if err := begin(); err != nil {
		return repair{}, err
	}
	back := time.Now()
	for v.network.Conns() == conns {
		if time.Since(back) > startLimit {
			return repair{}, fmt.Errorf("the primary does not connect to its mirror within %s", startLimit)
		}
		time.Sleep(time.Millisecond)
	}
	met := time.Now()
	// The primary may have begun together with the mirror.
	c, err := admin.Dial(daemon.DefaultStateDir(v.below))
	if err != nil {
		return repair{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	if err := c.WaitInSync(ctx, 1); err != nil {
		return repair{}, fmt.Errorf("the mirror does not come in sync: %w", err)
	}
	return repair{v.network.Bytes() - before, time.Since(back).Seconds(), time.Since(met).Seconds()}, nil
}

// verify compares both replicas, with nothing cached, and returns how many
// seconds that took.
func (v *volume) verify(ctx context.Context) (float64, error) {
	if err := dropCaches(v.below); err != nil {
		return 0, err
	}
	c, err := admin.Dial(daemon.DefaultStateDir(v.below))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	report, err := c.Verify(ctx)
	if err != nil {
		return 0, fmt.Errorf("verify: %w", err)
	}
	for _, peer := range report.Peers {
		if !peer.Checked || len(peer.Differences) > 0 {
			return 0, fmt.Errorf("verify: the replicas are not equal: %+v", peer)
		}
	}
	return time.Since(began).Seconds(), nil
}

// changed says that regions became hot just now.
func (v *volume) changed() { v.settled = time.Now().Add(checkpoints) }

// settle waits until the nodes have forgotten what they did before, so that the
// next repair compares what belongs to it alone.
func (v *volume) settle(ctx context.Context) error {
	select {
	case <-time.After(time.Until(v.settled)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// syncDisk brings everything to the disk that holds a path.
func syncDisk(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("sync the disk of %s: %w", path, err)
	}
	return nil
}

// dropCaches syncs, too, and has the kernel forget what it keeps of files:
// content, names and inodes.
func dropCaches(path string) error {
	if err := syncDisk(path); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
