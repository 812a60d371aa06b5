package mirror

import (
	"context"
	"maps"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

// Aspect is a part of an object about which replicas agree or not.
type Aspect string

const (
	// AspectObject: what is at the path, and all below it. Some have nothing there,
	// or something of another type.
	AspectObject Aspect = "object"
	// AspectAttributes: all but the content and the names of a directory.
	AspectAttributes Aspect = "attributes"
	// AspectContent: some regions of a file.
	AspectContent Aspect = "content"
	// AspectLink: whether two paths are names of one file.
	AspectLink Aspect = "link"
)

// Item is a difference with the versions that there are of it. Paths are any
// bytes, hence not strings of JSON.
type Item struct {
	Path     []byte    `json:"path"`
	With     [][]byte  `json:"with,omitempty"` // of AspectLink: the other name; of AspectObject: names of files that have others in it
	Aspect   Aspect    `json:"aspect"`
	Regions  []int64   `json:"regions,omitempty"` // of AspectContent: offsets
	Versions []Version `json:"versions"`          // the primary's first
}

// Version is what some replicas agree on.
type Version struct {
	ID    string   `json:"id"`
	Text  string   `json:"text"`  // for people
	Nodes []string `json:"nodes"` // who has it
}

// suspects are the objects about which a verify has heard of differences.
type suspects map[string]*suspect

type suspect struct {
	regions map[int64]bool
	with    map[string]bool // other names that it is tied to here or there
}

func (s suspects) add(path string, regions []int64) *suspect {
	one := s[path]
	if one == nil {
		one = &suspect{regions: make(map[int64]bool), with: make(map[string]bool)}
		s[path] = one
	}
	for _, r := range regions {
		one.regions[r] = true
	}
	return one
}

// items finds out who has which version of what is suspect. What has become equal
// meanwhile is left out, and so is what lies below something that not all have.
func (s suspects) items(ctx context.Context, v *views) ([]Item, error) {
	var all []Item
	covered := ""
	for _, path := range slices.Sorted(maps.Keys(s)) {
		if covered != "" && op.Within(path, covered) {
			of := &all[len(all)-1]
			of.With = append(of.With, s[path].others(covered)...)
			continue
		}
		var items []Item
		err := v.log.source.Hold(path, func() (err error) {
			items, err = s[path].look(ctx, v, path)
			return err
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue // the difference stands in the report, with what cannot be read
		}
		if len(items) > 0 && items[0].Aspect == AspectObject {
			covered = path
		}
		all = append(all, items...)
	}
	return all, nil
}

// others are the names that a suspect is tied to which do not lie in dir.
func (s *suspect) others(dir string) [][]byte {
	var all [][]byte
	for _, with := range slices.Sorted(maps.Keys(s.with)) {
		if !op.Within(with, dir) {
			all = append(all, []byte(with))
		}
	}
	return all
}

// look is items for one object, which the caller keeps from changing.
func (s *suspect) look(ctx context.Context, v *views, path string) ([]Item, error) {
	regions := slices.Sorted(maps.Keys(s.regions))
	seen, err := v.look(ctx, path, regions)
	if err != nil {
		return nil, err
	}
	if !alike(seen) {
		return asItem(Item{Path: []byte(path), Aspect: AspectObject, With: s.others(path)}, seen), nil
	}
	all := asItem(Item{Path: []byte(path), Aspect: AspectAttributes}, seen)
	if seen[0].put != nil && seen[0].put.Attr.Mode&unix.S_IFMT == unix.S_IFREG {
		all = append(all, contentItems(path, regions, seen)...)
	}
	for _, with := range slices.Sorted(maps.Keys(s.with)) {
		other, err := v.look(ctx, with, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, linkItem(path, with, seen, other)...)
	}
	return all, nil
}

// alike reports whether all replicas have something of the same type, or nothing.
func alike(seen []seen) bool {
	kind := func(i int) uint32 {
		if seen[i].put == nil {
			return 0
		}
		return seen[i].put.Attr.Mode & unix.S_IFMT
	}
	for i := range seen {
		if kind(i) != kind(0) {
			return false
		}
	}
	return true
}

// asItem fills in the versions of i. It returns none if there is just one.
func asItem(i Item, seen []seen) []Item {
	for k := range seen {
		i.add(seen[k].version(i.Aspect), seen[k].text(i.Aspect), seen[k].name)
	}
	if len(i.Versions) < 2 {
		return nil
	}
	return []Item{i}
}

func (i *Item) add(id, text, node string) {
	at := slices.IndexFunc(i.Versions, func(v Version) bool { return v.ID == id })
	if at < 0 {
		at = len(i.Versions)
		i.Versions = append(i.Versions, Version{ID: id, Text: text})
	}
	i.Versions[at].Nodes = append(i.Versions[at].Nodes, node)
}

// contentItems makes one item of each run of regions about which the same
// replicas agree.
func contentItems(path string, regions []int64, all []seen) []Item {
	var items []Item
	camps := func(r int) (who []int, equal bool) {
		equal = true
		for k := range all {
			first := slices.IndexFunc(all, func(s seen) bool { return string(s.digests[r]) == string(all[k].digests[r]) })
			who, equal = append(who, first), equal && first == 0
		}
		return who, equal
	}
	for r := 0; r < len(regions); {
		who, equal := camps(r)
		from := r
		for r++; r < len(regions) && regions[r] == regions[r-1]+op.RegionSize; r++ {
			if next, _ := camps(r); !slices.Equal(next, who) {
				break
			}
		}
		if equal {
			continue
		}
		run := slices.Clone(all)
		for k := range run {
			run[k].digests = run[k].digests[from:r]
		}
		items = append(items, asItem(Item{Path: []byte(path), Aspect: AspectContent, Regions: regions[from:r]}, run)...)
	}
	return items
}

// linkItem is about path and with being names of one file.
func linkItem(path, with string, one, other []seen) []Item {
	i := Item{Path: []byte(path), With: [][]byte{[]byte(with)}, Aspect: AspectLink}
	for k := range one {
		at := slices.IndexFunc(other, func(s seen) bool { return s.peer == one[k].peer })
		if at < 0 {
			continue
		}
		id := tied(&one[k], &other[at])
		i.add(id, id, one[k].name)
	}
	if len(i.Versions) < 2 {
		return nil
	}
	return []Item{i}
}

// The versions of AspectLink.
const (
	versionTied  = "names of one file"
	versionApart = "two files"
)

func tied(one, other *seen) string {
	if one.put != nil && other.put != nil && one.id.Key() == other.id.Key() {
		return versionTied
	}
	return versionApart
}
