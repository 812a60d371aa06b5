package processors

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestShare(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for _, c := range []struct {
		have, want, waiting int
		set                 string // GOMAXPROCS in the environment
	}{
		{have: 1, want: 1, waiting: 16},
		{have: 2, want: 1, waiting: 16},
		{have: 8, want: 4, waiting: 16},
		{have: 40, want: 20, waiting: 40},
		{have: 8, want: 8, waiting: 8, set: "8"},
	} {
		synctest.Test(t, func(t *testing.T) {
			t.Setenv("GOMAXPROCS", c.set)
			runtime.GOMAXPROCS(c.have)
			uses := func(when string, want int) {
				t.Helper()
				synctest.Wait()
				if got := runtime.GOMAXPROCS(0); got != want {
					t.Errorf("of %d processors with GOMAXPROCS=%q, %s: %d, want %d", c.have, c.set, when, got, want)
				}
			}
			p := Share()
			uses("at first", c.want)
			for range 3 {
				p.Wait()
				uses("while somebody waits", c.waiting)
				time.Sleep(settled)
				uses("just after", c.waiting)
			}
			time.Sleep(2 * settled)
			uses("when nobody waits any more", c.want)
		})
	}
}

// TestCalm sees that a process starts itself anew once, as the same
// process, and keeps what its environment says.
func TestCalm(t *testing.T) {
	const child = "STANDBYFS_TEST_CALM"
	if os.Getenv(child) != "" {
		if err := Calm(); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("process %d with %s\n", os.Getpid(), os.Getenv("GODEBUG"))
		return
	}
	for _, c := range []struct{ set, want string }{
		{"", calm},
		{"http2client=0", "http2client=0," + calm},
		{"schedtrace=100000", "schedtrace=100000"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCalm$")
		cmd.Env = append(os.Environ(), child+"=1", "GODEBUG="+c.set)
		out := &strings.Builder{}
		cmd.Stdout = out
		if err := cmd.Run(); err != nil {
			t.Fatalf("GODEBUG=%s: %v\n%s", c.set, err, out)
		}
		if want := fmt.Sprintf("process %d with %s\n", cmd.Process.Pid, c.want); !strings.HasPrefix(out.String(), want) {
			t.Errorf("GODEBUG=%s: got %q, want %q", c.set, out, want)
		}
	}
}
