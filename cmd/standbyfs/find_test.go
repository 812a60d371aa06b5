package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	replica := filepath.Join(dir, "replica")
	if err := os.Mkdir(replica, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(replica, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(file, []byte("role: primary\nreplica: replica\nstate_dir: state\nmountpoint: /mnt\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := newStatusCommand()
	for _, c := range []struct {
		name string
		f    finder
		args []string
		env  string
		want found
	}{
		{"by the replica", finder{}, []string{replica}, "", found{replica: replica, stateDir: replica + ".standbyfs"}},
		{"by a link", finder{}, []string{filepath.Join(dir, "link")}, "", found{replica: replica, stateDir: replica + ".standbyfs"}},
		{"by the configuration", finder{file: file}, nil, "", found{replica: replica, stateDir: filepath.Join(dir, "state")}},
		{"with a state directory", finder{state: "/s"}, []string{replica}, "/e", found{replica: replica, stateDir: "/s"}},
		{"with a variable", finder{}, []string{replica}, "/e", found{replica: replica, stateDir: "/e"}},
		{"by the state directory", finder{state: "/s"}, nil, "", found{replica: "", stateDir: "/s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("STANDBYFS_STATE_DIR", c.env)
			if got, err := c.f.find(cmd, c.args); err != nil || got != c.want {
				t.Errorf("got %+v, %v: want %+v", got, err, c.want)
			}
		})
	}
	if _, err := (&finder{}).find(cmd, nil); exitCode(err) != exitCannot {
		t.Errorf("no node named: got %v", err)
	}
	if _, err := (&finder{}).find(cmd, []string{filepath.Join(dir, "none")}); exitCode(err) != exitCannot || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a node that is not there: got %v", err)
	}
	if _, err := (&finder{file: file}).find(cmd, []string{replica}); exitCode(err) != exitCannot {
		t.Errorf("two nodes named: got %v", err)
	}
}
