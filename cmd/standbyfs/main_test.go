package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/standbyfs/standbyfs/cmd/standbyfs/config"
	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/mirror"
)

// command runs a command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	code = run(t.Context(), args, &out, &problems)
	return code, out.String(), problems.String()
}

func eachVerb(verb *cobra.Command, do func(*cobra.Command)) {
	for _, c := range verb.Commands() {
		if c.Name() != "help" && c.Name() != "completion" { // cobra's own
			do(c)
			eachVerb(c, do)
		}
	}
}

func TestEveryHelpListsExitCodes(t *testing.T) {
	eachVerb(newRootCommand(), func(verb *cobra.Command) {
		if !strings.Contains(verb.Long, "EXIT CODES\n  ") {
			t.Errorf("%s: the help lists no exit codes", verb.CommandPath())
		}
		args := append(strings.Fields(verb.CommandPath())[1:], "--help")
		if code, stdout, _ := command(t, args...); code != exitOK || !strings.Contains(stdout, verb.Long) {
			t.Errorf("%v: exit code %d, help\n%s", args, code, stdout)
		}
	})
}

func TestEveryKeyIsAFlagOfServe(t *testing.T) {
	serve := newServeCommand()
	for _, k := range config.Keys() {
		if serve.Flags().Lookup(k.FlagName()) == nil {
			t.Errorf("serve has no --%s", k.FlagName())
		}
	}
}

func TestLimitsAgree(t *testing.T) {
	if config.MaxMirrors != mirror.MaxPeers {
		t.Errorf("the configuration allows %d mirrors, mirroring %d", config.MaxMirrors, mirror.MaxPeers)
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("rol: primary\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"statsu", exitCannot, `there is no verb "statsu": did you mean "status" or "state"?`},
		{"config chekc", exitCannot, `there is no verb "chekc": did you mean "check"?`},
		{"mount /r", exitCannot, "MOUNTPOINT is missing (see `standbyfs mount --help`)"},
		{"mount /r /m /x", exitCannot, `"/x" is one argument too many`},
		{"mount /r /m --snyc op", exitCannot, "unknown flag: --snyc"},
		{"mount /r /m --sync opp", exitCannot, `--sync: "opp": want op or barrier: did you mean "op"?`},
		{"mount /r /r/m", exitCannot, "argument MOUNTPOINT: /r/m is or lies in the replica /r: it must stand outside of it"},
		{"mirror /r", exitCannot, "--listen: is missing: a mirror needs a HOST:PORT"},
		{"mirror /r --listen :7420", exitCannot, "--listen: :7420 is beyond loopback and there are no certificates"},
		{"serve", exitCannot, "the configuration is missing: -c FILE"},
		{"serve -c " + bad, exitCannot, bad + `:1: rol: there is no such key: did you mean "role"?`},
		{"config check " + bad, exitNo, bad + `:1: rol: there is no such key: did you mean "role"?`},
		{"config check " + dir + "/none", exitCannot, "no such file"},
		{"status", exitCannot, "which node? name its replica directory, its mount point or -c FILE"},
		{"status /r -o xml", exitCannot, "want text, json or yaml"},
		{"verify " + dir, exitCannot, "no node is running"},
		{"promote " + dir + " --mount /m", exitCannot, "no node is running"},
		{"promote " + dir + " --mirror a", exitCannot, `--mirror "a": want HOST:PORT`},
		{"wait " + dir + " --timeout 1ms", exitNo, "not within 1ms: no node is running"},
		{"divergence list", exitCannot, "NODE is missing"},
		{"divergence show " + dir, exitCannot, "ID is missing"},
		{"divergence export " + dir + " 1", exitCannot, "DIR is missing"},
		{"divergence drop " + dir + " 1 2", exitCannot, `"2" is one argument too many`},
		{"divergence show " + dir + " 1", exitCannot, "read the state directory"},
		{"divergence show " + dir + " 1 --state " + dir, exitCannot, `divergence "1": there is no such divergence`},
		{"ca issue", exitCannot, "NAME is missing"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := command(t, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d\n%swant %s", code, c.code, stderr, c.want)
			}
			if stdout != "" || strings.Contains(stderr, "Usage:") || strings.Contains(stderr, "goroutine") {
				t.Errorf("more than the error is printed:\n%s%s", stdout, stderr)
			}
		})
	}
}

func TestStatusOfANodeThatNeverStarted(t *testing.T) {
	dir := t.TempDir()
	for form, want := range map[string]string{"text": "down: this node was never started", "json": `"verdict": "down"`, "yaml": "verdict: down"} {
		code, stdout, stderr := command(t, "status", dir, "-o", form)
		if code != exitCannot || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("-o %s: exit code %d\n%s%swant %s", form, code, stdout, stderr, want)
		}
	}
}

// A node is named by its configuration as well as by its replica.
func TestNoDivergences(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "node.yaml")
	text := "role: mirror\nlisten: 127.0.0.1:7420\nreplica: " + filepath.Join(dir, "r") + "\nstate_dir: " + dir + "\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"divergence", "list", "-c", file}, {"divergence", "list", dir, "--state", dir}} {
		if code, stdout, stderr := command(t, args...); code != exitOK || stdout != "no divergences\n" {
			t.Errorf("%q: exit code %d, %s%s", args, code, stdout, stderr)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for verdictWord, want := range map[admin.Verdict]int{admin.Healthy: 0, admin.Degraded: 1, admin.Down: 2} {
		if got := codeOf(verdict(&admin.Status{Verdict: verdictWord})); got != want {
			t.Errorf("status %s: exit code %d, want %d", verdictWord, got, want)
		}
	}
	equal, lost := mirror.PeerVerify{Checked: true}, mirror.PeerVerify{Reason: "gone"}
	different := mirror.PeerVerify{Checked: true, Differences: []string{"x"}}
	for _, c := range []struct {
		peers []mirror.PeerVerify
		want  int
	}{
		{[]mirror.PeerVerify{equal, equal}, 0},
		{[]mirror.PeerVerify{equal, different}, 1},
		{[]mirror.PeerVerify{equal, lost}, 2},
		{[]mirror.PeerVerify{lost, different}, 1},
	} {
		if got := codeOf(outcome(&mirror.VerifyReport{Peers: c.peers})); got != c.want {
			t.Errorf("verify %+v: exit code %d, want %d", c.peers, got, c.want)
		}
	}
}

func codeOf(err error) int {
	if err == nil {
		return exitOK
	}
	return exitCode(err)
}

func TestCompletionAndVersion(t *testing.T) {
	if code, stdout, _ := command(t, "completion", "bash"); code != exitOK || !strings.Contains(stdout, "standbyfs") {
		t.Errorf("completion: exit code %d", code)
	}
	if code, stdout, _ := command(t, "version"); code != exitOK || !strings.HasPrefix(stdout, "standbyfs ") {
		t.Errorf("version: exit code %d: %s", code, stdout)
	}
}
