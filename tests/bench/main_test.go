package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// This binary is the bench's servers and loads, too, when it is started by the
// bench that is tested.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles()[os.Args[1]] != nil {
		if err := dispatch(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(harness.Main(m))
}

func TestParseConfiguration(t *testing.T) {
	for name, want := range map[string]configuration{
		"native":         {Kind: native},
		"loopback":       {Kind: loopback},
		"null":           {Kind: null},
		"op1":            {Kind: mirrored, Mirrors: 1, Sync: "op", Delay: time.Millisecond},
		"barrier10":      {Kind: mirrored, Mirrors: 10, Sync: "barrier", Delay: time.Millisecond},
		"op32-plain":     {Kind: mirrored, Mirrors: 32, Sync: "op", Plain: true, Delay: time.Millisecond},
		"gluster3":       {Kind: gluster, Mirrors: 3},
		"op0":            {},
		"op33":           {},
		"op":             {},
		"gluster4":       {},
		"mirrored":       {},
		"barrier1-plane": {},
	} {
		got, err := parseConfiguration(name, time.Millisecond)
		if want.Kind == "" {
			if err == nil {
				t.Errorf("%q is accepted as %+v", name, got)
			}
			continue
		}
		want.Name = name
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", name, got, err, want)
		}
	}
}

func TestPlan(t *testing.T) {
	plan := func(args ...string) plan {
		t.Helper()
		s, err := parseSettings(args)
		if err != nil {
			t.Fatal(err)
		}
		pl, err := s.plan()
		if err != nil {
			t.Fatal(err)
		}
		return pl
	}
	pl := plan("-run", "^(create|unlink)/1$", "-configs", "null,op2")
	tasks := pl.tasks()
	if len(tasks) != 1 || len(tasks[0].rows) != 2 || len(tasks[0].configs) != 2 {
		t.Errorf("two rows of one job make %d tasks: %+v", len(tasks), tasks)
	}
	pl = plan("-full", "-peers", "-run", "write1m")
	for _, r := range plan("-delay", "1ms").rows {
		for _, want := range r.Targets {
			if !want.P50 || !slices.Contains(r.Configs, want.Config) || !slices.Contains(r.Configs, want.Over) {
				t.Errorf("row %s at a distance: %+v on %v", r.Name, want, r.Configs)
			}
		}
	}
	if want := len(standard) + len(more) + len(every) + len(peers); len(pl.rows[0].Configs) != want || len(pl.tasks()[0].configs) != want {
		t.Errorf("full with peers: %v, want %d", pl.rows[0].Configs, want)
	}
	pl = plan()
	names := map[string]bool{}
	for _, r := range pl.rows {
		if names[r.Name] {
			t.Errorf("two rows are called %s", r.Name)
		}
		names[r.Name] = true
		if loads()[r.Work.Kind] == nil {
			t.Errorf("row %s: no load %q", r.Name, r.Work.Kind)
		}
		for _, want := range r.Targets {
			needless := want.Want == 0 || strings.HasPrefix(want.Over, "gluster")
			if !needless && (!slices.Contains(r.Configs, want.Config) || !slices.Contains(r.Configs, want.Over)) {
				t.Errorf("row %s does not run what its target is about: %+v", r.Name, want)
			}
		}
	}
	for _, bad := range [][]string{{"-run", "("}, {"-run", "nothing"}, {"-configs", "none"}, {"-run", "wire", "-configs", "null"}} {
		if s, err := parseSettings(bad); err == nil {
			if _, err = s.plan(); err == nil {
				t.Errorf("%v is accepted", bad)
			}
		}
	}
	for _, bad := range [][]string{{"argument"}, {"-repeats", "0"}, {"-delay", "far"}, {"-profile", "some"}} {
		if _, err := parseSettings(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// A row runs on real processes and mounts, and leaves nothing behind.
func TestSmoke(t *testing.T) {
	harness.NeedFUSE(t)
	dir := t.TempDir()
	var b strings.Builder
	args := []string{"-dir", filepath.Join(dir, "run"), "-out", filepath.Join(dir, "out"),
		"-program", harness.Binary(t),
		"-run", "^write4k/8$|^unlink/1$|^wire4k/8$", "-configs", "native,null,barrier1,yamux-tls", "-delay", "1ms", "-repeats", "1", "-time", "20ms"}
	if err := benchMain(args, &b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	for _, want := range []string{"4K writes, 8 threads", "unlink, 1 thread", "our file system with the null Committer",
		"standbyfs with one mirror, sync: barrier, TLS, 1ms away in each direction", "4K ops on the wire, 8 waiting"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "results.json")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "run")); err == nil {
		t.Error("the folder of the run is still there")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Errorf("a mount is left:\n%s", mounts)
	}
}
