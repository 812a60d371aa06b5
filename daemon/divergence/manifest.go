package divergence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Item is one line of a manifest.
type Item struct {
	What   What   `json:"what"`
	Path   Path   `json:"path"`
	Inode  uint64 `json:"inode"`
	Device uint64 `json:"device,omitempty"` // unless it is the header's

	// Of an object: all but its data.
	Object *Object `json:"object,omitempty"`

	// Of data, and of a hole: the range of the file, and where in the file data
	// its bytes stand.
	Off int64  `json:"off,omitempty"`
	Len int64  `json:"len,omitempty"`
	At  int64  `json:"at,omitempty"`
	CRC uint32 `json:"crc,omitempty"` // CRC-32C of the bytes

	Why  string    `json:"why"` // the kind of the op that was about to take it
	When time.Time `json:"when"`
}

// What an item is.
type What string

const (
	WhatObject What = "object" // type, attributes, xattrs, link text
	WhatData   What = "data"   // a range of a file
	WhatHole   What = "hole"   // one that reads as zeros and takes no room
	WhatGone   What = "gone"   // all of the object is kept: it goes
)

// Object describes an object without its data.
type Object struct {
	Mode  uint32  `json:"mode"` // as st_mode
	UID   uint32  `json:"uid"`
	GID   uint32  `json:"gid"`
	Rdev  uint32  `json:"rdev,omitempty"`
	Size  int64   `json:"size,omitempty"`
	Mtime op.Time `json:"mtime"`
	Flags uint32  `json:"flags,omitempty"`
	Link  Path    `json:"link,omitempty"`
	Xattr []Xattr `json:"xattrs,omitempty"`
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  Path   `json:"name"`
	Value []byte `json:"value"`
}

// Path is bytes that need not be UTF-8. In JSON what is not printable, and the
// backslash, is escaped as in Go: `caf\xe9`.
type Path string

// MarshalText escapes the path.
func (p Path) MarshalText() ([]byte, error) {
	quoted := strconv.Quote(string(p))
	return []byte(quoted[1 : len(quoted)-1]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (p *Path) UnmarshalText(text []byte) error {
	s, err := strconv.Unquote(`"` + string(text) + `"`)
	if err != nil {
		return fmt.Errorf("path %q: %w", text, err)
	}
	*p = Path(s)
	return nil
}

// String escapes the path.
func (p Path) String() string {
	text, _ := p.MarshalText() // has no errors
	return string(text)
}

// objectOf turns a description into what an item holds of it.
func objectOf(put *op.Op) *Object {
	a := &put.Attr
	o := &Object{Mode: a.Mode, UID: a.UID, GID: a.GID, Rdev: a.Rdev, Size: a.Size, Mtime: a.Mtime, Flags: a.Flags, Link: Path(put.Data)}
	for _, x := range put.Xattrs {
		o.Xattr = append(o.Xattr, Xattr{Path(x.Name), x.Value})
	}
	return o
}

// Put is the op that makes such an object.
func (o *Object) Put(path string) *op.Op {
	put := &op.Op{Kind: op.Put, Path: path, Attr: op.Attr{
		Valid: op.AttrMode | op.AttrOwner | op.AttrMtime | op.AttrRdev | op.AttrFlags,
		Mode:  o.Mode, UID: o.UID, GID: o.GID, Rdev: o.Rdev, Mtime: o.Mtime, Flags: o.Flags,
	}}
	if o.Regular() {
		put.Attr.Valid |= op.AttrSize
		put.Attr.Size = o.Size
	}
	if o.Link != "" {
		put.Data = []byte(o.Link)
	}
	for _, x := range o.Xattr {
		put.Xattrs = append(put.Xattrs, op.Xattr{Name: string(x.Name), Value: x.Value})
	}
	return put
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// How a line ends; the sum is written between the two.
const (
	sumStart = `,"sum":"`
	sumEnd   = "\"}\n"
	sumSize  = len(sumStart) + 8 + len(sumEnd)
)

// appendLine appends an item's line.
func appendLine(dst []byte, item *Item) ([]byte, error) {
	text, err := json.Marshal(item)
	if err != nil {
		return dst, fmt.Errorf("describe %q: %w", string(item.Path), err)
	}
	text = text[:len(text)-1] // the closing brace
	dst = append(dst, text...)
	return fmt.Appendf(dst, "%s%08x%s", sumStart, crc32.Checksum(text, castagnoli), sumEnd), nil
}

var errDamaged = errors.New("damaged")

// parseLine reads a line with its end.
func parseLine(line []byte) (*Item, error) {
	if len(line) < sumSize || !bytes.HasSuffix(line, []byte(sumEnd)) {
		return nil, errDamaged
	}
	text := line[:len(line)-sumSize]
	if string(line[len(text):]) != fmt.Sprintf("%s%08x%s", sumStart, crc32.Checksum(text, castagnoli), sumEnd) {
		return nil, errDamaged
	}
	item := new(Item)
	if err := json.Unmarshal(append(bytes.Clone(text), '}'), item); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return item, nil
}
