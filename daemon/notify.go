package daemon

import (
	"log/slog"
	"net"
	"os"
	"strings"
)

// notify tells a service manager about the node, as sd_notify(3) does: lines
// such as READY=1. Without one, or if it does not listen, nothing happens: a
// node must not fail because of who watches it.
func notify(logger *slog.Logger, lines ...string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	// A leading @ stands for the abstract name space; net knows that, too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		logger.Warn("cannot reach the service manager", "socket", path, "error", err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		logger.Warn("cannot tell the service manager", "socket", path, "error", err)
	}
}
