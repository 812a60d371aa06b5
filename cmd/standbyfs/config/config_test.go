package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

const whole = "role: primary\nreplica: /r\nmountpoint: /m\n"

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// problems loads a configuration that must be refused and returns the lines of
// the error, without the folder of the file.
func problems(t *testing.T, from Sources) []string {
	t.Helper()
	s, err := Load(from)
	var p Problems
	if !errors.As(err, &p) {
		t.Fatalf("Load = %+v, %v: want Problems", s, err)
	}
	return strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(from.File)+"/", ""), "\n")
}

func load(t *testing.T, from Sources) *Settings {
	t.Helper()
	s, err := Load(from)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parseFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"typo in a key", whole + "snyc: op\n", `node.yaml:4: snyc: there is no such key: did you mean "sync"?`},
		{"flag's spelling", whole + "ack-timeout: 5s\n", `node.yaml:4: ack-timeout: there is no such key: did you mean "ack_timeout"?`},
		{"flat spelling", whole + "log_level: info\n", `node.yaml:4: log_level: there is no such key: did you mean "log.level"?`},
		{"typo below a group", whole + "tls:\n  dri: /etc\n", `node.yaml:5: tls.dri: there is no such key: did you mean "tls.dir"?`},
		{"nothing near", whole + "colour: red\n", `node.yaml:4: colour: there is no such key`},
		{"group without keys", whole + "log: debug\n", `node.yaml:4: log: want keys and values below it: level, format`},
		{"twice", whole + "role: mirror\n", `node.yaml:4: role: is set twice, in line 1 already`},
		{"typo in a value", whole + "sync: barier\n", `node.yaml:4: sync: "barier": want op or barrier: did you mean "barrier"?`},
		{"no value", whole + "name:\n", `node.yaml:4: name: want text`},
		{"list for a scalar", whole + "sync: [op]\n", `node.yaml:4: sync: want op or barrier`},
		{"duration without a unit", whole + "ack_timeout: 5\n", `node.yaml:4: ack_timeout: "5": want a duration, such as 500ms, 5s or 1m30s`},
		{"no duration", whole + "heartbeat: 0s\n", `node.yaml:4: heartbeat: "0s": must be above zero`},
		{"size", whole + "ring: 64Mib/s\n", `node.yaml:4: ring: "64Mib/s": want a size, such as 64KiB, 256MiB or 1.5GiB`},
		{"unit", whole + "ring: 64M\n", `node.yaml:4: ring: "64M": unit "M" is not known: want a size, such as 64KiB, 256MiB or 1.5GiB`},
		{"small ring", whole + "ring: 4KiB\n", `node.yaml:4: ring: "4KiB": must be at least 1MiB`},
		{"negative", whole + "min_in_sync: -1\n", `node.yaml:4: min_in_sync: "-1": want a number from 0 up`},
		{"boolean", whole + "suid: yes\n", `node.yaml:4: suid: "yes": want true or false`},
		{"address", whole + "listen: 7420\n", `node.yaml:4: listen: "7420": want HOST:PORT, such as 192.0.2.7:7420 or [2001:db8::7]:7420`},
		{"port", whole + "listen: localhost:http\n", `node.yaml:4: listen: "localhost:http": port "http" is not a number up to 65535`},
		{"mirror's address", whole + "mirrors:\n  - address: :7421\n", `node.yaml:5: mirrors[0].address: ":7421": the host is missing`},
		{"mirror's port", whole + "mirrors:\n  - address: localhost:0\n", `node.yaml:5: mirrors[0].address: "localhost:0": port 0 cannot be connected to`},
		{"mirror without address", whole + "mirrors:\n  - mode: sync\n", `node.yaml:5: mirrors[0]: address is missing: want {address: HOST:PORT, mode: sync|async}`},
		{"mirror's mode", whole + "mirrors:\n  - address: localhost:1\n    mode: asnyc\n", `node.yaml:6: mirrors[0].mode: "asnyc": want sync or async: did you mean "async"?`},
		{"mirror's key", whole + "mirrors:\n  - address: localhost:1\n  - address: localhost:2\n    mod: async\n", `node.yaml:7: mirrors[1].mod: "mod" is not a key here: want address or mode: did you mean "mode"?`},
		{"mirror twice", whole + "mirrors:\n  - address: localhost:1\n  - address: localhost:1\n", `node.yaml:6: mirrors[1].address: localhost:1 is mirror 1 already`},
		{"mirrors as a mapping", whole + "mirrors:\n  address: localhost:1\n", `node.yaml:4: mirrors: want a list of {address: HOST:PORT, mode: sync|async}`},
		{"rule's level", whole + "rules:\n  - {match: '*.tmp', sync: lokal}\n", `node.yaml:5: rules[0].sync: "lokal": want op, barrier or local: did you mean "local"?`},
		{"rule's pattern", whole + "rules:\n  - {match: '!a', sync: op}\n", `node.yaml:5: rules[0].match: match "!a": want a gitignore pattern without negation, such as *.tmp`},
		{"rule's syntax", whole + "rules:\n  - {match: '[a', sync: op}\n", `node.yaml:5: rules[0].match: match "[a" is not a gitignore pattern: syntax error in pattern`},
		{"too many to wait for", whole + "min_in_sync: 2\nmirrors:\n- address: localhost:1\n- {address: 'localhost:2', mode: async}\n", `node.yaml:4: min_in_sync: 2: only 1 mirrors have mode sync, so nothing could ever be acknowledged`},
		{"too many mirrors", whole + "mirrors:\n" + manyMirrors(33), `node.yaml:4: mirrors: 33 mirrors: at most 32 are possible`},
		{"beyond loopback", whole + "listen: 0.0.0.0:7420\n", "node.yaml:4: listen: 0.0.0.0:7420 is beyond loopback and there are no certificates: make them with `standbyfs ca init` and `standbyfs ca issue NAME` and set tls.dir, or set insecure: true if the network is yours alone"},
		{"directory and file", whole + "tls:\n  dir: /etc\n  key: /k\n", `node.yaml:6: tls.key: tls.dir names all three files already: give one or the other`},
		{"part of the files", whole + "tls:\n  ca: /ca\n  cert: /cert\n", `node.yaml: tls.key: is missing: without tls.dir all of tls.ca, tls.cert and tls.key are needed`},
		{"no role", "replica: /r\n", `node.yaml: role: is missing: want primary or mirror`},
		{"role", "replica: /r\nrole: miror\n", `node.yaml:2: role: "miror": want primary or mirror: did you mean "mirror"?`},
		{"no replica", "role: primary\nmountpoint: /m\n", `node.yaml: replica: is missing: name the directory that this node keeps`},
		{"no mount point", "replica: /r\nrole: primary\n", `node.yaml: mountpoint: is missing: a primary needs a directory to mount on`},
		{"no address", "replica: /r\nrole: mirror\n", `node.yaml: listen: is missing: a mirror needs a HOST:PORT at which its primary reaches it`},
		{"state in the replica", whole + "state_dir: /r/.state\n", `node.yaml:4: state_dir: /r/.state is or lies in the replica /r: it must stand outside of it`},
		{"not YAML", whole + "name: [a\n", `node.yaml:3: not YAML: did not find expected ',' or ']'`},
		{"not a mapping", "- a\n", "node.yaml:1: want keys and values, such as `role: primary`"},
		{"two documents", whole + "---\nname: a\n", `node.yaml:4: a configuration is one document: remove what follows ---`},
		{"alias", whole + "name: &a x\nstate_dir: *a\n", `node.yaml:5: state_dir: aliases are not supported: write the value out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := problems(t, Sources{File: write(t, c.text)}); !slices.Contains(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}

func manyMirrors(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("- address: localhost:" + string(rune('1'+i/10)) + string(rune('0'+i%10)) + "\n")
	}
	return b.String()
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Setenv("STANDBYFS_HEARTBEAT", "often")
	t.Setenv("STANDBYFS_MIRROR", "localhost:1")
	got := problems(t, Sources{
		File:  write(t, "sync: barier\nrole: primary\nsnyc: op\nring: big\n"),
		Flags: parseFlags(t, "--sync", "opp", "--mirror", "localhost:1", "--mirror", "localhost"),
	})
	want := []string{
		`node.yaml:1: sync: "barier": want op or barrier: did you mean "barrier"?`,
		`node.yaml:3: snyc: there is no such key: did you mean "sync"?`,
		`node.yaml:4: ring: "big": want a size, such as 64KiB, 256MiB or 1.5GiB`,
		`STANDBYFS_MIRROR: there is no such setting: did you mean STANDBYFS_MIRRORS?`,
		`--mirror: "localhost": want HOST:PORT, such as 192.0.2.7:7420 or [2001:db8::7]:7420`,
		`--sync: "opp": want op or barrier: did you mean "op"?`,
		`STANDBYFS_HEARTBEAT: "often": want a duration, such as 500ms, 5s or 1m30s`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, whole+"ack_timeout: 1s\nheartbeat: 1s\nring: 1MiB\nname: file\nlog: {level: warn}\nmirrors: [{address: 'localhost:1'}]\n")
	t.Setenv("STANDBYFS_HEARTBEAT", "2s")
	t.Setenv("STANDBYFS_RING", "2MiB")
	t.Setenv("STANDBYFS_NAME", "variable")
	t.Setenv("STANDBYFS_LOG_LEVEL", "error")
	t.Setenv("STANDBYFS_RULES", "*.tmp=local /a/**=barrier")
	s := load(t, Sources{
		File:      file,
		Flags:     parseFlags(t, "--ring", "3MiB", "--name", "flag", "--mirror", "localhost:2", "--mirror=localhost:3,async", "--insecure"),
		Arguments: map[string]string{"name": "argument"},
	})
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"a default", s.OnShortage, "block"},
		{"the file over a default", s.AckTimeout, time.Second},
		{"a variable over the file", s.Heartbeat, 2 * time.Second},
		{"a nested variable over the file", s.Log.Level, "error"},
		{"a flag over a variable", s.Ring, int64(3 << 20)},
		{"an argument over a flag", s.Name, "argument"},
		{"a switch", s.Insecure, true},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	if want := []Mirror{{"localhost:2", "sync"}, {"localhost:3", "async"}}; !slices.Equal(s.Mirrors, want) {
		t.Errorf("mirrors: got %v, want %v", s.Mirrors, want)
	}
	if want := []Rule{{"*.tmp", "local"}, {"/a/**", "barrier"}}; !slices.Equal(s.Rules, want) {
		t.Errorf("rules: got %v, want %v", s.Rules, want)
	}
}

func TestEachKeyByEachWay(t *testing.T) {
	for _, k := range Keys() {
		if k.Default == "" {
			continue
		}
		if c := k.parse(&Settings{}, k.Default); len(c) > 0 {
			t.Errorf("%s: default %q is refused: %v", k.Name, k.Default, c)
		}
	}
	samples := map[string]string{"DIR": "/x", "FILE": "/x", "HOST:PORT": "localhost:1", "HOST:PORT[,async]": "localhost:1,async",
		"DURATION": "3s", "SIZE": "3MiB", "SIZE/s": "3MiB/s", "NUMBER": "1", "text": "x", "GLOB=op|barrier|local": "*.tmp=local"}
	for _, k := range Keys() {
		sample, ok := samples[k.Kind]
		if !ok {
			sample, _, _ = strings.Cut(k.Kind, "|")
		}
		t.Run(k.Name, func(t *testing.T) {
			var want Settings
			if c := k.parse(&want, sample); len(c) > 0 {
				t.Fatalf("%q is refused: %v", sample, c)
			}
			check := func(way string, from Sources) {
				t.Helper()
				l := newLoader(from)
				for i := range l.keys {
					if err := l.merge(&l.keys[i]); err != nil {
						t.Fatal(err)
					}
				}
				var got Settings
				if c := k.parse(&got, l.merged.Get(k.Name)); len(c) > 0 || len(l.found) > 0 || !reflect.DeepEqual(got, want) {
					t.Errorf("by %s: got %+v, want %+v; complaints %v %v", way, got, want, c, l.found)
				}
			}
			check("flag", Sources{Flags: parseFlags(t, "--"+k.FlagName()+"="+sample)})
			t.Setenv(k.Env(), sample)
			check("variable", Sources{})
		})
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	file := write(t, "role: primary\nreplica: data\nmountpoint: ../mount\n")
	s := load(t, Sources{File: file})
	if want := filepath.Join(filepath.Dir(file), "data"); s.Replica != want {
		t.Errorf("replica: got %s, want %s", s.Replica, want)
	}
	if want := filepath.Join(filepath.Dir(filepath.Dir(file)), "mount"); s.Mountpoint != want {
		t.Errorf("mountpoint: got %s, want %s", s.Mountpoint, want)
	}
}

func TestNoFile(t *testing.T) {
	if _, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want one that wraps ErrNotExist", err)
	}
}
