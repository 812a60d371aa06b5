package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// work is what a load process does, whatever it does it to.
type work struct {
	Kind    string        `json:"kind"` // a key of loads
	Threads int           `json:"threads"`
	Size    int           `json:"size"`   // bytes a call, or files in a directory
	Every   int           `json:"every"`  // for writes: calls between two fdatasync; 0 never
	Count   int           `json:"count"`  // steps in all; 0: as many as there is time for
	Time    time.Duration `json:"time"`   // how long to measure
	Flavor  string        `json:"flavor"` // of a program's load
	Keep    bool          `json:"keep"`   // the files are made once and stay for the next repeat
}

// job is one measurement of one configuration. A process must not use a mount
// that it serves, so loads are processes of their own; each runs one job and
// prints its samples.
type job struct {
	work
	Dir     string `json:"dir"`     // where to work
	Below   string `json:"below"`   // the same directory below the mount; Dir itself where there is none
	Mount   string `json:"mount"`   // the mount point; "" where there is none
	Input   string `json:"input"`   // a folder for what is read and the same for all configurations
	Python  string `json:"python"`  // an interpreter that has ZODB
	Config  string `json:"config"`  // the configuration's name
	Address string `json:"address"` // of a receiver on the wire
	Secret  string `json:"secret"`  // directory of certificates for it
	Servers []int  `json:"servers"` // processes that serve the mount, mirrors too
	Seed    int64  `json:"seed"`
}

// sample is what one phase of a job has measured.
type sample struct {
	Ops       int64     `json:"ops"`
	Seconds   float64   `json:"seconds"`
	Latency   latencies `json:"latency"`
	LoadCPU   float64   `json:"load_cpu"`   // seconds
	ServerCPU float64   `json:"server_cpu"` // seconds, all servers
	PeakKiB   int64     `json:"peak_kib"`   // largest resident sizes of the servers, added up
}

// rate is ops a second.
func (s *sample) rate() float64 { return float64(s.Ops) / s.Seconds }

// add puts t behind s.
func (s *sample) add(t *sample) {
	s.Ops += t.Ops
	s.Seconds += t.Seconds
	s.Latency.merge(&t.Latency)
	s.LoadCPU += t.LoadCPU
	s.ServerCPU += t.ServerCPU
	s.PeakKiB = max(s.PeakKiB, t.PeakKiB)
}

// samples are the phases of one job, by name.
type samples map[string]*sample

// step is one call of a thread, the i-th. It returns errDone, without having
// done anything, when nothing is left to do.
type step func(i int) error

var errDone = errors.New("nothing is left to do")

// loader runs one job.
type loader struct {
	job
	out   samples
	light bool // threads are goroutines
}

// warmup is the part of the time before the measured one in which the same is
// done: queues fill up to where they stay.
const warmup = 3 // one third

// timed runs steps in as many threads as the job has until its time is over or
// nothing is left to do, and keeps the sample under name. prepare makes what a
// thread needs.
//
// Each thread is an OS thread, and its system calls keep their place in Go's
// scheduler (unix.RawSyscall), so that nothing but the call is measured.
func (l *loader) timed(name string, warm bool, prepare func(thread int) (step, error)) error {
	if !l.light {
		runtime.GOMAXPROCS(l.Threads + 2)
		debug.SetGCPercent(-1)
	}
	var (
		ready, done sync.WaitGroup
		start       = make(chan struct{})
		counting    atomic.Bool
		stop        atomic.Bool
		counts      = make([]int64, l.Threads)
		lat         = make([]latencies, l.Threads)
		errs        = make([]error, l.Threads)
	)
	counting.Store(!warm)
	for t := range l.Threads {
		call, err := prepare(t)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		ready.Add(1)
		done.Go(func() {
			if !l.light {
				runtime.LockOSThread()
			}
			lat[t].counts = make([]int64, buckets)
			ready.Done()
			<-start
			last := time.Since(epoch)
			for i := 0; !stop.Load(); i++ {
				counted := counting.Load()
				err := call(i)
				now := time.Since(epoch)
				if err != nil {
					if !errors.Is(err, errDone) {
						errs[t] = err
					}
					return
				}
				if counted {
					counts[t]++
					lat[t].add(now - last)
				}
				last = now
			}
		})
	}
	ready.Wait()
	ended := make(chan struct{})
	go func() { done.Wait(); close(ended) }()
	before := l.usage()
	began := time.Since(epoch)
	close(start)
	if warm {
		pause(ended, l.Time/warmup)
		before, began = l.usage(), time.Since(epoch)
		counting.Store(true)
	}
	pause(ended, l.Time)
	took := time.Since(epoch) - began
	after := l.usage()
	stop.Store(true)
	<-ended
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s := &sample{Seconds: took.Seconds(), LoadCPU: after.load - before.load, ServerCPU: after.servers - before.servers, PeakKiB: after.peak}
	for t := range l.Threads {
		s.Ops += counts[t]
		s.Latency.merge(&lat[t])
	}
	if s.Ops == 0 {
		return fmt.Errorf("%s: not one call ended within %s", name, l.Time)
	}
	l.out[name] = s
	return nil
}

// epoch is the zero of the clock of latencies.
var epoch = time.Now()

// pause waits for a time or until the threads have nothing to do any more.
func pause(ended <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	}
}

// used is what processes have used up to now.
type used struct {
	load, servers float64 // CPU seconds
	peak          int64   // KiB
}

func (l *loader) usage() used {
	var u used
	var self unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &self) == nil {
		u.load = float64(self.Utime.Nano()+self.Stime.Nano()) / 1e9
	}
	for _, pid := range l.Servers {
		u.servers += cpuSeconds(pid)
		u.peak += peakKiB(pid)
	}
	return u
}

// cpuSeconds is the time that a process has run, in all of its threads.
func cpuSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseCPU(string(b))
}

// parseCPU reads user and system time from the text of /proc/PID/stat, which
// counts in hundredths of a second.
func parseCPU(stat string) float64 {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// peakKiB is a process's largest resident size since it was last forgotten.
func peakKiB(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "VmHWM:")
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n
}

// forgetPeak makes a process's present resident size its largest.
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// loadMain is the load process: it runs the job in its argument and prints the
// samples.
func loadMain(args []string) error {
	if len(args) != 1 {
		return errors.New("load wants one job")
	}
	l := &loader{out: samples{}}
	if err := json.Unmarshal([]byte(args[0]), &l.job); err != nil {
		return fmt.Errorf("the job: %w", err)
	}
	run, ok := loads()[l.Kind]
	if !ok {
		return fmt.Errorf("there is no load %q", l.Kind)
	}
	unix.Umask(0o022)
	if err := run(l); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(l.out)
}

// loads are the jobs that load processes know.
func loads() map[string]func(*loader) error {
	return map[string]func(*loader) error{
		"write":    loadWrite,
		"append":   loadAppend,
		"random":   loadRandom,
		"names":    loadNames,
		"read":     loadRead,
		"reopen":   loadReopen,
		"mapped":   loadMapped,
		"cold":     loadCold,
		"list":     loadList,
		"archive":  loadArchive,
		"zodb":     loadZODB,
		"sqlite":   loadSQLite,
		"postgres": loadPostgres,
		"wire":     loadWire,
		"parts":    loadParts,
		"flow":     loadFlow,
		"churn":    loadChurn,
		"steady":   loadSteady,
		"create":   loadCreate,
		"grow":     loadGrow,
	}
}

// patience bounds one load process beyond the time it is to measure.
const patience = 2 * time.Minute

// runLoad runs a job in a process of its own.
func runLoad(ctx context.Context, j job) (samples, error) {
	if err := os.MkdirAll(j.Dir, 0o755); err != nil {
		return nil, err
	}
	if !j.Keep {
		defer remove(j)
	}
	for _, pid := range j.Servers {
		if err := forgetPeak(pid); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	out, err := child(ctx, j.Time+patience, "load", string(text))
	if err != nil {
		return nil, fmt.Errorf("load %s on %s: %w", j.Kind, j.Dir, err)
	}
	got := samples{}
	return got, json.Unmarshal(out, &got)
}

// remove takes away what a job has left and brings that to the disk: see
// scatter.
func remove(j job) {
	os.RemoveAll(j.Dir)
	if fd, err := unix.Open(filepath.Dir(j.Below), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		unix.Syncfs(fd)
		unix.Close(fd)
	}
}

// child runs this program again, in another role, and returns what it prints.
func child(ctx context.Context, limit time.Duration, args ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return output(ctx, limit, exec.Command(self, args...))
}

// output runs a command and returns what it prints.
func output(ctx context.Context, limit time.Duration, cmd *exec.Cmd) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// Go interrupts threads that run for long by a signal; a FUSE request would
	// be told of each.
	cmd.Env = append(cmd.Environ(), "GODEBUG=asyncpreemptoff=1")
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = unix.SIGKILL, true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, &stderr, &stdout)
	}
	return []byte(stdout.String()), nil
}
