package wire

import (
	"testing"

	"go.uber.org/goleak"
)

// Every session that a test opens must be gone, with all its goroutines.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
