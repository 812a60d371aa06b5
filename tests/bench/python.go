package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Loads that are unmodified programs of others are driven from Python.
//
//go:embed *.py
var scripts embed.FS

// loadZODB commits to a FileStorage, through as many clients of a ZEO server as
// the job has threads; 0 opens the storage directly.
func loadZODB(l *loader) error { return l.python("zodb.py", "commit") }

// loadSQLite makes transactions.
func loadSQLite(l *loader) error { return l.python("sqlite.py", "transaction") }

// python runs a script and keeps what it has measured.
func (l *loader) python(script, name string) error {
	if _, err := os.Stat(l.Python); err != nil {
		return fmt.Errorf("%s needs ZODB in a virtual environment (make venv): %w", script, err)
	}
	local := filepath.Join(l.Input, script+".tmp")
	if err := os.MkdirAll(local, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(local)
	if err := os.CopyFS(filepath.Join(local, "scripts"), scripts); err != nil {
		return err
	}
	args := []string{filepath.Join(local, "scripts", script), l.Dir, l.Flavor, fmt.Sprint(l.Time.Seconds()), strconv.Itoa(l.Threads)}
	for _, pid := range l.Servers {
		args = append(args, strconv.Itoa(pid))
	}
	cmd := exec.Command(l.Python, args...)
	cmd.Dir = local
	cmd.Env = append(os.Environ(), "TMPDIR="+local)
	out, err := output(context.Background(), l.Time+patience, cmd)
	if err != nil {
		return err
	}
	var got struct {
		Latency   []int64 `json:"latency"` // ns
		Seconds   float64 `json:"seconds"`
		LoadCPU   float64 `json:"load_cpu"`
		ServerCPU float64 `json:"server_cpu"`
		PeakKiB   int64   `json:"peak_kib"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("%s: %w", script, err)
	}
	s := &sample{Ops: int64(len(got.Latency)), Seconds: got.Seconds, LoadCPU: got.LoadCPU, ServerCPU: got.ServerCPU, PeakKiB: got.PeakKiB}
	var lat latencies
	for _, ns := range got.Latency {
		lat.add(time.Duration(ns))
	}
	s.Latency.merge(&lat)
	l.out[name] = s
	return nil
}
