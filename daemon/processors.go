package daemon

import (
	"os"
	"runtime"
)

// ShareProcessors leaves half of the processors to the server that the process
// works for. It also makes the process faster: an op passes through several
// goroutines, and where processors idle the runtime wakes a thread for each of
// these steps, which takes longer than what the goroutine has to do. Whoever
// knows better sets GOMAXPROCS in the environment.
func ShareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}
