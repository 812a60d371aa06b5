package fs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/tree"
	"golang.org/x/sys/unix"
)

func init() {
	// few serves dir/mount with few descriptors until its input ends.
	children["few"] = func(dir string) error {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: 128}); err != nil {
			return err
		}
		files, err := tree.Open(dir + "/replica")
		if err != nil {
			return err
		}
		f, err := fs.New(files, fs.Null{}, fs.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err != nil {
			return err
		}
		m, err := f.Mount(dir + "/mount")
		if err != nil {
			return err
		}
		fmt.Println("mounted")
		_, err = io.Copy(io.Discard, os.Stdin)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		lazy, stuck := m.Unmount(ctx)
		if lazy {
			stuck = errors.New("the mount was busy")
		}
		return errors.Join(err, stuck, m.Close(), files.Close())
	}
}

// TestFewDescriptors sees a server run out of descriptors: its callers hear of
// it, the log does once, what is open goes on working with and without a name,
// and all is well again when something was closed.
func TestFewDescriptors(t *testing.T) {
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil && os.Getenv("CI") == "" {
		t.Skip("no /dev/fuse")
	}
	top := publicDir(t)
	replica, dir := top+"/replica", top+"/mount"
	must(t, os.Mkdir(replica, 0o755))
	must(t, os.Mkdir(dir, 0o755))
	for i := range 200 {
		write(t, fmt.Sprintf("%s/f%d", replica, i), "before")
	}
	var log bytes.Buffer
	server := childCommand(t.Context(), "few", top)
	server.Stderr = &log
	in, err := server.StdinPipe()
	must(t, err)
	out, err := server.StdoutPipe()
	must(t, err)
	must(t, server.Start())
	ended := false
	t.Cleanup(func() {
		if !ended {
			in.Close()
			_ = server.Wait()
			t.Log(log.String())
		}
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	// Some are held by names alone, which takes no descriptor as yet.
	held := map[string]int{}
	for i := 100; i < 200; i++ {
		name := fmt.Sprintf("%s/f%d", dir, i)
		held[name], err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
	}
	var open []int
	for {
		fd, err := unix.Open(fmt.Sprintf("%s/f%d", dir, len(open)), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		must(t, err)
		open = append(open, fd)
	}
	if n := len(open); n < 64 || n > 100 {
		t.Errorf("%d files can be open", n)
	}
	_, err = unix.Open(dir+"/new", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	want(t, "create", err, unix.EMFILE)
	_, err = os.Lstat(replica + "/new")
	want(t, "stat of what could not be created", err, unix.ENOENT)
	_, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	want(t, "O_TMPFILE", err, unix.EMFILE)
	_, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	want(t, "opendir", err, unix.EMFILE)
	must(t, os.Mkdir(dir+"/d", 0o755))

	// Every open file may go, by either way.
	for i, fd := range open {
		name := fmt.Sprintf("%s/f%d", dir, i)
		if i%2 == 0 {
			must(t, unix.Mknod(dir+"/other", unix.S_IFREG|0o644, 0))
			must(t, os.Rename(dir+"/other", name))
		} else {
			must(t, os.Remove(name))
		}
		must(t, unix.Fchmod(fd, 0o600))
		must(t, unix.Fsetxattr(fd, "user.a", []byte("b"), 0))
		_, err := unix.Pwrite(fd, []byte("after"), 0)
		must(t, err)
		var buf [10]byte
		n, err := unix.Pread(fd, buf[:], 0)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if string(buf[:n]) != "aftere" || st.Nlink != 0 || st.Mode != unix.S_IFREG|0o600 || st.Size != 6 {
			t.Fatalf("file %d without a name: %q, %+v", i, buf[:n], st)
		}
	}
	// What is held otherwise goes for as long as there are descriptors.
	gone := 0
	for name, fd := range held {
		if err = os.Remove(name); err != nil {
			break
		}
		gone++
		must(t, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o600))
	}
	want(t, fmt.Sprintf("unlink after %d others", gone), err, unix.EMFILE)
	left := 0
	for name, fd := range held {
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		if _, err := os.Lstat(name); err == nil {
			left++
		}
	}
	if left != len(held)-gone {
		t.Errorf("%d names left, want %d", left, len(held)-gone)
	}

	for _, fd := range open {
		must(t, unix.Close(fd))
	}
	eventually(t, "there is room again", func() bool {
		fd, err := unix.Open(dir+"/new", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		return err == nil && unix.Close(fd) == nil
	})
	for name, fd := range held {
		if err := os.Remove(name); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		must(t, unix.Close(fd))
	}
	in.Close()
	ended = true
	if err := server.Wait(); err != nil {
		t.Errorf("the server: %v", err)
	}
	if n := strings.Count(log.String(), "too many open files"); n != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("it was logged %d times:\n%s", n, log.String())
	}
}

// TestLinkedTmpfiles sees that a file which has got a name needs no descriptor
// any more.
func TestLinkedTmpfiles(t *testing.T) {
	m := mount(t, fs.Null{}, fs.Options{})
	before := openFiles(t)
	for i := range 100 {
		fd, err := unix.Open(m.Dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		must(t, err)
		name := fmt.Sprintf("%s/f%d", m.Dir, i)
		must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW))
		must(t, unix.Close(fd))
		must(t, os.Chmod(name, 0o600))
	}
	eventually(t, "the descriptors are given back", func() bool { return openFiles(t) <= before+2 })
}
