package exact

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes of all name spaces, on all kinds.
var xattrCases = map[string]func(*tape){
	"kinds": func(t *tape) {
		t.umask(0)
		t.file("f", "x", 0o666)
		t.mkdir("d", 0o777)
		t.mkdir("sticky", 0o1777)
		t.symlink("f", "l")
		t.mknod("p", unix.S_IFIFO|0o666, 0)
		t.mknod("s", unix.S_IFSOCK|0o666, 0)
		t.mknod("c", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		t.file("mine", "x", 0o600)
		t.chown("mine", 1000, 1000)
		for _, u := range []user{root, alice, tame} {
			t.as(u, func() {
				for _, path := range []string{"f", "d", "sticky", "l", "p", "s", "c", "mine", "none"} {
					for _, name := range []string{"user.a", "trusted.a", "security.a", "security.capability", "system.a", "system.posix_acl_access", "other.a", "a", "user.", "trusted.", "", "user", strings.Repeat("u", 300)} {
						t.getxattr(path, name, 100)
						t.setxattr(path, name, "value of "+u.name, 0)
						t.getxattr(path, name, 100)
						t.removexattr(path, name)
						t.removexattr(path, name)
					}
					t.setxattr(path, "user.kept", "1", 0)
					t.setxattr(path, "trusted.kept", "2", 0)
					t.setxattr(path, "security.kept", "3", 0)
					t.listxattr(path)
				}
			})
		}
		t.as(bob, func() {
			for _, path := range []string{"f", "d", "l", "mine"} {
				t.listxattr(path)
				t.getxattr(path, "trusted.kept", 100)
				t.getxattr(path, "trusted.none", 100)
				t.getxattr(path, "security.kept", 100)
				t.getxattr(path, "user.kept", 100)
			}
			n, err := unix.Llistxattr("f", nil)
			t.got(int64(n), err, "the length of the list")
			n, err = unix.Llistxattr("f", make([]byte, 3))
			t.got(int64(n), err, "a list into three bytes")
		})
		n, err := unix.Llistxattr("f", nil)
		t.got(int64(n), err, "the length of the list")
		n, err = unix.Llistxattr("f", make([]byte, 3))
		t.got(int64(n), err, "a list into three bytes")
	},
	"sizes": func(t *tape) {
		t.file("f", "x", 0o644)
		for _, size := range []int{0, 1, 50, 100, 1000, 3000, 4000, 4096, 10000, 65535, 65536, 65537, 100000} {
			t.setxattr("f", "user.a", fill(size, 1), 0)
			t.getxattr("f", "user.a", 0)
			t.getxattr("f", "user.a", size)
			t.getxattr("f", "user.a", max(size-1, 1))
			t.getxattr("f", "user.a", 65536)
			t.getxattr("f", "user.a", 100000)
			t.listxattr("f")
			t.blocks("f")
		}
		for _, size := range []int{1, 240, 250, 251, 255, 256} {
			t.setxattr("f", "user."+strings.Repeat("n", size), "x", 0)
			t.getxattr("f", "user."+strings.Repeat("n", size), 10)
			t.removexattr("f", "user."+strings.Repeat("n", size))
		}
		for i := range 100 {
			t.setxattr("f", fmt.Sprintf("user.number %d", i), fill(40, byte(i)), 0)
		}
		t.listxattr("f")
		t.setxattr("f", "user.a", "b", unix.XATTR_CREATE)
		t.setxattr("f", "user.b", "b", unix.XATTR_REPLACE)
		t.setxattr("f", "user.b", "b", unix.XATTR_CREATE)
		t.setxattr("f", "user.b", "c", unix.XATTR_REPLACE)
		t.setxattr("f", "user.b", "d", unix.XATTR_CREATE|unix.XATTR_REPLACE)
		t.setxattr("f", "user.b", "d", 8)
		t.getxattr("f", "user.b", 10)
		t.setxattr("f", "user.\xff\n", "\x00\x01", 0)
		t.getxattr("f", "user.\xff\n", 10)
		t.link("f", "g")
		t.getxattr("g", "user.b", 10)
		t.removexattr("g", "user.b")
		t.getxattr("f", "user.b", 10)
		fd := t.open("f", unix.O_RDONLY, 0)
		t.did(unix.Fsetxattr(fd, "user.fd", []byte("x"), 0), "fsetxattr of a descriptor for reading")
		t.unlink("f")
		t.did(unix.Fsetxattr(fd, "user.fd", []byte("y"), unix.XATTR_REPLACE), "fsetxattr")
		t.close(fd)
		t.getxattr("g", "user.fd", 10)
	},
}

// accessList is a list in the form that system.posix_acl_access has: a version
// and entries of tag, permissions and ID, least first.
func accessList(entries ...[3]uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

// Tags of entries, and the ID of those that have none.
const (
	tagOwner   = 0x01
	tagUser    = 0x02
	tagGroupOf = 0x04
	tagGroup   = 0x08
	tagMask    = 0x10
	tagOther   = 0x20
	noID       = 1<<32 - 1
)

// list of that owner, group, mask and other, with permissions for alice and for group 2001.
func listFor(owner, group, mask, other, alice, group2001 uint32) string {
	return accessList([3]uint32{tagOwner, owner, noID}, [3]uint32{tagUser, alice, 1000}, [3]uint32{tagGroupOf, group, noID},
		[3]uint32{tagGroup, group2001, 2001}, [3]uint32{tagMask, mask, noID}, [3]uint32{tagOther, other, noID})
}

const (
	access   = "system.posix_acl_access"
	defaults = "system.posix_acl_default"
)

// Access lists.
var aclCases = map[string]func(*tape){
	"inheritance": func(t *tape) {
		for i, list := range []string{
			listFor(7, 5, 7, 0, 6, 4), listFor(7, 7, 7, 7, 7, 7), listFor(6, 0, 4, 4, 2, 0),
			accessList([3]uint32{tagOwner, 7, noID}, [3]uint32{tagGroupOf, 5, noID}, [3]uint32{tagOther, 2, noID}),
		} {
			for _, bits := range []uint32{0o777, 0o2777} {
				dir := fmt.Sprintf("d%d%o", i, bits)
				t.umask(0)
				t.mkdir(dir, 0o777)
				t.chown(dir, 0, 3000)
				t.chmod(dir, bits)
				t.setxattr(dir, defaults, list, 0)
				t.getxattr(dir, defaults, 100)
				for _, u := range []user{root, alice} {
					for _, mask := range []int{0, 0o077, 0o027} {
						t.umask(mask)
						t.as(u, func() {
							name := fmt.Sprintf("%s/%s%o", dir, u.name, mask)
							t.close(t.open(name+"f", unix.O_CREAT|unix.O_RDWR, 0o666))
							t.close(t.open(name+"F", unix.O_CREAT|unix.O_RDWR, 0o2750))
							t.mkdir(name+"d", 0o777)
							t.mkdir(name+"d/sub", 0o711)
							t.mknod(name+"r", unix.S_IFREG|0o640, 0)
							t.mknod(name+"p", unix.S_IFIFO|0o666, 0)
							t.symlink("x", name+"l")
							fd := t.open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o666)
							t.fstat(fd)
							t.did(unix.Linkat(unix.AT_FDCWD, proc(fd), unix.AT_FDCWD, name+"t", unix.AT_SYMLINK_FOLLOW), "linkat")
							t.close(fd)
							for _, kind := range []string{"f", "F", "d", "d/sub", "r", "p", "l", "t"} {
								t.stat(name + kind)
								t.getxattr(name+kind, access, 100)
								t.getxattr(name+kind, defaults, 100)
							}
						})
					}
				}
			}
		}
	},
	"modes": func(t *tape) {
		t.umask(0)
		t.file("f", "x", 0o644)
		t.mkdir("d", 0o755)
		t.chown("f", 1001, 2001)
		for _, path := range []string{"f", "d"} {
			t.moved("setxattr", func() { t.setxattr(path, access, listFor(7, 5, 6, 4, 6, 7), 0) }, path)
			t.stat(path)
			for _, mode := range []uint32{0o777, 0o700, 0o640, 0o2775, 0, 0o666} {
				t.chmod(path, mode)
				t.getxattr(path, access, 100)
				t.stat(path)
			}
			t.setxattr(path, access, accessList([3]uint32{tagOwner, 6, noID}, [3]uint32{tagGroupOf, 4, noID}, [3]uint32{tagOther, 1, noID}), 0)
			t.getxattr(path, access, 100)
			t.stat(path)
			t.setxattr(path, access, listFor(7, 5, 7, 4, 6, 7), unix.XATTR_CREATE)
			t.setxattr(path, access, listFor(7, 5, 6, 4, 6, 7), unix.XATTR_REPLACE)
			t.moved("removexattr", func() { t.removexattr(path, access) }, path)
			t.stat(path)
			t.removexattr(path, access)
			t.setxattr(path, defaults, listFor(7, 5, 6, 4, 6, 7), 0)
			t.listxattr(path)
			t.removexattr(path, defaults)
			for _, wrong := range []string{"", "x", "\x02\x00\x00\x00", "\x03\x00\x00\x00", listFor(7, 5, 6, 4, 6, 7)[:20], listFor(9, 5, 6, 4, 6, 7), accessList([3]uint32{tagOwner, 7, noID})} {
				t.setxattr(path, access, wrong, 0)
				t.getxattr(path, access, 100)
				t.setxattr(path, defaults, wrong, 0)
			}
		}
		t.symlink("f", "l")
		t.setxattr("l", access, listFor(7, 5, 6, 4, 6, 7), 0)
		t.getxattr("l", access, 100)
		t.setxattr("none", access, listFor(7, 5, 6, 4, 6, 7), 0)
	},
	"permissions": func(t *tape) {
		t.umask(0)
		for i, list := range []string{listFor(7, 0, 7, 0, 7, 0), listFor(7, 0, 7, 0, 4, 6), listFor(0, 7, 4, 7, 6, 6), listFor(6, 6, 7, 6, 0, 0)} {
			path, dir := fmt.Sprintf("f%d", i), fmt.Sprintf("d%d", i)
			t.file(path, "x", 0o600)
			t.mkdir(dir, 0o700)
			t.file(dir+"/in", "x", 0o666)
			t.chown(path, 1001, 2000)
			t.chown(dir, 1001, 2000)
			t.setxattr(path, access, list, 0)
			t.setxattr(dir, access, list, 0)
			for _, u := range []user{alice, bob, carol, fowner} {
				t.as(u, func() {
					for _, mode := range []uint32{unix.R_OK, unix.W_OK, unix.X_OK} {
						t.access(path, mode)
						t.access(dir, mode)
					}
					t.cat(path)
					t.truncate(path, 1)
					t.stat(dir + "/in")
					t.close(t.open(dir+"/new", unix.O_CREAT|unix.O_RDWR, 0o600))
					t.unlink(dir + "/new")
					t.setxattr(path, access, list, 0)
					t.getxattr(path, access, 100)
					t.removexattr(path, access)
					t.setxattr(path, access, list, 0)
					t.chmod(path, 0o600)
				})
				t.setxattr(path, access, list, 0)
			}
		}
	},
	"set-ID bits": func(t *tape) {
		t.umask(0)
		for _, gid := range []int{1000, 2001, 3000} {
			for _, u := range []user{root, tame, alice, bob, fowner} {
				for _, mode := range []uint32{0o6775, 0o2664} {
					t.file("f", "x", 0o600)
					t.chown("f", 1000, gid)
					t.chmod("f", mode)
					t.as(u, func() { t.setxattr("f", access, listFor(7, 5, 7, 4, 6, 7), 0) })
					t.stat("f")
					t.as(u, func() { t.removexattr("f", access) })
					t.stat("f")
					t.unlink("f")
				}
			}
		}
	},
}
