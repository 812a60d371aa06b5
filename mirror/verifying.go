package mirror

import (
	"fmt"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
)

// maxDifferences bounds what is kept of one replica's differences.
const maxDifferences = 10_000

// verifying collects one mirror's differences. The log's mu guards it.
type verifying struct {
	differences []string
	more        int // beyond maxDifferences
	suspects    suspects
	// surveyed are children that surveys found to differ, the first looked of which
	// have been looked at alone since.
	surveyed []string
	looked   int
	gone     string // why the mirror is not compared to the end
}

func (v *verifying) add(r wire.Report) {
	if len(v.differences) == maxDifferences {
		v.more++
		return
	}
	v.differences = append(v.differences, fmt.Sprintf("%q: %s", r.Path, r.What))
	path := string(r.Path2)
	if path == "" {
		path = string(r.Path)
	}
	s := v.suspects.add(path, r.Regions)
	if other := string(r.Path); other != path && len(r.Regions) == 0 && !op.Within(path, other) {
		s.with[other] = true
	}
}

// survey takes what a survey found to differ.
func (v *verifying) survey(dir string, names [][]byte) error {
	for _, name := range names {
		path := op.JoinPath(dir, string(name))
		if err := op.CheckPath(path); err != nil {
			return fmt.Errorf("%w: report: %w", errProto, err)
		}
		if len(v.differences)+len(v.surveyed) >= maxDifferences {
			v.more++
			continue
		}
		v.surveyed = append(v.surveyed, path)
	}
	return nil
}

func (v *verifying) lost(why string) {
	if v.gone == "" {
		v.gone = why
	}
}

// explain adds what nothing was found of any more when it was looked at alone.
func (v *verifying) explain() {
	for _, path := range v.surveyed[:v.looked] {
		if v.suspects[path] == nil && v.more == 0 && v.gone == "" {
			v.add(wire.Report{Path: []byte(path), What: "was different, and is not any more"})
		}
	}
}
