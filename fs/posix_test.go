package fs_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/standbyfs/standbyfs/fs"
	"golang.org/x/sys/unix"
)

// TestPosix runs each case on a plain directory, which shows that the case is
// right, and on a mount.
func TestPosix(t *testing.T) {
	for name, run := range posixCases {
		t.Run(name, func(t *testing.T) {
			t.Run("plain", func(t *testing.T) { run(t, publicDir(t)) })
			t.Run("mount", func(t *testing.T) { run(t, mount(t, fs.Null{}, fs.Options{Suid: true, Dev: true}).Dir) })
		})
	}
}

var posixCases = map[string]func(t *testing.T, dir string){
	"UnlinkedOpen":       unlinkedOpen,
	"RenamedOver":        renamedOver,
	"RemovedDirectory":   removedDirectory,
	"HardLinks":          hardLinks,
	"LinkUnknownName":    linkUnknownName,
	"RenameFlags":        renameFlags,
	"FailedWhiteout":     failedWhiteout,
	"RenameDirectory":    renameDirectory,
	"Tmpfile":            tmpfile,
	"SetgidDirectory":    setgidDirectory,
	"Umask":              umask,
	"SpecialBits":        specialBits,
	"SuidClearing":       suidClearing,
	"Owner":              owner,
	"AppendTwice":        appendTwice,
	"OpenTruncate":       openTruncate,
	"Truncate":           truncate,
	"Holes":              holes,
	"Fallocate":          fallocate,
	"CopyRange":          copyRange,
	"Xattrs":             xattrs,
	"TrustedXattrs":      trustedXattrs,
	"AccessLists":        accessLists,
	"DefaultLists":       defaultLists,
	"SetgidWithoutExec":  setgidWithoutExec,
	"BirthTime":          birthTime,
	"FileFlags":          fileFlags,
	"AppendOnly":         appendOnly,
	"Symlinks":           symlinks,
	"SpecialFiles":       specialFiles,
	"LongNames":          longNames,
	"DeepTree":           deepTree,
	"Times":              times,
	"Fsync":              fsync,
	"SyncWrite":          syncWrite,
	"Mmap":               mmap,
	"ReaddirDeleting":    readdirDeleting,
	"ReaddirOffsets":     readdirOffsets,
	"InodeNumbers":       inodeNumbers,
	"Statfs":             statfs,
	"NegativeThenCreate": negativeThenCreate,
	"Errors":             errorCodes,
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("lstat %s: %v", path, err)
	}
	return st
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func init() {
	children["makeAll"] = func(dir string) error {
		unix.Umask(0o022)
		fd, err := unix.Open(dir+"/file", unix.O_CREAT|unix.O_RDWR, 0o666)
		unix.Close(fd)
		return errors.Join(err, unix.Mkdir(dir+"/dir", 0o777), unix.Mkfifo(dir+"/fifo", 0o600), unix.Symlink("x", dir+"/link"))
	}
	children["umask"] = func(dir string) error {
		unix.Umask(0o027)
		fd, err := unix.Open(dir+"/file", unix.O_CREAT|unix.O_RDWR, 0o666)
		unix.Close(fd)
		return errors.Join(err, unix.Mkdir(dir+"/dir", 0o777), unix.Mknod(dir+"/node", unix.S_IFREG|0o666, 0))
	}
	children["suid"] = suidChild
	children["mapAppending"] = mapAppending
	children["mmap"] = mmapChild
	children["denied"] = func(dir string) error {
		if _, err := os.ReadFile(dir + "/secret"); !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("read of a foreign file: %v", err)
		}
		if err := os.Chmod(dir+"/secret", 0o777); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("chmod of a foreign file: %v", err)
		}
		if err := os.Remove(dir + "/sticky/theirs"); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("unlink in a sticky directory: %v", err)
		}
		return nil
	}
}

func errorCodes(t *testing.T, dir string) {
	write(t, dir+"/f", "")
	must(t, os.MkdirAll(dir+"/d/e", 0o755))
	want(t, "rmdir of a full directory", unix.Rmdir(dir+"/d"), unix.ENOTEMPTY)
	want(t, "rmdir of a file", unix.Rmdir(dir+"/f"), unix.ENOTDIR)
	want(t, "unlink of a directory", unix.Unlink(dir+"/d"), unix.EISDIR)
	want(t, "mkdir over a name", unix.Mkdir(dir+"/f", 0o755), unix.EEXIST)
	want(t, "a file as a directory", unix.Mkdir(dir+"/f/x", 0o755), unix.ENOTDIR)
	want(t, "link of a directory", unix.Link(dir+"/d", dir+"/l"), unix.EPERM)
	_, err := os.Open(dir + "/none")
	want(t, "open of nothing", err, unix.ENOENT)
	_, err = os.ReadFile(dir + "/d")
	want(t, "read of a directory", err, unix.EISDIR)
	f, err := os.Open(dir + "/f")
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("x")
	want(t, "write to a handle for reading", err, unix.EBADF)
	want(t, "fallocate over the end of time", unix.Fallocate(int(f.Fd()), 0, 0, 1), unix.EBADF)
}

func statfs(t *testing.T, dir string) {
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if st.Blocks == 0 || st.Bsize == 0 || st.Namelen != 255 || st.Files == 0 {
		t.Errorf("%+v", st)
	}
}

func negativeThenCreate(t *testing.T, dir string) {
	for i, make := range []func(path string) error{
		func(p string) error { return os.WriteFile(p, nil, 0o644) },
		func(p string) error { return os.Mkdir(p, 0o755) },
		func(p string) error { return os.Symlink("x", p) },
		func(p string) error { write(t, dir+"/src", ""); return os.Rename(dir+"/src", p) },
		func(p string) error { write(t, dir+"/src", ""); return os.Link(dir+"/src", p) },
	} {
		path := fmt.Sprintf("%s/n%d", dir, i)
		_, err := os.Lstat(path)
		want(t, "stat of nothing", err, unix.ENOENT)
		must(t, make(path))
		stat(t, path)
		must(t, os.Remove(path))
		_, err = os.Lstat(path)
		want(t, "stat of what went", err, unix.ENOENT)
	}
}
