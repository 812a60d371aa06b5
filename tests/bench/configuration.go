package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what lies between a program and its files.
type kind string

const (
	native   kind = "native"   // a plain directory
	loopback kind = "loopback" // go-fuse's loopback example
	null     kind = "null"     // our file system with the null Committer
	mirrored kind = "mirrored" // the standbyfs program with mirrors
	gluster  kind = "gluster"  // GlusterFS, replicated, with its FUSE client
	wired    kind = "wired"    // no file system: what carries ops between two processes
)

// configuration is one of the things that are compared.
type configuration struct {
	Name    string        `json:"name"`
	Kind    kind          `json:"kind"`
	Mirrors int           `json:"mirrors,omitempty"` // or GlusterFS's replicas
	Sync    string        `json:"sync,omitempty"`    // "op" or "barrier"
	Plain   bool          `json:"plain,omitempty"`   // without TLS
	Delay   time.Duration `json:"delay,omitempty"`   // of the network, in each direction
}

var (
	mirrorName  = regexp.MustCompile(`^(op|barrier)([1-9][0-9]?)(-plain)?$`)
	wireName    = regexp.MustCompile(`^(yamux|bare)-(tls|plain)$`)
	glusterName = regexp.MustCompile(`^gluster([23])$`)
)

// parseConfiguration reads a name: native, loopback, null, op1, barrier3,
// op1-plain, gluster2. delay is for those with mirrors.
func parseConfiguration(name string, delay time.Duration) (configuration, error) {
	c := configuration{Name: name}
	switch k := kind(name); k {
	case native, loopback, null:
		c.Kind = k
		return c, nil
	}
	if m := mirrorName.FindStringSubmatch(name); m != nil {
		c.Kind, c.Sync, c.Plain, c.Delay = mirrored, m[1], m[3] != "", delay
		c.Mirrors, _ = strconv.Atoi(m[2])
		if c.Mirrors <= 32 {
			return c, nil
		}
	}
	if wireName.MatchString(name) {
		c.Kind = wired
		return c, nil
	}
	if m := glusterName.FindStringSubmatch(name); m != nil {
		c.Kind = gluster
		c.Mirrors, _ = strconv.Atoi(m[1])
		return c, nil
	}
	return c, fmt.Errorf("configuration %q: want native, loopback, null, op1 to op32, barrier1 to barrier32, one of these with -plain, gluster2, gluster3, yamux-tls, bare-tls, yamux-plain or bare-plain", name)
}

// describe says what a configuration is, for the head of the table.
func (c configuration) describe() string {
	switch c.Kind {
	case native:
		return "a plain directory"
	case loopback:
		return "go-fuse's loopback example, with CAP_PASSTHROUGH off: with it the kernel would write past the daemon"
	case null:
		return "our file system with the null Committer"
	case wired:
		return map[string]string{
			"yamux-tls":   "the log stream of a session between nodes, TLS",
			"bare-tls":    "a TLS connection and nothing else",
			"yamux-plain": "the log stream of a session between nodes, plain TCP",
			"bare-plain":  "a TCP connection and nothing else",
		}[c.Name]
	case gluster:
		return fmt.Sprintf("GlusterFS, replica %d, its FUSE client, all on this machine", c.Mirrors)
	}
	s := fmt.Sprintf("standbyfs with %d mirrors, sync: %s", c.Mirrors, c.Sync)
	if c.Mirrors == 1 {
		s = fmt.Sprintf("standbyfs with one mirror, sync: %s", c.Sync)
	}
	if c.Plain {
		s += ", plain TCP"
	} else {
		s += ", TLS"
	}
	if c.Delay > 0 {
		s += fmt.Sprintf(", %s away in each direction", c.Delay)
	}
	return s
}

// standard are the configurations of every row, and more those that a row
// about mirrors has, too.
var (
	standard = []string{"native", "loopback", "null", "op1", "barrier1"}
	more     = []string{"op1-plain", "op2", "op3", "op10", "barrier10"}
	every    = []string{"barrier1-plain", "barrier2", "barrier3"}
	peers    = []string{"gluster2", "gluster3"}
	wires    = []string{"yamux-tls", "bare-tls", "yamux-plain", "bare-plain"}
)

// split reads a list separated by commas.
func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

// errUnavailable says that something cannot be measured on this machine. The
// run goes on without and says so.
var errUnavailable = errors.New("not available here")
