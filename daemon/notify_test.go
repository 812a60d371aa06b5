package daemon

import (
	"net"
	"path/filepath"
	"testing"
)

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	notify(quiet, "READY=1", "STATUS=serves")
	text := make([]byte, 100)
	n, err := conn.Read(text)
	if err != nil || string(text[:n]) != "READY=1\nSTATUS=serves" {
		t.Errorf("got %q, %v", text[:n], err)
	}
}

func TestNotifyNobody(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "none")} {
		t.Setenv("NOTIFY_SOCKET", path)
		notify(quiet, "READY=1") // returns, and harms nothing
	}
}
