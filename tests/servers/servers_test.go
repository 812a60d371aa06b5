// Package servers runs unmodified servers on a mirrored mount, with real
// processes on every side, kills them at random moments, and checks what the
// promoted copy has. What is particular to a server is a module in drivers/;
// drivers/driver.py says what such a module has.
package servers

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/standbyfs/standbyfs/tests/harness"
)

var (
	rounds = flag.Int("rounds", harness.Number("ROUNDS", 3), "how often each server's machine is killed; also $ROUNDS")
	seed   = flag.Int("seed", harness.Number("SEED", 0), "what is killed, and when; 0 draws one; also $SEED")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestSQLite(t *testing.T) {
	t.Run("rollback journal", func(t *testing.T) {
		failover(t, driver{module: "sqlite", mode: "DELETE"})
	})
	t.Run("WAL", func(t *testing.T) {
		failover(t, driver{module: "sqlite", mode: "WAL"})
	})
}

func TestPostgreSQL(t *testing.T) {
	failover(t, driver{module: "postgresql", server: true})
}

func TestRedis(t *testing.T) {
	failover(t, driver{module: "redis", server: true})
}

// TestZEO packs with zeopack while clients commit. tests/zodb has rounds with
// clients that live through a failover.
func TestZEO(t *testing.T) {
	failover(t, driver{module: "zeo", server: true})
}

// TestRepozo takes backups from a mirror's replica while clients commit.
func TestRepozo(t *testing.T) {
	failover(t, driver{module: "repozo", server: true, meanwhile: func(g *game) {
		mirror := g.mirrors[g.dice.IntN(len(g.mirrors))]
		for step := range 5 {
			g.ask("backup", "--replica", mirror.Replica, "--step", fmt.Sprint(step))
		}
	}})
}

func TestLMDB(t *testing.T) {
	failover(t, driver{module: "lmdb"})
}

func TestGit(t *testing.T) {
	failover(t, driver{module: "git"})
}

func TestMaildir(t *testing.T) {
	failover(t, driver{module: "maildir"})
}

// root is the top directory of the project.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// install makes sure that the servers and what drives them are there.
func install(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("make", "--silent", "-C", root(t), "servers-installed").CombinedOutput(); err != nil {
		t.Fatalf("make servers-installed: %v\n%s", err, out)
	}
}

// draw returns the test's dice. Each test has its own, so that one of them
// alone does what it does among all.
func draw(t *testing.T) *rand.Rand {
	t.Helper()
	if *seed == 0 {
		*seed = 1 + rand.IntN(1_000_000)
	}
	t.Logf("SEED=%d ROUNDS=%d", *seed, *rounds)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with SEED=%d ROUNDS=%d go test ./tests/servers -run '%s'", *seed, *rounds, t.Name())
		}
	})
	of := fnv.New64a()
	of.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(uint64(*seed), of.Sum64()))
}

// openUp lets ordinary users into the test's temporary directories.
func openUp(t *testing.T) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(t.TempDir()), 0o755); err != nil {
		t.Fatal(err)
	}
}
