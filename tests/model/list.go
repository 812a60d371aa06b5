package model

import (
	"encoding/binary"
	"slices"
)

// The xattrs that access lists are.
const (
	accessList  = "system.posix_acl_access"
	defaultList = "system.posix_acl_default"
)

// list returns an access list for a step, as its xattr holds it: mostly one
// with entries for users and groups, now and then one that says no more than a
// mode does, or nonsense.
func list(s Step) []byte {
	const none = 1<<32 - 1
	perm := func(shift int) uint16 { return uint16(s.ID>>shift) & 7 }
	type entry struct {
		tag, perm uint16
		id        uint32
	}
	entries := []entry{{1, perm(0), none}, {4, perm(3), none}, {0x20, perm(6), none}}
	if s.ID%8 > 0 {
		entries = append(entries, entry{2, perm(1), memberID}, entry{0x10, perm(2), none})
	}
	if s.ID%8 > 4 {
		entries = append(entries, entry{8, perm(4), uint32(s.ID)})
	}
	// They are in the order of their tags.
	slices.SortFunc(entries, func(a, b entry) int { return int(a.tag) - int(b.tag) })
	if s.ID%31 == 0 {
		entries = entries[1:]
	}
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// value returns what a step that sets an xattr sets it to.
func value(s Step) []byte {
	if s.Name == accessList || s.Name == defaultList {
		return list(s)
	}
	return data(s)
}
