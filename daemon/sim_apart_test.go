// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// byItself runs a test of simulated nodes in a process of its own, and reports
// whether it did: in that process it does not. yamux keeps timers in a pool, and
// one that was made in a bubble must not come to a session outside of it, such as
// those that other tests have left to time out.
func byItself(t *testing.T) bool {
	t.Helper()
	const inside = "STANDBYFS_SIMULATED"
	if os.Getenv(inside) != "" {
		return false
	}
	run := flag.Lookup("test.run").Value.String()
	if !strings.Contains(run, t.Name()) {
		run = "^" + t.Name() + "$"
	}
	args := []string{"-test.run=" + run, "-test.count=1", "-test.v=" + flag.Lookup("test.v").Value.String()}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).Round(time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), inside+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return true
}
