package tree

import (
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

func put(path string, mode uint32) *op.Op {
	o := &op.Op{Kind: op.Put, Path: path, Attr: attrs(mode, 5)}
	if mode&unix.S_IFMT == unix.S_IFREG {
		o.Attr.Valid |= op.AttrSize
	}
	return o
}

// with changes an op.
func with(o *op.Op, change func(o *op.Op)) *op.Op {
	change(o)
	return o
}

func putLink(path, path2 string) *op.Op {
	return &op.Op{Kind: op.PutLink, Path: path, Path2: path2}
}

// A put is applied to what stands there, strictly and leniently, once and
// twice: all the same.
func TestPut(t *testing.T) {
	file := []*op.Op{create("f"), write("f", 0, "data"), link("f", "g")}
	full := []*op.Op{mkdir("d"), mkdir("d/e"), create("d/e/f")}
	x := func(name, value string) op.Xattr { return op.Xattr{Name: name, Value: []byte(value)} }
	for _, c := range []struct {
		name  string
		given []*op.Op
		do    *op.Op
		want  string
	}{
		{"a new file", nil, with(put("f", unix.S_IFREG|0o4711), func(o *op.Op) {
			o.Attr.UID, o.Attr.GID, o.Attr.Size, o.Attr.Mtime = 1, 2, 3, op.Time{Sec: -1, Nsec: 7}
			o.Xattrs = []op.Xattr{x("security.capability", capability), x("trusted.a", ""), x("user.b", "v")}
		}), root + `1
			f file 4711 1:2 @-1+7ns "\x00\x00\x00" security.capability=` + quote(capability) + ` trusted.a="" user.b="v"`},
		{"a file's data stays", file, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Attr.Size = 4 }), root + `1
			f file 0600 @5 "data"
			g file 0600 @5 "data" is f`},
		{"a file is cut", file, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) {
			o.Attr.Size = 2
			o.Xattrs = []op.Xattr{x("security.capability", capability)}
		}), root + `1
			f file 0600 @5 "da" security.capability=` + quote(capability) + `
			g file 0600 @5 "da" security.capability=` + quote(capability) + ` is f`},
		{"a file with one name", file, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Attr.Size, o.Arg = 4, 1 }), root + `1
			f file 0600 @5 "\x00\x00\x00\x00"
			g file 0644 @2 "data"`},
		{"a fresh file", file, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Flags = op.Fresh }), root + `1
			f file 0600 @5 ""
			g file 0644 @2 "data"`},
		{"a file for a tree", full, put("d", unix.S_IFREG|0o600), root + `1
			d file 0600 @5 ""`},
		{"a directory's entries stay", full, put("d", unix.S_IFDIR|0o700), root + `1
			d directory 0700 @5
			d/e directory 0755 @1
			d/e/f file 0644 @2 ""`},
		{"a fresh directory", full, with(put("d", unix.S_IFDIR|0o700), func(o *op.Op) { o.Flags = op.Fresh }), root + `1
			d directory 0700 @5`},
		{"the parent's time stays", full, with(put("d/e/f", unix.S_IFLNK|0o777), func(o *op.Op) { o.Data = []byte("x") }), root + `1
			d directory 0755 @1
			d/e directory 0755 @1
			d/e/f symbolic link 0777 @5 -> x`},
		{"a link's text", []*op.Op{symlink("l", "x")}, with(put("l", unix.S_IFLNK|0o777), func(o *op.Op) { o.Data, o.Attr.UID = []byte("y"), 1 }), root + `1
			l symbolic link 0777 1:0 @5 -> y`},
		{"a fifo for a link", []*op.Op{symlink("l", "x")}, put("l", unix.S_IFIFO|0o600), root + `1
			l fifo 0600 @5`},
		{"a socket", nil, put("s", unix.S_IFSOCK|0o600), root + `1
			s socket 0600 @5`},
		{"another device", []*op.Op{{Kind: op.Mknod, Path: "c", Attr: attrs(unix.S_IFBLK|0o600, 1), Dir: at(1)}},
			with(put("c", unix.S_IFBLK|0o600), func(o *op.Op) { o.Attr.Valid, o.Attr.Rdev = o.Attr.Valid|op.AttrRdev, 0x702 }), root + `1
			c block device 0600 @5 0x702`},
		{"the root", []*op.Op{create("f")}, with(put(".", unix.S_IFDIR|0o755), func(o *op.Op) { o.Attr.Mtime = at(0) }), root + `0
			f file 0644 @2 ""`},
		{"just these xattrs", []*op.Op{create("f"),
			{Kind: op.SetXattr, Path: "f", Name: "user.a", Data: []byte("1")},
			{Kind: op.SetXattr, Path: "f", Name: "user.b", Data: []byte("2")},
			{Kind: op.SetXattr, Path: "f", Name: "trusted.c", Data: []byte("3")},
			{Kind: op.SetXattr, Path: "f", Name: "system.posix_acl_access", Data: []byte(acl)}},
			with(put("f", unix.S_IFREG|0o664), func(o *op.Op) { o.Xattrs = []op.Xattr{x("user.b", "new"), x("user.d", "4")} }), root + `1
			f file 0664 @5 "" user.b="new" user.d="4"`},
		{"an access list", []*op.Op{create("f")}, with(put("f", unix.S_IFREG|0o640), func(o *op.Op) {
			o.Xattrs = []op.Xattr{x("system.posix_acl_access", acl)}
		}), root + `1
			f file 0640 @5 "" system.posix_acl_access=` + quote(acl)},
		{"below a default access list", []*op.Op{mkdir("d"), {Kind: op.SetXattr, Path: "d", Name: "system.posix_acl_default", Data: []byte(acl)}},
			put("d/f", unix.S_IFREG|0o666), root + `1
			d directory 0755 @2 system.posix_acl_default=` + quote(acl) + `
			d/f file 0666 @5 ""`},
		{"a link", []*op.Op{mkdir("d"), create("f")}, putLink("f", "d/g"), root + `1
			d directory 0755 @2
			d/g file 0644 @2 ""
			f file 0644 @2 "" is d/g`},
		{"a link for a tree", append([]*op.Op{create("f")}, full...), putLink("f", "d"), root + `1
			d file 0644 @2 ""
			f file 0644 @2 "" is d`},
		{"a link that is there", file, putLink("g", "f"), root + `1
			f file 0644 @2 "data"
			g file 0644 @2 "data" is f`},
		{"names", []*op.Op{mkdir("d"), create("d/a"), create("d/b"), mkdir("d/c"), create("d/c/x"), create("d/d")},
			&op.Op{Kind: op.PutNames, Path: "d", Names: []string{"a", "d", "e"}, Dir: at(9)}, root + `1
			d directory 0755 @9
			d/a file 0644 @2 ""
			d/d file 0644 @2 ""`},
		{"names in a range", []*op.Op{mkdir("d"), create("d/a"), create("d/b"), create("d/c"), create("d/d")},
			&op.Op{Kind: op.PutNames, Path: "d", Path2: "a", Name: "c", Names: []string{"b"}}, root + `1
			d directory 0755 @1
			d/a file 0644 @2 ""
			d/b file 0644 @2 ""
			d/d file 0644 @2 ""`},
		{"no names", full, &op.Op{Kind: op.PutNames, Path: "."}, root + "1"},
		{"not one name", []*op.Op{create("a"), create("b"), create("bb")},
			&op.Op{Kind: op.PutNames, Path: ".", Path2: "a" + strings.Repeat("\xff", 256), Name: "b"}, root + `1
			a file 0644 @2 ""
			bb file 0644 @2 ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, do := range map[string]func(*Tree, *op.Op) error{"strict": (*Tree).Apply, "lenient": (*Tree).ApplyLenient} {
				tr := newTree(t)
				for _, o := range c.given {
					if err := tr.ApplyLenient(o); err != nil {
						t.Fatalf("%v: %v", o, err)
					}
				}
				for _, when := range []string{"once", "twice"} {
					if err := do(tr, c.do); err != nil {
						t.Fatalf("%s, %s: %v", name, when, err)
					}
					expect(t, tr, c.want)
				}
			}
		})
	}
}

// Two xattrs that fill their block change their sizes: neither order of setting
// them may run out of room.
func TestPutXattrsThatFill(t *testing.T) {
	tr := newTree(t)
	ext4(t, tr)
	short, long := strings.Repeat("s", 10), strings.Repeat("l", 3000)
	apply(t, tr, create("f"))
	for _, v := range [][2]string{{short, long}, {long, short}, {short, long}} {
		o := put("f", unix.S_IFREG|0o600)
		o.Xattrs = []op.Xattr{{Name: "user.a", Value: []byte(v[0])}, {Name: "user.b", Value: []byte(v[1])}}
		apply(t, tr, o)
		expect(t, tr, root+`1
			f file 0600 @5 "" user.a="`+v[0]+`" user.b="`+v[1]+`"`)
	}
}

// What is made anew is told from what is kept.
func TestPutTells(t *testing.T) {
	named := func(others ...string) *op.Op {
		return with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Names, o.Arg = others, uint32(len(others)+1) })
	}
	for _, c := range []struct {
		name  string
		given []*op.Op
		do    *op.Op
		anew  bool
	}{
		{"nothing there", nil, put("f", unix.S_IFREG|0o600), true},
		{"a file", []*op.Op{create("f")}, put("f", unix.S_IFREG|0o600), false},
		{"a file, to be fresh", []*op.Op{create("f")}, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Flags = op.Fresh }), true},
		{"a file with another name", []*op.Op{create("f"), link("f", "g")}, with(put("f", unix.S_IFREG|0o600), func(o *op.Op) { o.Arg = 1 }), true},
		{"a file with two names", []*op.Op{create("f"), link("f", "g")}, named("g"), false},
		{"a file with two names, one of them wrong", []*op.Op{create("f"), create("g"), link("f", "h"), link("g", "i")}, named("g"), true},
		{"a file with a name too few", []*op.Op{create("f"), link("f", "g")}, named("g", "h"), true},
		{"a new name of a file", []*op.Op{create("g")}, named("g", "h"), true},
		{"a new name of what has a name too many", []*op.Op{create("g"), link("g", "i")}, named("g", "h"), true},
		{"a file with a name too many", []*op.Op{create("f"), link("f", "g"), link("f", "h")}, named("g"), true},
		{"a file with two names, unsaid", []*op.Op{create("f"), link("f", "g")}, put("f", unix.S_IFREG|0o600), false},
		{"a directory where a file shall be", []*op.Op{mkdir("f")}, put("f", unix.S_IFREG|0o600), true},
		{"a directory", []*op.Op{mkdir("f"), create("f/x")}, put("f", unix.S_IFDIR|0o700), false},
		{"the root", nil, put(".", unix.S_IFDIR|0o700), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			apply(t, tr, c.given...)
			if anew, err := tr.Put(c.do); err != nil || anew != c.anew {
				t.Errorf("made anew: %v, %v; want %v", anew, err, c.anew)
			}
		})
	}
	for _, o := range []*op.Op{put("../f", unix.S_IFREG|0o600), named("../g")} {
		if _, err := newTree(t).Put(o); err == nil {
			t.Errorf("%v, %q: outside of the tree", o, o.Names)
		}
	}
}
