package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMountedAt(t *testing.T) {
	mounts := strings.Join([]string{
		`24 30 0:22 / /proc rw,relatime shared:12 - proc proc rw`,
		`90 30 0:50 / /mnt/data rw,nosuid,nodev shared:7 master:1 - fuse.standbyfs /srv/data rw,user_id=0`,
		`91 30 0:51 / /mnt/with\040space\134\011 rw - fuse.standbyfs /srv/a\040b\043 rw`,
		`92 30 0:52 / /mnt/hidden rw - fuse.standbyfs /srv/hidden rw`,
		`93 30 0:53 / /mnt/hidden rw - tmpfs tmpfs rw`,
		`94 30 0:54 / /mnt/twice rw - fuse.standbyfs /srv/old rw`,
		`95 30 0:55 / /mnt/twice rw - fuse.standbyfs /srv/new rw`,
		`96 30 0:56 / /mnt/other rw - fuse.sshfs host:/ rw`,
		`97 broken`,
		``,
	}, "\n")
	for path, want := range map[string]string{
		"/mnt/data":                  "/srv/data",
		"/mnt/with space\\\t":        "/srv/a b#",
		"/mnt/hidden":                "",
		"/mnt/twice":                 "/srv/new",
		"/mnt/other":                 "",
		"/mnt":                       "",
		"/mnt/data/below":            "",
		`/mnt/with\040space\134\011`: "",
	} {
		got, err := mountedAt(strings.NewReader(mounts), path)
		if err != nil || got != want {
			t.Errorf("mountedAt(%q) = %q, %v: want %q", path, got, err, want)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{``, `a\040b`, `\`, `\04`, `\999`, `\777`, `\134040`} {
		f.Add(seed)
	}
	escape := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`, "#", `\043`)
	f.Fuzz(func(t *testing.T, text string) {
		unescape(text) // of anything: does not panic
		if got := unescape(escape.Replace(text)); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	})
}

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
