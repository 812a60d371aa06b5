// Package processors sees to what a node costs the machine between two ops: how
// many processors the process uses, and what its runtime does while it waits.
package processors

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Use is how many of the machine's processors this process uses. A node with mirrors
// leaves half of them to the server that it works for. It also makes the node
// faster: an op passes through several goroutines, and where processors idle
// the runtime wakes a thread for each of these steps, which takes longer than
// what the goroutine has to do.
//
// A goroutine that waits for a disk keeps its processor, though. While there
// are such, the process uses more.
type Use struct {
	few, many int
	waited    atomic.Bool // Wait was called since settle looked

	mu    sync.Mutex  // guards timer and the number in use
	timer *time.Timer // calls settle; nil while few are used
}

const (
	// waiting is how many goroutines may wait for disks before others are held up.
	waiting = 16
	// settled is how long nobody has waited before few processors are enough.
	settled = time.Second
)

// Share makes the process use few processors. Whoever knows better
// sets GOMAXPROCS in the environment: then the number stays.
func Share() *Use {
	p := &Use{few: runtime.GOMAXPROCS(0), many: runtime.GOMAXPROCS(0)}
	if os.Getenv("GOMAXPROCS") == "" {
		p.few = max(1, p.few/2)
		p.many = max(p.many, waiting)
		runtime.GOMAXPROCS(p.few)
	}
	return p
}

// Wait says that the caller is about to wait for a disk.
func (p *Use) Wait() {
	if p.few == p.many || p.waited.Swap(true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		runtime.GOMAXPROCS(p.many)
		p.timer = time.AfterFunc(settled, p.settle)
	}
}

// settle goes back to few processors unless somebody has waited.
func (p *Use) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waited.Swap(false) {
		p.timer.Reset(settled)
		return
	}
	runtime.GOMAXPROCS(p.few)
	p.timer = nil
}

// calm makes the runtime print statistics, a line once in 24 days; on a machine
// that has been up for longer the first line comes at the start.
const calm = "schedtrace=2147483647"

// Calm keeps the runtime's monitor from being woken at each op. The
// monitor is a thread that sleeps while all goroutines wait, and the next system
// call wakes it. An op waits for several things, one after the other, so it paid
// for a handful of such wake-ups, more than for itself. As long as the monitor is
// to print statistics it stays awake, and where nothing happens looks but once in
// 10 ms. Only the environment can ask for that: the program starts itself anew,
// with the same process ID. It returns if that is done or cannot be done.
func Calm() error {
	const name = "GODEBUG"
	set := os.Getenv(name)
	if strings.Contains(set, "schedtrace=") {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := os.Setenv(name, strings.TrimPrefix(set+","+calm, ",")); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return fmt.Errorf("start %s anew: %w", program, unix.Exec(program, os.Args, os.Environ()))
}
