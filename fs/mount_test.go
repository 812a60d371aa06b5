package fs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/tree"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childEnv names the child case that a re-executed test binary runs, with its
// directory behind a colon.
const childEnv = "STANDBYFS_TEST_CHILD"

func TestMain(m *testing.M) {
	if name, dir, ok := strings.Cut(os.Getenv(childEnv), ":"); ok {
		err := become(os.Getenv(childEnv + "_AS"))
		if err == nil {
			err = children[name](dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	unix.Umask(0) // as it is from the first mount on
	goleak.VerifyTestMain(m)
}

// children run in a process of their own: as another user, or because they map
// a file of the mount, which the process that serves it must not.
var children = map[string]func(dir string) error{}

// child runs a child case in dir, as root or as the given user and group.
func child(t *testing.T, name, dir string, ids ...uint32) {
	t.Helper()
	if children[name] == nil {
		t.Fatalf("no child case %q", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := childCommand(ctx, name, dir, ids...).CombinedOutput(); err != nil {
		t.Fatalf("child %s: %v\n%s", name, err, out)
	}
}

func childCommand(ctx context.Context, name, dir string, ids ...uint32) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name+":"+dir)
	cmd.Dir = "/"
	if len(ids) == 2 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s_AS=%d:%d", childEnv, ids[0], ids[1]))
	}
	return cmd
}

// become gives up root for the user and group in ids. It is done in the child,
// since another user may not execute the test binary where it lies.
func become(ids string) error {
	if ids == "" {
		return nil
	}
	var uid, gid int
	if _, err := fmt.Sscanf(ids, "%d:%d", &uid, &gid); err != nil {
		return err
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid))
}

// mounted is a file system under test.
type mounted struct {
	fs      *fs.FS
	tree    *tree.Tree
	mount   *fs.Mount
	Dir     string // where it is mounted
	Backing string // what it is mounted from
}

// mount mounts a new directory; the test's cleanup unmounts it and fails if
// anything is left.
func mount(t *testing.T, c fs.Committer, o fs.Options) *mounted {
	t.Helper()
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil && os.Getenv("CI") == "" {
		t.Skip("no /dev/fuse")
	}
	m := &mounted{Dir: publicDir(t), Backing: publicDir(t)}
	o.Alone = c == fs.Committer(fs.Null{})
	var err error
	if m.tree, err = tree.Open(m.Backing); err != nil {
		t.Fatal(err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if m.fs, err = fs.New(m.tree, c, o); err != nil {
		t.Fatal(err)
	}
	if m.mount, err = m.fs.Mount(m.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.unmount(t) })
	return m
}

func (m *mounted) unmount(t *testing.T) {
	t.Helper()
	select {
	case <-m.mount.Done():
		return // a test did it
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	lazy, err := m.mount.Unmount(ctx)
	if err != nil {
		t.Errorf("unmount: %v", err)
	}
	if lazy {
		t.Error("unmount: busy")
	}
	if err := m.mount.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if info, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(info), " "+m.Dir+" ") {
		t.Errorf("still mounted (%v)", err)
	}
	m.tree.Close()
}

// publicDir returns a new directory that every user may reach and write to.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o777} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMountAnswers(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{Name: "/replica"})
	write(t, m.Dir+"/a", "hello")
	if got := read(t, m.Backing+"/a"); got != "hello" {
		t.Errorf("backing holds %q", got)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, " "+m.Dir+" ") {
			for _, want := range []string{"nosuid", "nodev", "fuse.standbyfs", "/replica", "default_permissions", "allow_other"} {
				if !strings.Contains(line, want) {
					t.Errorf("mountinfo lacks %q: %s", want, line)
				}
			}
			dev := strings.Fields(line)[2]
			if ahead := read(t, "/sys/class/bdi/"+dev+"/read_ahead_kb"); strings.TrimSpace(ahead) != "1024" {
				t.Errorf("read-ahead is %q KiB", ahead)
			}
		}
	}
}

func TestUnmountByOthers(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	if err := unix.Unmount(m.Dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.mount.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done is not closed after an unmount from outside")
	}
}

func TestUnmountBusy(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	f, err := os.Create(m.Dir + "/open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	lazy, err := m.mount.Unmount(ctx)
	if err != nil || !lazy {
		t.Errorf("Unmount of a busy mount: lazy %v, %v", lazy, err)
	}
	if err := m.mount.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnmountCopied unmounts what another mount namespace has a copy of, as one
// does that was made while the mount was there. It must not be served for ever.
func TestUnmountCopied(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() {
		in.Close()
		must(t, cmd.Wait())
	}()
	// Once it answers it has its own namespace.
	_, err = in.Write([]byte("x"))
	must(t, err)
	_, err = out.Read(make([]byte, 1))
	must(t, err)
	elsewhere := fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, m.Dir)
	write(t, m.Dir+"/f", "x")
	if got := read(t, elsewhere+"/f"); got != "x" {
		t.Fatalf("the other namespace does not have the mount: %q", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if lazy, err := m.mount.Unmount(ctx); err != nil || !lazy {
		t.Errorf("unmount: lazy %t, %v", lazy, err)
	}
	select {
	case <-m.mount.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it is served still")
	}
	if err := unix.Stat(elsewhere+"/none", new(unix.Stat_t)); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("stat in the other namespace: %v", err)
	}
}

func TestMountInsideReplica(t *testing.T) {
	dir := t.TempDir()
	tr, err := tree.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	f, err := fs.New(tr, fs.Null{}, fs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	point := dir + "/inside"
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Mount(point); err == nil || !strings.Contains(err.Error(), "inside of one another") {
		t.Errorf("mount inside of the replica: %v", err)
	}
}

func TestCleanStale(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	if err := fs.CleanStale(m.Dir); !errors.Is(err, fs.ErrMounted) {
		t.Errorf("clean of a live mount: %v", err)
	}
	if err := fs.CleanStale(t.TempDir()); err != nil {
		t.Errorf("clean where nothing is mounted: %v", err)
	}

	// A device that nobody serves any more is what a killed server leaves.
	dead := t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("dead", dead, "fuse.standbyfs", 0, data); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := unix.Stat(dead, new(unix.Stat_t)); err != unix.ENOTCONN {
		t.Fatalf("stat of the dead mount: %v", err)
	}
	if err := fs.CleanStale(dead); err != nil {
		t.Errorf("clean of a dead mount: %v", err)
	}
	if err := unix.Stat(dead, new(unix.Stat_t)); err != nil {
		t.Errorf("stat after the clean-up: %v", err)
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
