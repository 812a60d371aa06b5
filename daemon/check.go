package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/standbyfs/standbyfs/daemon/keep"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/mountinfo"
	"github.com/standbyfs/standbyfs/mirror"
)

// ErrInsecure: an address beyond loopback without TLS.
var ErrInsecure = errors.New("only loopback is served without certificates")

// prepared returns c with its defaults filled in and its paths absolute, or an
// error if a node must not start with it. Nothing has been changed then, and
// nothing outside of the machine has been asked.
func (c Config) prepared() (Config, error) {
	if c.Role != Primary && c.Role != Mirror {
		return c, fmt.Errorf("role %q: want %s or %s", c.Role, Primary, Mirror)
	}
	if c.Logger == nil || c.Ready == nil {
		return c, errors.New("daemon.Config needs Logger and Ready")
	}
	if c.Role == Mirror && c.Listen == "" {
		return c, errors.New("a mirror needs an address at which its primary reaches it: --listen HOST:PORT")
	}
	if c.Role == Primary && c.Mountpoint == "" {
		return c, errors.New("a primary needs a mount point")
	}
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("find the host name (or give the node a name): %w", err)
		}
		c.Name = filepath.Base(c.Replica) + "@" + name
	}
	switch c.KeepConsistent {
	case "":
		c.KeepConsistent = keep.Auto
	case keep.Auto, keep.On, keep.Off:
	default:
		return c, fmt.Errorf("keep_consistent %q: want %s, %s or %s", c.KeepConsistent, keep.Auto, keep.On, keep.Off)
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Second
	}
	c.Mirror = c.Mirror.withDefaults()
	if err := c.checkAddrs(c.Mirror.Peers); err != nil {
		return c, err
	}
	if err := c.Mirror.check(c.Role, c.Mirror.Peers); err != nil {
		return c, err
	}
	return c.checkPaths()
}

// check refuses a policy that could not be reigned with. A mirror must not find
// that out when it takes over; what it needs then may still be missing.
func (m *Mirroring) check(role Role, peers []mirror.PeerConfig) error {
	policy := m.config(peers)
	if role == Mirror {
		policy.MinInSync = 0
	}
	synced := 0
	for _, p := range peers {
		if !p.Async {
			synced++
		}
	}
	if policy.MinInSync < 0 || policy.MinInSync > synced {
		return fmt.Errorf("min_in_sync is %d, and there are %s to be in sync: name more with --mirror, or lower it", m.MinInSync, plural(synced, "mirror"))
	}
	// Making a log sends nothing and takes no memory worth mentioning.
	if _, err := mirror.New(policy); err != nil {
		return fmt.Errorf("mirroring: %w", err)
	}
	return nil
}

// config is the policy's part of what mirror.New wants.
func (m *Mirroring) config(peers []mirror.PeerConfig) mirror.Config {
	return mirror.Config{
		Sync: m.Sync, Rules: m.Rules, MinInSync: m.MinInSync, OnShortage: m.OnShortage,
		AckTimeout: m.AckTimeout, Heartbeat: m.Heartbeat, RingBytes: m.RingBytes, Peers: peers,
		CheckpointEvery: m.CheckpointEvery,
		ResyncRate:      m.ResyncRate, VerifyRate: m.VerifyRate,
	}
}

func (m Mirroring) withDefaults() Mirroring {
	if m.Sync == "" {
		m.Sync = mirror.SyncOp
	}
	if m.OnShortage == "" {
		m.OnShortage = mirror.ShortageBlock
	}
	if m.AckTimeout == 0 {
		m.AckTimeout = 5 * time.Second
	}
	if m.Heartbeat == 0 {
		m.Heartbeat = time.Second
	}
	if m.CheckpointEvery == 0 {
		m.CheckpointEvery = 15 * time.Second
	}
	if m.RingBytes == 0 {
		m.RingBytes = 256 << 20
	}
	return m
}

// checkAddrs refuses to speak plain TCP beyond this machine.
func (c *Config) checkAddrs(peers []mirror.PeerConfig) error {
	if c.Listen != "" {
		if err := c.checkAddr("listen on", c.Listen); err != nil {
			return err
		}
	}
	for _, p := range peers {
		if err := c.checkAddr("connect to mirror", p.Addr); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkAddr(what, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: want HOST:PORT: %w", what, addr, err)
	}
	if c.TLS != nil || c.Insecure || loopback(host) {
		return nil
	}
	return fmt.Errorf("%s %s: %w: make them with `standbyfs ca init` and `standbyfs ca issue %s`, or write `insecure: true` (--insecure) if the network is yours alone",
		what, addr, ErrInsecure, c.Name)
}

// loopback looks at the text alone: a name that a resolver answers today may be
// answered otherwise tomorrow.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkPaths makes the paths absolute and refuses a lay-out in which one of
// them would be mirrored into, or hidden by, another.
func (c Config) checkPaths() (Config, error) {
	var err error
	if c.Replica, err = directory("replica", c.Replica); err != nil {
		return c, err
	}
	if err := oneFileSystem(c.Replica); err != nil {
		return c, err
	}
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir(c.Replica)
	}
	if c.StateDir, err = resolve(c.StateDir); err != nil {
		return c, fmt.Errorf("state directory: %w", err)
	}
	if err := apart("state directory", c.StateDir, "replica", c.Replica); err != nil {
		return c, err
	}
	if c.Role == Primary {
		c.Mountpoint, err = c.checkMountpoint(c.Mountpoint)
	}
	return c, err
}

// oneFileSystem refuses a replica in which something is mounted. One sync of the
// replica's file system has to make all of it durable (RULES.md 2, and 10,
// SyncBeforeJoin), and what is not mounted one day would be served as empty.
func oneFileSystem(replica string) error {
	mounts, err := mountinfo.Read()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.Point, strings.TrimSuffix(replica, "/")+"/") {
			return fmt.Errorf("something is mounted in replica %s, at %s (%s): unmount it, or give it a volume of its own", replica, m.Point, m.Type)
		}
	}
	return nil
}

func (c *Config) checkMountpoint(mountpoint string) (string, error) {
	mountpoint, err := directory("mount point", mountpoint)
	if err != nil {
		return "", err
	}
	return mountpoint, errors.Join(
		apart("mount point", mountpoint, "replica", c.Replica),
		apart("mount point", mountpoint, "state directory", c.StateDir))
}

// directory returns the path of a directory that exists. A mount point whose
// daemon was killed counts: it is cleaned later.
func directory(what, path string) (string, error) {
	path, err := resolve(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return path, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s %s does not exist: make it with `mkdir %s`", what, path, path)
	case err != nil:
		return "", fmt.Errorf("%s: %w", what, err)
	case !st.IsDir():
		return "", fmt.Errorf("%s %s is not a directory", what, path)
	}
	return path, nil
}

// resolve returns path as absolute and without symbolic links, as far as it
// exists.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTCONN) {
		parent, err := filepath.EvalSymlinks(filepath.Dir(path))
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		return filepath.Join(parent, filepath.Base(path)), err
	}
	return real, err
}

// apart returns an error if a is b or one of them lies in the other.
func apart(whatA, a, whatB, b string) error {
	switch {
	case same(a, b):
		return fmt.Errorf("%s %s is the %s: it must be another directory", whatA, a, whatB)
	case within(a, b):
		return fmt.Errorf("%s %s lies in the %s %s: it must stand outside of it", whatA, a, whatB, b)
	case within(b, a):
		return fmt.Errorf("%s %s lies in the %s %s: it must stand outside of it", whatB, b, whatA, a)
	}
	return nil
}

// within reports whether path lies below dir. Directories are compared by
// identity, so that a bind mount does not hide it.
func within(path, dir string) bool {
	for parent := filepath.Dir(path); parent != path; path, parent = parent, filepath.Dir(parent) {
		if same(parent, dir) {
			return true
		}
	}
	return false
}

func same(a, b string) bool {
	if a == b {
		return true
	}
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

// Errors of a node that was started in a role that its state does not allow.
var (
	// ErrIsMirror: the state is a mirror's; only a promotion makes it primary.
	ErrIsMirror = errors.New("this is a mirror")
	// ErrDeposed: another node took over from this primary.
	ErrDeposed = errors.New("this primary was deposed")
)

// admit refuses a role that the state does not allow. A killed primary may
// start as a mirror; a mirror becomes the primary by promotion alone.
func admit(cfg Config, s state.State) error {
	if cfg.Role == Mirror || s.Role != Mirror || s.Volume == "" {
		return nil
	}
	if s.Deposed() {
		return fmt.Errorf("%w: epoch %s took over; start it with `standbyfs mirror %s --listen HOST:PORT`, and the new primary brings it level",
			ErrDeposed, s.Epoch, cfg.Replica)
	}
	return fmt.Errorf("%w: start it with `standbyfs mirror %s --listen HOST:PORT` and, if it is to take over, run `standbyfs promote %s --mount %s`",
		ErrIsMirror, cfg.Replica, cfg.Replica, cfg.Mountpoint)
}
