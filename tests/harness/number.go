package harness

import (
	"os"
	"strconv"
)

// Number returns the number above 0 that an environment variable holds, or
// otherwise, if it holds none.
func Number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return otherwise
}
