package fs

import "slices"

// link is one name of an inode.
type link struct {
	parent *inode
	name   string
}

// links are the known names of one inode, each once. Most inodes have one; a
// file may have 65,000, and none of them may be searched for.
type links struct {
	all []link
	// at says where in all each is. It is nil until there are many.
	at map[link]int
}

// many is from how many names on an index costs less than a search.
const many = 16

func (ls *links) find(l link) int {
	if ls.at == nil {
		return slices.Index(ls.all, l)
	}
	if i, ok := ls.at[l]; ok {
		return i
	}
	return -1
}

// add reports false if l was there.
func (ls *links) add(l link) bool {
	if ls.find(l) >= 0 {
		return false
	}
	ls.all = append(ls.all, l)
	switch {
	case ls.at != nil:
		ls.at[l] = len(ls.all) - 1
	case len(ls.all) >= many:
		ls.at = make(map[link]int, 2*many)
		for i, l := range ls.all {
			ls.at[l] = i
		}
	}
	return true
}

// remove reports false if l was not there. The last name takes its place.
func (ls *links) remove(l link) bool {
	i := ls.find(l)
	if i < 0 {
		return false
	}
	end := len(ls.all) - 1
	last := ls.all[end]
	ls.all[i], ls.all[end] = last, link{}
	ls.all = ls.all[:end]
	switch {
	case end == 0:
		*ls = links{}
	case ls.at != nil:
		ls.at[last] = i
		delete(ls.at, l)
	}
	return true
}
