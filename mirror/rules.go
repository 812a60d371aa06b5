package mirror

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/standbyfs/standbyfs/fs/op"
)

// rules decides the level of a path. Patterns are those of gitignore(5): one
// without a slash matches a name at any depth and all below it, one with a
// slash is anchored at the root, "**" crosses directories. A slash at the end
// says nothing here: what is at a path may change its type, and a rule must not
// change with it. Negation is not needed, since the last rule that matches wins.
type rules struct {
	standard Level
	list     []rule
	local    bool // some rule says SyncLocal
}

type rule struct {
	pattern gitignore.Pattern
	level   Level
}

// newRules compiles what the configuration says.
func newRules(standard Level, list []Rule) (*rules, error) {
	r := &rules{standard: standard}
	for i, c := range list {
		if err := CheckRule(c); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		r.list = append(r.list, rule{gitignore.ParsePattern(c.Match, nil), c.Sync})
		r.local = r.local || c.Sync == SyncLocal
	}
	return r, nil
}

// Travels returns what reports whether mirrors know a path, by rules.
func Travels(list []Rule) (func(path string) bool, error) {
	r, err := newRules(SyncOp, list)
	if err != nil {
		return nil, err
	}
	return r.mirrored, nil
}

// Local returns what reports whether any of the patterns, as in rules that say
// SyncLocal, matches a path.
func Local(patterns []string) (func(path string) bool, error) {
	var list []Rule
	for _, p := range patterns {
		list = append(list, Rule{Match: p, Sync: SyncLocal})
	}
	travels, err := Travels(list)
	if err != nil {
		return nil, err
	}
	return func(path string) bool { return !travels(path) }, nil
}

// Border returns what of rules decides which paths travel, as a list that is the
// same for the same paths; nil if all do.
func Border(list []Rule) []string {
	var border []string
	for _, c := range list {
		switch {
		case c.Sync == SyncLocal:
			border = append(border, "local "+c.Match)
		case len(border) > 0: // it may take paths out of the ones before
			border = append(border, "mirrored "+c.Match)
		}
	}
	return border
}

// CheckRule returns an error that says what is wrong with a rule.
func CheckRule(c Rule) error {
	if c.Match == "" || strings.HasPrefix(c.Match, "!") {
		return fmt.Errorf("match %q: want a gitignore pattern without negation", c.Match)
	}
	if _, err := filepath.Match(c.Match, ""); err != nil {
		return fmt.Errorf("match %q: %w", c.Match, err)
	}
	switch c.Sync {
	case SyncOp, SyncBarrier, SyncLocal:
		return nil
	}
	return fmt.Errorf("sync %q: want %s, %s or %s", c.Sync, SyncOp, SyncBarrier, SyncLocal)
}

// level returns the level of path.
func (r *rules) level(path string) Level {
	if len(r.list) == 0 || path == op.Root {
		return r.standard
	}
	names := strings.Split(path, "/")
	for i := len(r.list) - 1; i >= 0; i-- {
		if r.list[i].pattern.Match(names, true) != gitignore.NoMatch {
			return r.list[i].level
		}
	}
	return r.standard
}

// mirrored reports whether changes of path travel.
func (r *rules) mirrored(path string) bool { return !r.local || r.level(path) != SyncLocal }
