package tree

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// No path leads out.
func TestNoWayOut(t *testing.T) {
	outer := t.TempDir()
	inner := filepath.Join(outer, "inner")
	if err := errors.Join(os.Mkdir(inner, 0o755), os.WriteFile(filepath.Join(outer, "secret"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	tr, err := Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	apply(t, tr, mkdir("d"), symlink("up", ".."), symlink("d/abs", outer), symlink("s", "../secret"))
	for _, path := range []string{"..", "../secret", "/" + outer + "/secret", "up/secret", "d/abs/secret", "d/../../secret", "s", "", "d/..", "d/."} {
		if _, err := tr.Digests(path, 0, 1); err == nil {
			t.Errorf("read %q", path)
		}
		if p, err := tr.OpenForSync(path); err == nil {
			if to := behind(t, p.FD()); !strings.HasPrefix(to, inner) {
				t.Errorf("%q opens %s", path, to)
			}
			p.Close()
		}
		if put, _, err := tr.Describe(path); err == nil && put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
			t.Errorf("%q is described as %v", path, put)
		}
		for _, do := range []func(*op.Op) error{tr.Apply, tr.ApplyLenient} {
			for _, o := range []*op.Op{write(path, 0, "x"), {Kind: op.Truncate, Path: path}, touch(path, 1), create(path + "/x"),
				link(path, "stolen"), write("stolen", 0, "x"), link("d", path), remove(op.Unlink, path), {Kind: op.PutNames, Path: path}} {
				_ = do(o) // some are harmless and succeed
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(outer, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("the file outside is %q, error %v", b, err)
	}
	if left, err := os.ReadDir(outer); err != nil || len(left) != 2 {
		t.Errorf("outside there is %v, error %v", left, err)
	}
}

// FuzzApply lets any op loose on a tree with links that lead out of it. What is
// outside stays as it is.
func FuzzApply(f *testing.F) {
	for kind := op.Create; kind <= op.Hint; kind++ {
		f.Add(uint8(kind), uint8(0), "d/f", "up/x", "b", int64(0), int64(0), int64(100), uint32(0), uint32(unix.S_IFREG|0o644), []byte("data"))
		f.Add(uint8(kind), uint8(op.Fresh), "up/secret", "../secret", "user.x", int64(65536), int64(1), int64(1), uint32(1), uint32(unix.S_IFDIR|0o755), make([]byte, DigestSize))
		f.Add(uint8(kind), uint8(op.Compare), ".", "f", "", int64(-1), int64(1<<62), int64(1<<62), uint32(2), uint32(unix.S_IFLNK|0o777), []byte("../secret"))
	}
	f.Fuzz(func(t *testing.T, kind, flags uint8, path, path2, name string, off, off2, n int64, arg, mode uint32, data []byte) {
		outer := t.TempDir()
		inner, secret := filepath.Join(outer, "inner"), filepath.Join(outer, "secret")
		if err := errors.Join(os.Mkdir(inner, 0o755), os.WriteFile(secret, []byte("secret"), 0o600), unix.UtimesNano(secret, make([]unix.Timespec, 2))); err != nil {
			t.Fatal(err)
		}
		tr, err := Open(inner)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		if kind := mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			mode = unix.S_IFIFO // real devices stay out of a test
		}
		// Not many blocks of a real disk.
		off, off2, n = min(off, 1<<20), min(off2, 1<<20), min(n, 1<<20)
		o := &op.Op{
			Kind: op.Kind(kind), Flags: op.Flags(flags), Path: path, Path2: path2, Name: name, Off: off, Off2: off2, Len: n, Arg: arg,
			Attr: op.Attr{Valid: op.AttrMask(arg), Mode: mode, Size: n, UID: mode, Mtime: op.Time{Sec: off}},
			Dir:  op.Time{Sec: off2}, Dir2: op.Time{Sec: off2}, Data: data,
			Xattrs: []op.Xattr{{Name: name, Value: data}}, Names: []string{path, path2},
		}
		apply(t, tr, mkdir("d"), create("f"), write("f", 0, "data"), link("f", "d/f"), symlink("up", ".."), symlink("d/abs", secret))
		for _, do := range []func(*op.Op) error{tr.Apply, tr.ApplyLenient, tr.Apply} {
			_ = do(o)
			if _, err := tr.Check(o); err == nil && o.Off < 0 {
				t.Error("digests at a negative offset were compared")
			}
			_, _ = tr.Compare(o)
		}
		b, err := os.ReadFile(secret)
		if err != nil || !bytes.Equal(b, []byte("secret")) {
			t.Errorf("%v: the file outside is %q, error %v", o, b, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(secret, &st); err != nil || st.Mode != unix.S_IFREG|0o600 || st.Nlink != 1 || st.Mtim.Sec != 0 || st.Uid != 0 {
			t.Errorf("%v: the file outside has attributes %+v, error %v", o, st, err)
		}
		left, err := os.ReadDir(outer)
		if err != nil || len(left) != 2 {
			t.Errorf("%v: outside there is %v, error %v", o, left, err)
		}
	})
}
