package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clients of pgbench at a time.
const pgClients = 4

// loadPostgres runs pgbench's own transactions on a PostgreSQL server whose
// database is in the directory. The database is made once.
func loadPostgres(l *loader) (err error) {
	bin, err := postgresPrograms()
	if err != nil {
		return err
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	// Sockets have short paths only.
	local, err := os.MkdirTemp("", "bench-postgres-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(local)
	if err := errors.Join(os.Chown(local, uid, gid), os.Chown(l.Dir, uid, gid)); err != nil {
		return err
	}
	run := func(limit time.Duration, program string, args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir, cmd.Env = local, []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + local}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return output(context.Background(), limit, cmd)
	}
	data := filepath.Join(l.Dir, "pg")
	_, made := os.Stat(filepath.Join(l.Dir, "made"))
	if made != nil {
		if _, err := run(patience, "initdb", "-D", data, "--auth=trust", "--no-sync"); err != nil {
			return err
		}
	}
	if _, err := run(patience, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(local, "log"), "-o", "-k "+local+" -c listen_addresses=", "start"); err != nil {
		said, _ := os.ReadFile(filepath.Join(local, "log"))
		return fmt.Errorf("%w: %s", err, said)
	}
	defer func() {
		_, stopped := run(patience, "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
		err = errors.Join(err, stopped)
	}()
	if made != nil {
		if _, err := run(patience, "pgbench", "-h", local, "-i", "-q", "postgres"); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(l.Dir, "made"), nil, 0o644); err != nil {
			return err
		}
	}
	// It counts in whole seconds.
	seconds := max(int(l.Time.Round(time.Second).Seconds()), 1)
	before := l.usage()
	if _, err := run(patience, "pgbench", "-h", local, "-n", "-c", strconv.Itoa(pgClients), "-T", strconv.Itoa(seconds), "-l", "postgres"); err != nil {
		return err
	}
	after := l.usage()
	s := &sample{Seconds: float64(seconds), ServerCPU: after.servers - before.servers, PeakKiB: after.peak}
	logs, err := filepath.Glob(filepath.Join(local, "pgbench_log.*"))
	if err != nil {
		return err
	}
	var lat latencies
	for _, log := range logs {
		if err := readTransactions(log, &lat); err != nil {
			return err
		}
	}
	s.Latency.merge(&lat)
	for _, n := range s.Latency.Buckets {
		s.Ops += n
	}
	if s.Ops == 0 {
		return errors.New("pgbench has not logged a transaction")
	}
	l.out["transaction"] = s
	return nil
}

// readTransactions adds the latencies in a log of pgbench: client, number,
// microseconds, and more.
func readTransactions(path string, lat *latencies) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			return fmt.Errorf("%s: line %q", path, lines.Text())
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		lat.add(time.Duration(us) * time.Microsecond)
	}
	return lines.Err()
}

// postgresPrograms finds Debian's folder with the newest server's programs.
func postgresPrograms() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed")
	}
	return filepath.Dir(found[len(found)-1]), nil
}
