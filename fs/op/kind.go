package op

import "fmt"

// Kind says what an op does. The numbers are part of the wire format: they are
// only ever appended.
type Kind uint8

const (
	Invalid Kind = iota

	// Changes of the name space. Each carries the resulting attributes of the
	// object and the resulting mtime of the directories it changed.
	Create  // Path becomes a new, empty regular file
	Mkdir   // Path becomes a new directory
	Mknod   // Path becomes a fifo, socket or device: Attr.Mode, Attr.Rdev
	Symlink // Path becomes a symbolic link with text Data
	Link    // Path2 becomes another name of Path
	Unlink  // the name Path goes
	Rmdir   // the empty directory Path goes
	Rename  // Path becomes Path2; Arg holds the flags of renameat2(2)

	// Changes of a file's data.
	Write     // Data at Off
	Truncate  // the size becomes Attr.Size
	Fallocate // Arg holds the mode of fallocate(2), over Len bytes at Off
	CopyRange // Len bytes of Path at Off are copied to Path2 at Off2

	// Changes of attributes.
	SetAttr     // the fields of Attr named by Attr.Valid
	SetXattr    // Name becomes Data; Arg holds the flags of setxattr(2)
	RemoveXattr // Name goes

	// Fsync is a barrier: Path's earlier changes are on stable storage before it
	// is acknowledged as durable. It changes nothing but the mtime, if Attr says
	// which one earlier writes have left; a sync of more than data covers it.
	Fsync

	// Entries about the volume itself. Member is the node that leaves or
	// joins, Members the in-sync set that results.
	Expel
	Join

	// Repair. These make the mirror's object equal to what they describe,
	// whatever was there; with the flag Compare they only report differences.
	Put      // Path has type, attributes, xattrs and link text as given; Names are all its other names, if it has any; data is left alone
	PutLink  // Path2 is another name of the file Path
	PutNames // directory Path holds, between Path2 (exclusive) and Name (inclusive), just Names
	Check    // Path's regions from Off on, Len bytes, have the digests in Data, or, without Data, are all hole, or, if Arg is 1, none of them

	// Adopt never travels: Path got its first mirrored name (a linked
	// O_TMPFILE, a rename out of a local pattern) and is sent as state instead.
	Adopt

	// Survey is of the sort of Check: directory Path's children Names have the
	// digests in Data, each of its description and its first region.
	Survey

	// Hint is a repair that need not be: what a mirror has at Path may be what
	// belongs at Path2, since it was renamed while the mirror was away, with Arg as
	// in Rename. It is renamed there, too, if nothing speaks against it.
	Hint

	numKinds
)

var kindNames = [numKinds]string{
	"invalid", "create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename",
	"write", "truncate", "fallocate", "copyrange", "setattr", "setxattr", "removexattr",
	"fsync", "expel", "join", "put", "putlink", "putnames", "check", "adopt", "survey", "hint",
}

// String names the kind as the wire documentation does.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Valid reports whether k may stand in a frame.
func (k Kind) Valid() bool { return k > Invalid && k < numKinds && k != Adopt }

// Namespace reports whether k changes which names exist.
func (k Kind) Namespace() bool { return k >= Create && k <= Rename || k == Adopt }

// Data reports whether k changes only a file's data. With `sync: barrier` such
// an op returns once it is ordered, unless it carries the flag Barrier.
func (k Kind) Data() bool { return k >= Write && k <= CopyRange }

// TwoPaths reports whether an op of kind k has a path in Path2 too. For others
// that is empty or something else.
func (k Kind) TwoPaths() bool {
	return k == Link || k == Rename || k == CopyRange || k == PutLink || k == Hint
}

// Repair reports whether k comes from a resync or a verify: it is addressed to
// some mirrors only and no caller waits for it.
func (k Kind) Repair() bool { return k >= Put && k <= Check || k == Survey || k == Hint }
