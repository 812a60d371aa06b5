package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// glusterAddress is of the namespace's own loopback device: GlusterFS refuses
// 127.0.0.1, and nobody outside can reach this.
const glusterAddress = "10.77.0.1"

// bringGluster starts GlusterFS in a network namespace of its own: its daemon,
// a brick for each replica, all on the disk of this run, and its FUSE client.
// Settings are its defaults.
func (s *system) bringGluster(ctx context.Context, root string) error {
	if _, err := exec.LookPath("glusterd"); err != nil {
		return fmt.Errorf("GlusterFS is not installed: %w", errUnavailable)
	}
	space := "standbyfs-bench-" + s.Name
	own := filepath.Join("/run", space) // sockets have short paths only
	if err := endNamespace(space); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error { return errors.Join(endNamespace(space), os.RemoveAll(own)) })
	run := func(argv ...string) error {
		_, err := output(ctx, startLimit, exec.Command(argv[0], argv[1:]...))
		return err
	}
	inside := func(argv ...string) error {
		return run(append([]string{"nsenter", "--net=/run/netns/" + space}, argv...)...)
	}
	for _, argv := range [][]string{
		{"ip", "netns", "add", space},
		{"ip", "-n", space, "link", "set", "lo", "up"},
		{"ip", "-n", space, "addr", "add", glusterAddress + "/32", "dev", "lo"},
	} {
		if err := run(argv...); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(own, 0o700); err != nil {
		return err
	}
	settings := filepath.Join(own, "glusterd.vol")
	socket := filepath.Join(own, "socket")
	if err := os.WriteFile(settings, fmt.Appendf(nil, `volume management
    type mgmt/glusterd
    option working-directory %s
    option run-directory %s
    option transport-type socket
    option transport.socket.bind-address %s
    option glusterd-sockfile %s
end-volume
`, filepath.Join(root, "glusterd"), own, glusterAddress, socket), 0o600); err != nil {
		return err
	}
	create := []string{"gluster", "--mode=script", "--glusterd-sock=" + socket, "volume", "create", s.Name, "replica", strconv.Itoa(s.Mirrors)}
	for i := range s.Mirrors {
		brick := filepath.Join(root, fmt.Sprintf("brick%d", i))
		if err := os.Mkdir(brick, 0o755); err != nil {
			return err
		}
		scatter(brick)
		create = append(create, glusterAddress+":"+brick)
		if i == 0 {
			s.below = brick
		}
	}
	if err := inside("glusterd", "-f", settings, "-p", filepath.Join(own, "pid"), "-l", filepath.Join(root, "glusterd.log")); err != nil {
		return err
	}
	if err := until(ctx, func() error { return inside(append(create, "force")...) }); err != nil {
		return err
	}
	if err := inside("gluster", "--mode=script", "--glusterd-sock="+socket, "volume", "start", s.Name); err != nil {
		return err
	}
	if err := inside("glusterfs", "--volfile-server="+glusterAddress, "--volfile-id="+s.Name, "-l", filepath.Join(root, "client.log"), s.mount); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error { return unix.Unmount(s.mount, unix.MNT_DETACH) })
	if err := until(ctx, func() error { return os.WriteFile(filepath.Join(s.mount, "probe"), nil, 0o644) }); err != nil {
		return err
	}
	return until(ctx, func() (err error) {
		s.servers, err = daemons(space)
		return err
	})
}

// daemons lists GlusterFS's processes in a namespace. glusterd also runs scripts
// there, and children that have yet to become something else: a list counts once
// it stays the same.
func daemons(space string) ([]int, error) {
	list := func() ([]int, error) {
		pids, err := inNamespace(space)
		return slices.DeleteFunc(pids, func(pid int) bool {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return err != nil || !strings.HasPrefix(string(name), "gluster")
		}), err
	}
	before, err := list()
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	after, err := list()
	if err == nil && !slices.Equal(before, after) {
		err = fmt.Errorf("the processes of GlusterFS were %v and are %v: still starting", before, after)
	}
	return after, err
}

// until tries again until it works, within the time of a start.
func until(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(startLimit)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// inNamespace lists the processes of a network namespace.
func inNamespace(name string) ([]int, error) {
	var want unix.Stat_t
	if err := unix.Stat(filepath.Join("/run/netns", name), &want); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var got unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &got) == nil && got.Ino == want.Ino {
			out = append(out, pid)
		}
	}
	return out, nil
}

// endNamespace ends all that runs in a network namespace of this program's, and
// the namespace.
func endNamespace(name string) error {
	for {
		pids, err := inNamespace(name)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		alive := 0
		for _, pid := range pids {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
				alive++
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		if alive == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("delete namespace %s: %w: %s", name, err, out)
	}
	return nil
}
