package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/fs/mountinfo"
)

// finder finds the node that a verb speaks to.
type finder struct {
	file  string // a configuration
	state string // a state directory
}

// found is a node of this machine, whether it runs or not.
type found struct {
	replica  string // "" if only the state directory was given
	stateDir string
	mounted  bool // it was found by its mount point
}

// findHelp is a part of the help of every verb that has a finder.
const findHelp = `NODE is the replica directory, or the mount point of a primary; -c FILE names a
node by its configuration instead.`

// addFlags adds the finder's flags to a verb.
func (f *finder) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "find the node by its configuration `FILE`")
	cmd.Flags().StringVar(&f.state, "state", "", "the node's state directory `DIR` (default REPLICA.standbyfs)")
}

// maybeNode accepts the one argument of a verb that has a finder.
func maybeNode(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return misuse(cmd, "%q is one argument too many", args[1])
	}
	return nil
}

// find returns the node that the arguments name.
func (f *finder) find(cmd *cobra.Command, args []string) (found, error) {
	var n found
	switch {
	case len(args) > 0 && f.file != "":
		return n, misuse(cmd, "%q and -c %s both name a node: give one of them", args[0], f.file)
	case len(args) > 0:
		var err error
		if n.replica, n.mounted, err = replicaAt(args[0]); err != nil {
			return n, cannot(err)
		}
	case f.file != "":
		s, err := config.Load(config.Sources{File: f.file})
		if err != nil {
			return n, cannot(err)
		}
		if n.replica, err = resolve(s.Replica); err != nil {
			return n, cannot(err)
		}
		n.stateDir = s.StateDir
	case f.state == "":
		return n, misuse(cmd, "which node? name its replica directory, its mount point or -c FILE")
	}
	if state := os.Getenv("STANDBYFS_STATE_DIR"); n.stateDir == "" && state != "" {
		n.stateDir = state
	}
	if f.state != "" {
		n.stateDir = f.state
	}
	if n.stateDir != "" {
		return n, nil
	}
	n.stateDir = daemon.DefaultStateDir(n.replica)
	if _, err := os.Stat(n.stateDir); !errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if len(args) > 0 && n.mounted {
		return n, cannot(fmt.Errorf("%s is a mount of %s, but %s is not there: name the state directory with --state", args[0], n.replica, n.stateDir))
	}
	if _, err := os.Stat(n.replica); errors.Is(err, os.ErrNotExist) {
		return n, cannot(fmt.Errorf("%s does not exist, nor does its state directory %s", n.replica, n.stateDir))
	}
	return n, nil
}

// fsType is how the kernel lists our mounts.
const fsType = "fuse.standbyfs"

// replicaAt returns the replica at path: what is mounted there, or path itself.
func replicaAt(path string) (replica string, mounted bool, err error) {
	if path, err = resolve(path); err != nil {
		return "", false, err
	}
	mounts, err := mountinfo.At(path)
	if err != nil {
		return "", false, fmt.Errorf("look for a mount at %s: %w", path, err)
	}
	if len(mounts) > 0 {
		if top := mounts[len(mounts)-1]; top.Type == fsType {
			return top.Source, true, nil
		}
	}
	return path, false, nil
}

// resolve makes path absolute and follows symbolic links in all but its last
// name, which may be a mount whose daemon is dead, and in that where it can.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", path, err)
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// dial connects to the node, which has to run.
func (n found) dial() (*admin.Client, error) {
	client, err := admin.Dial(n.stateDir)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil, fmt.Errorf("%w: start it with `standbyfs serve`, `mount` or `mirror`, or name its state directory with --state", err)
	}
	return client, err
}
