package tree

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// DigestHeader is the first line of what Digest hashes. Whoever changes any of
// what follows changes the number in it.
//
// "standbyfs digest v1" is the xxh3-128 of a text: the header, and then one line
// for each object of the tree. The root comes first, a directory before what is
// in it, its names sorted bytewise. All lines end in a newline, and their parts
// have one space between them:
//
//	"PATH" TYPE MODE UID:GID SECONDS.NANOSECONDS [PARTS]
//
// PATH is relative to the root, which is ".". TYPE is one of file, dir, link,
// fifo, socket, char, block. MODE is the permissions in octal, four digits.
// The time is the mtime, with nine digits behind the point. Those of these PARTS
// follow that the object has, in this order:
//
//	flags=0xN             those of op.InodeFlags that are set, if any
//	dev=0xN               of char and block: as makedev(3)
//	size=N content=HEX    of file: see below
//	to="TEXT"             of link
//	xattr "NAME"="VALUE"  each, sorted bytewise by name
//
// An object that is no directory and whose inode had a line already has only
// this one:
//
//	"PATH" is "FIRST"
//
// where FIRST is the path of that line. Between quotes a backslash, a quote and
// every byte that is not printable ASCII is \xNN.
//
// The content is the xxh3-128 of the digests (16 bytes each, big endian) of the
// file's blocks of 1 MiB, the last one as long as it is; holes are zeros.
//
// Not part of it: times of access and change, inode numbers, the size of a
// directory, where the holes are, names outside of the tree.
const DigestHeader = "standbyfs digest v1\n"

const digestBlock = 1 << 20

// Digest returns the digest of the tree and writes the text that it is of to
// lines. Nobody may change the tree meanwhile. What skip reports, with all below
// it, is passed over.
func (t *Tree) Digest(ctx context.Context, skip func(path string) bool, lines io.Writer) (string, error) {
	g, ctx := errgroup.WithContext(ctx)
	d := digestion{tree: t, skip: skip, queue: make(chan *digested, 1024), work: make(chan *digested)}
	workers := max(2, runtime.GOMAXPROCS(0))
	g.Go(func() error {
		defer close(d.queue)
		defer close(d.work)
		return d.list(ctx, op.Root, true)
	})
	for range workers {
		g.Go(func() error {
			for o := range d.work {
				if err := d.describe(ctx, o); err != nil {
					return err
				}
				close(o.done)
			}
			return nil
		})
	}
	sum := xxh3.New()
	g.Go(func() error { return d.write(ctx, io.MultiWriter(sum, lines)) })
	if err := g.Wait(); err != nil {
		return "", fmt.Errorf("digest %s: %w", t.dir, err)
	}
	digest := sum.Sum128().Bytes()
	return hex.EncodeToString(digest[:]), nil
}

// digestion is one run of Digest: one goroutine lists, several describe, one
// writes the lines in the order of the list.
type digestion struct {
	tree  *Tree
	skip  func(path string) bool
	queue chan *digested // all objects, in order
	work  chan *digested // the same, to be described
}

type digested struct {
	path string
	done chan struct{} // closed once all below is there
	put  *op.Op
	id   Inode
	// content is that of a file with one name. Of others it is read once the
	// order has told which name is the first.
	content string
}

func (d *digestion) list(ctx context.Context, path string, dir bool) error {
	o := &digested{path: path, done: make(chan struct{})}
	for _, to := range []chan *digested{d.queue, d.work} {
		select {
		case to <- o:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !dir {
		return nil
	}
	names, err := d.tree.Names(path)
	if err != nil {
		return err
	}
	for _, e := range names {
		if path := op.JoinPath(path, e.Name); !d.skip(path) {
			if err := d.list(ctx, path, e.Mode == unix.S_IFDIR); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *digestion) describe(ctx context.Context, o *digested) (err error) {
	if o.put, o.id, err = d.tree.Describe(o.path); err != nil {
		return err
	}
	if o.put.Attr.Mode&unix.S_IFMT == unix.S_IFREG && o.id.Nlink == 1 {
		o.content, err = d.tree.contentDigest(ctx, o.path)
	}
	return err
}

func (d *digestion) write(ctx context.Context, to io.Writer) error {
	if _, err := io.WriteString(to, DigestHeader); err != nil {
		return err
	}
	first := make(map[Inode]string) // of inodes that have several names
	for o := range d.queue {
		select {
		case <-o.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		var line string
		tied := o.id.Nlink > 1 && o.put.Attr.Mode&unix.S_IFMT != unix.S_IFDIR
		if was, ok := first[o.id.Key()]; tied && ok {
			line = quoted(o.path) + " is " + quoted(was) + "\n"
		} else {
			if tied {
				first[o.id.Key()] = o.path
				if o.put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
					var err error
					if o.content, err = d.tree.contentDigest(ctx, o.path); err != nil {
						return err
					}
				}
			}
			line = o.line()
		}
		if _, err := io.WriteString(to, line); err != nil {
			return err
		}
	}
	return nil
}

// line is one object as DigestHeader says.
func (o *digested) line() string {
	a := &o.put.Attr
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %04o %d:%d %d.%09d", quoted(o.path), digestType(a.Mode), a.Mode&0o7777, a.UID, a.GID, a.Mtime.Sec, a.Mtime.Nsec)
	if a.Flags != 0 {
		fmt.Fprintf(&b, " flags=%#x", a.Flags)
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " dev=%#x", a.Rdev)
	case unix.S_IFREG:
		fmt.Fprintf(&b, " size=%d content=%s", a.Size, o.content)
	case unix.S_IFLNK:
		fmt.Fprintf(&b, " to=%s", quoted(string(o.put.Data)))
	}
	for _, x := range o.put.Xattrs {
		fmt.Fprintf(&b, " xattr %s=%s", quoted(x.Name), quoted(string(x.Value)))
	}
	b.WriteByte('\n')
	return b.String()
}

func digestType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "char"
	}
	return "block"
}

func quoted(text string) string {
	b := []byte{'"'}
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			b = fmt.Appendf(b, `\x%02x`, c)
		} else {
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// contentDigest is the digest of a file's content.
func (t *Tree) contentDigest(ctx context.Context, path string) (string, error) {
	f, size, err := t.openData(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var digests []byte
	var hole [16]byte // digest of a block of zeros, once there was one
	buf := make([]byte, min(size, digestBlock))
	next := int64(-1) // where data is known to begin
	for off := int64(0); off < size; off += digestBlock {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		block := buf[:min(digestBlock, size-off)]
		if next < off {
			if next, err = nextData(f, off, size); err != nil {
				return "", pathError("find holes of", path, err)
			}
		}
		if next >= off+int64(len(block)) {
			if hole == [16]byte{} || len(block) < digestBlock {
				clear(block)
				hole = xxh3.Hash128(block).Bytes()
			}
			digests = append(digests, hole[:]...)
			continue
		}
		if _, err := f.ReadAt(block, off); err != nil {
			return "", pathError("read", path, err) // io.EOF: it was cut off meanwhile
		}
		digest := xxh3.Hash128(block).Bytes()
		digests = append(digests, digest[:]...)
	}
	digest := xxh3.Hash128(digests).Bytes()
	return hex.EncodeToString(digest[:]), nil
}

// nextData returns where data begins at or behind off, size if nowhere.
func nextData(f *os.File, off, size int64) (int64, error) {
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, nil
	}
	return data, err
}
