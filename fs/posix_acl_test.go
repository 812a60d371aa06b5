package fs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	accessList  = "system.posix_acl_access"
	defaultList = "system.posix_acl_default"
)

// aclEntry is one entry of an access list.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// Tags of entries.
const (
	aclOwner = 0x01
	aclUser  = 0x02
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20
	aclNoID  = 1<<32 - 1
)

// acl encodes a list as xattrs hold it.
func acl(entries ...aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// forUser is a list that lets user 1000 do what the owner may, and others nothing.
func forUser(perm uint16) []byte {
	return acl(aclEntry{aclOwner, perm, aclNoID}, aclEntry{aclUser, perm, 1000},
		aclEntry{aclGroup, 0, aclNoID}, aclEntry{aclMask, perm, aclNoID}, aclEntry{aclOther, 0, aclNoID})
}

func wantMode(t *testing.T, path string, mode uint32) {
	t.Helper()
	if got := stat(t, path).Mode & 0o7777; got != mode {
		t.Errorf("%s: mode %o, want %o", path, got, mode)
	}
}

func wantList(t *testing.T, path, name string, list []byte) {
	t.Helper()
	buf := make([]byte, 1024)
	n, err := unix.Lgetxattr(path, name, buf)
	switch {
	case list == nil && err != unix.ENODATA:
		t.Errorf("%s: %s: %x, %v, want none", path, name, buf[:max(n, 0)], err)
	case list != nil && (err != nil || string(buf[:n]) != string(list)):
		t.Errorf("%s: %s: %x, %v, want %x", path, name, buf[:max(n, 0)], err, list)
	}
}

func accessLists(t *testing.T, dir string) {
	write(t, dir+"/secret", "x")
	must(t, os.Chmod(dir+"/secret", 0o600))
	must(t, os.Mkdir(dir+"/sticky", 0o777))
	must(t, unix.Chmod(dir+"/sticky", 0o1777))
	write(t, dir+"/sticky/theirs", "x")
	child(t, "denied", dir, 1000, 1000)
	must(t, unix.Setxattr(dir+"/secret", accessList, forUser(6), 0))
	wantMode(t, dir+"/secret", 0o660)
	child(t, "aclReads", dir, 1000, 1000)
	// The group bits of the mode are the mask.
	must(t, os.Chmod(dir+"/secret", 0o600))
	child(t, "denied", dir, 1000, 1000)
	must(t, os.Chmod(dir+"/secret", 0o640))
	child(t, "aclReads", dir, 1000, 1000)
	must(t, unix.Removexattr(dir+"/secret", accessList))
	wantMode(t, dir+"/secret", 0o640)
	child(t, "denied", dir, 1000, 1000)
	// A list that says no more than a mode is one.
	must(t, unix.Setxattr(dir+"/secret", accessList, acl(aclEntry{aclOwner, 7, aclNoID}, aclEntry{aclGroup, 5, aclNoID}, aclEntry{aclOther, 4, aclNoID}), 0))
	wantMode(t, dir+"/secret", 0o754)
	wantList(t, dir+"/secret", accessList, nil)

	want(t, "a default list of a file", unix.Setxattr(dir+"/secret", defaultList, forUser(6), 0), unix.EACCES)
	want(t, "a list of no known version", unix.Setxattr(dir+"/secret", accessList, []byte("none"), 0), unix.EOPNOTSUPP)

	// Set-group-ID goes if the owner is not in the group.
	for name, mode := range map[string]uint32{"theirs": 0o660, "own": 0o2660} {
		write(t, dir+"/"+name, "x")
		gid := 1000
		if name == "theirs" {
			gid = 4321
		}
		must(t, os.Chown(dir+"/"+name, 1000, gid))
		must(t, unix.Chmod(dir+"/"+name, 0o2640))
		child(t, "aclSets", dir+"/"+name, 1000, 1000)
		wantMode(t, dir+"/"+name, mode)
	}
}

func defaultLists(t *testing.T, dir string) {
	must(t, os.Mkdir(dir+"/d", 0o777))
	must(t, unix.Chmod(dir+"/d", 0o2777))
	must(t, os.Chown(dir+"/d", 0, 4321))
	must(t, unix.Setxattr(dir+"/d", defaultList, forUser(7), 0))
	wantMode(t, dir+"/d", 0o2777)
	child(t, "umask", dir+"/d", 1000, 1000)
	child(t, "tmpfile", dir+"/d", 1000, 1000)
	for name, mode := range map[string]uint32{"file": 0o660, "node": 0o660, "tmp": 0o660, "dir": 0o2770} {
		path := dir + "/d/" + name
		wantMode(t, path, mode)
		perm := uint16(mode >> 3 & 7)
		wantList(t, path, accessList, acl(aclEntry{aclOwner, perm, aclNoID}, aclEntry{aclUser, 7, 1000},
			aclEntry{aclGroup, 0, aclNoID}, aclEntry{aclMask, perm, aclNoID}, aclEntry{aclOther, 0, aclNoID}))
		if st := stat(t, path); st.Uid != 1000 || st.Gid != 4321 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	wantList(t, dir+"/d/dir", defaultList, forUser(7))
	// A symbolic link has none, and below a directory without one the umask counts.
	must(t, os.Symlink("x", dir+"/d/link"))
	must(t, unix.Removexattr(dir+"/d/dir", defaultList))
	must(t, os.Chmod(dir+"/d/dir", 0o777))
	child(t, "umask", dir+"/d/dir", 1000, 1000)
	child(t, "tmpfile", dir+"/d/dir", 1000, 1000)
	for name, mode := range map[string]uint32{"file": 0o640, "node": 0o640, "tmp": 0o640, "dir": 0o750} {
		wantMode(t, dir+"/d/dir/"+name, mode)
		wantList(t, dir+"/d/dir/"+name, accessList, nil)
	}
}

func init() {
	children["aclReads"] = func(dir string) error {
		_, err := os.ReadFile(dir + "/secret")
		return err
	}
	children["aclSets"] = func(path string) error { return unix.Setxattr(path, accessList, forUser(6), 0) }
	children["tmpfile"] = func(dir string) error {
		unix.Umask(0o027)
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o666)
		if err != nil {
			return fmt.Errorf("O_TMPFILE: %w", err)
		}
		defer unix.Close(fd)
		return errors.Join(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/tmp", unix.AT_SYMLINK_FOLLOW))
	}
}
