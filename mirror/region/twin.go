package region

import (
	"strings"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Trees that share files, as snapshots of a backup or clones of a repository do,
// have them at the same place each. So where nothing is known of a file's other
// names one of them may be found there: at the same path but for one name on the
// way. What is found so is sure; that nothing is found says nothing.

const (
	maxBeside = 64  // names of one directory that are tried
	maxTries  = 512 // names in all
)

// pair is two directories that shared a file lately: others may be shared, too.
type pair struct{ dir, other string }

// twin returns another name of the file that is ino and stands at path, or "".
func (p *pair) twin(path string, ino uint64, look Look) (other string, st Stat) {
	try := func(name string) bool {
		got, err := look(name)
		if err != nil || got.Ino != ino || got.Local || name == path {
			return false
		}
		other, st = name, got
		return true
	}
	if p.dir != "" && op.Within(path, p.dir) && try(p.other+strings.TrimPrefix(path, p.dir)) {
		return other, st
	}
	tries := 0
	// From path upwards: own is path or a directory above it, and rest what
	// follows it in path.
	for own := path; own != op.Root; {
		dir, name := op.SplitPath(own)
		rest := strings.TrimPrefix(path, own)
		in, err := look(dir)
		if err != nil || in.Names == nil {
			return "", Stat{}
		}
		for _, beside := range in.Names(maxBeside) {
			if tries++; tries > maxTries {
				return "", Stat{}
			}
			if to := op.JoinPath(dir, beside); beside != name && try(to+rest) {
				if rest != "" {
					*p = pair{own, to}
				}
				return other, st
			}
		}
		own = dir
	}
	return "", Stat{}
}
