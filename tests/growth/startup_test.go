package growth

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/standbyfs/standbyfs/daemon"
	"github.com/standbyfs/standbyfs/tests/harness"
)

// filesPerDir makes a walk of the tree open many directories.
const filesPerDir = 100

// looks counts what is opened in a directory, to read it or to list it. Nobody
// can look for what is there without that.
type looks struct {
	t  *testing.T
	fd int
}

// watch begins to count. The directory becomes a file system of its own, so that
// what the rest of the machine does does not count. It is in memory: how long
// that takes to make and to remove is not what is looked for.
func watch(t *testing.T, dir string) *looks {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mounting %s: %v\n%s", dir, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_NOATIME)
	if err != nil {
		t.Fatalf("fanotify: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_OPEN|unix.FAN_ONDIR, unix.AT_FDCWD, dir); err != nil {
		t.Fatalf("watching %s: %v", dir, err)
	}
	return &looks{t, fd}
}

// count returns how much was opened since the last call.
func (l *looks) count() int {
	l.t.Helper()
	n := 0
	buf := make([]byte, 24*100)
	for {
		k, err := unix.Read(l.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			l.t.Fatalf("reading from fanotify: %v", err)
		}
		for events := bytes.NewReader(buf[:k]); events.Len() > 0; n++ {
			var e unix.FanotifyEventMetadata
			if err := binary.Read(events, binary.NativeEndian, &e); err != nil {
				l.t.Fatal(err)
			}
			unix.Close(int(e.Fd))
		}
	}
}

// TestStartUp starts nodes anew whose replicas have $FILES files and one sparse
// file of 1 TiB. After a clean stop nothing is looked at; after a kill what was
// being changed. Times are for people.
func TestStartUp(t *testing.T) {
	files := harness.Number("FILES", 100_000)
	c := harness.NewCluster(t, harness.Options{Mirrors: 1, Manual: true, Processes: true})
	p, m := c.Primary, c.Mirrors[0]
	p.Config.Mirror.MinInSync = 1
	atPrimary, atMirror := watch(t, p.Replica), watch(t, m.Replica)
	m.Start(daemon.Mirror)
	p.Start(daemon.Primary)
	inSync(t, p)
	// Both get the same while they do not run: a first sync would take the time of
	// this test many times over.
	p.MustStop()
	m.MustStop()
	for dir, at := range map[string]*looks{p.Replica: atPrimary, m.Replica: atMirror} {
		large(t, dir, files)
		if n := at.count(); n < files {
			t.Fatalf("%d files were made in %s, and %d opens counted", files, dir, n)
		}
	}
	m.Start(daemon.Mirror)
	p.Start(daemon.Primary)
	inSync(t, p)

	// What a start may open: the root, to lock it and to find names from, and what
	// the test itself reads. Hot regions are files, or directories with all files in
	// them, which are opened on both sides.
	const few, compared = 40, 6 * hot * filesPerDir
	for _, again := range []struct {
		name  string
		limit int
		run   func() time.Duration
	}{
		{"the primary stopped", few, func() time.Duration { p.MustStop(); return serve(t, p) }},
		{"the mirror stopped", few, func() time.Duration { m.MustStop(); m.Start(daemon.Mirror); return 0 }},
		{"both stopped, the mirror last", few, func() time.Duration { p.MustStop(); m.MustStop(); m.Start(daemon.Mirror); return serve(t, p) }},
		{"the primary killed", few + compared, func() time.Duration { change(t, p); p.Kill(); return serve(t, p) }},
		{"the mirror killed", few + compared, func() time.Duration { change(t, p); m.Kill(); m.Start(daemon.Mirror); return 0 }},
	} {
		atPrimary.count()
		atMirror.count()
		began := time.Now()
		served := again.run()
		inSync(t, p)
		there, here := atPrimary.count(), atMirror.count()
		t.Logf("%s: serves %v after the start, in sync %v after the stop; the primary opened %d, the mirror %d",
			again.name, served.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), there, here)
		if there > again.limit || here > again.limit {
			t.Errorf("%s: the primary opened %d, the mirror %d: more than %d", again.name, there, here, again.limit)
		}
	}
	p.MustStop()
	m.MustStop()
	x, err := harness.ReadSnapshot(p.Replica)
	if err != nil {
		t.Fatal(err)
	}
	y, err := harness.ReadSnapshot(m.Replica)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range harness.Differences(x, y, harness.Aspects{}) {
		t.Error(d)
	}
}

// large makes many files and one that is large and empty.
func large(t *testing.T, dir string, files int) {
	t.Helper()
	for i := range files {
		path := filepath.Join(dir, file(i))
		if i%filesPerDir == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sparse := filepath.Join(dir, sparse)
	if err := os.Mkdir(filepath.Dir(sparse), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sparse, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1e9, 0)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, when, when))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sparse is the large file.
const sparse = "large/sparse"

// file is the path of the i-th file. No directory has many entries: one in which
// names come and go is hot as a whole.
func file(i int) string {
	dir := i / filesPerDir
	return fmt.Sprintf("dir%d/dir%d/file%d", dir/filesPerDir, dir, i)
}

// hot is how many files change makes, each in a directory of its own.
const hot = 5

// change changes files, the large one too, shortly before a kill.
func change(t *testing.T, n *harness.Node) {
	t.Helper()
	for i := range hot {
		if err := os.WriteFile(n.Path(file(i*filesPerDir)), []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(n.Path(sparse), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("changed"), 1<<39); err != nil {
		t.Fatal(err)
	}
}

// serve starts a primary and returns how long it took until a file could be
// read.
func serve(t *testing.T, n *harness.Node) time.Duration {
	t.Helper()
	began := time.Now()
	n.Start(daemon.Primary)
	if text, err := os.ReadFile(n.Path(file(1))); err != nil || len(text) > 0 {
		t.Errorf("an empty file holds %q, %v", text, err)
	}
	return time.Since(began)
}

// inSync waits until the mirror is in sync, which takes long with many files.
func inSync(t *testing.T, n *harness.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := n.Admin().WaitInSync(ctx, 1); err != nil {
		t.Fatal(err)
	}
}
