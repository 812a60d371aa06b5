package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// check finds what is wrong with the settings as a whole; each value on its
// own is valid.
func (l *loader) check(s *Settings) {
	l.checkRole(s)
	l.checkMirrors(s)
	l.checkTLS(s)
	l.checkPaths(s)
}

// complain notes a problem at the place that decided about key.
func (l *loader) complain(key, format string, args ...any) {
	p := l.where(key)
	p.Text = fmt.Sprintf(format, args...)
	l.found = append(l.found, p)
}

func (l *loader) checkRole(s *Settings) {
	if s.Replica == "" {
		l.complain(KeyReplica, "is missing: name the directory that this node keeps")
	}
	switch {
	case s.Role == "":
		l.complain(KeyRole, "is missing: want primary or mirror")
	case s.Role == "primary" && s.Mountpoint == "":
		l.complain(KeyMountpoint, "is missing: a primary needs a directory to mount on")
	case s.Role == "mirror" && s.Listen == "":
		l.complain("listen", "is missing: a mirror needs a HOST:PORT at which its primary reaches it")
	}
}

func (l *loader) checkMirrors(s *Settings) {
	if len(s.Mirrors) > MaxMirrors {
		l.complain("mirrors", "%d mirrors: at most %d are possible", len(s.Mirrors), MaxMirrors)
	}
	synced, seen := 0, map[string]int{}
	for i, m := range s.Mirrors {
		if first, twice := seen[m.Address]; twice {
			l.complain(fmt.Sprintf("mirrors[%d].address", i), "%s is mirror %d already", m.Address, first+1)
			continue
		}
		seen[m.Address] = i
		if m.Mode == "sync" {
			synced++
		}
	}
	// A mirror need not know the mirrors: promote may name them.
	if s.MinInSync > synced && (s.Role == "primary" || len(s.Mirrors) > 0) {
		l.complain("min_in_sync", "%d: only %d mirrors have mode sync, so nothing could ever be acknowledged", s.MinInSync, synced)
	}
}

func (l *loader) checkTLS(s *Settings) {
	files := []struct{ key, value string }{{"tls.ca", s.TLS.CA}, {"tls.cert", s.TLS.Cert}, {"tls.key", s.TLS.Key}}
	some := s.TLS.CA != "" || s.TLS.Cert != "" || s.TLS.Key != ""
	for _, f := range files {
		switch {
		case f.value != "" && s.TLS.Dir != "":
			l.complain(f.key, "tls.dir names all three files already: give one or the other")
		case f.value == "" && some && s.TLS.Dir == "":
			l.complain(f.key, "is missing: without tls.dir all of tls.ca, tls.cert and tls.key are needed")
		}
	}
	if s.TLS.Given() || s.Insecure {
		return
	}
	const open = "%s is beyond loopback and there are no certificates: make them with `standbyfs ca init` and `standbyfs ca issue NAME` and set tls.dir, or set insecure: true if the network is yours alone"
	if s.Listen != "" && !loopback(s.Listen) {
		l.complain("listen", open, s.Listen)
	}
	for i, m := range s.Mirrors {
		if !loopback(m.Address) {
			l.complain(fmt.Sprintf("mirrors[%d].address", i), open, m.Address)
		}
	}
}

// loopback looks at the text alone: a name that a resolver answers today may
// be answered otherwise tomorrow.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return err == nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkPaths looks at the text alone; what the paths lead to is checked when
// the node starts.
func (l *loader) checkPaths(s *Settings) {
	if s.Replica == "" {
		return
	}
	for _, p := range []struct{ key, path string }{{"state_dir", s.StateDir}, {KeyMountpoint, s.Mountpoint}} {
		if p.path != "" && within(p.path, s.Replica) {
			l.complain(p.key, "%s is or lies in the replica %s: it must stand outside of it", p.path, s.Replica)
		}
	}
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(absolute(dir), absolute(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil { // there is no working directory
		return filepath.Clean(path)
	}
	return abs
}
