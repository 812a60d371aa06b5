package disk

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Plan says which calls fail. It prints itself and ParsePlan reads that back:
//
//	fsync #3 of *.db: EIO               the third one of such a file
//	write of data/x at 4096-8192: EIO   all that touch these bytes
//	rename #2+: ENOSPC                  the second one and all after it
//	flush: OK                           answered and not done
//
// Names of calls and of files may have the wildcards of path.Match; a pattern
// without a slash is for a file's last name. A Drive has the calls read, write
// and flush, and no files.
type Plan []Rule

// Rule makes calls fail.
type Rule struct {
	Call     string // "*" is any
	Nth      int    // counted from 1 over the calls that match; 0 is every one
	After    bool   // and all after the n-th
	Path     string // "" is any
	From, To int64  // bytes that the call touches; both 0 is any
	Errno    syscall.Errno
}

// Call is one call that may fail.
type Call struct {
	Name     string
	Path     string
	Off, Len int64
}

// String prints the plan as ParsePlan reads it.
func (p Plan) String() string {
	rules := make([]string, len(p))
	for i, r := range p {
		rules[i] = r.String()
	}
	return strings.Join(rules, "; ")
}

// String prints the rule as it stands in a plan.
func (r Rule) String() string {
	text := r.Call
	if r.Nth > 0 {
		text += fmt.Sprintf(" #%d", r.Nth)
		if r.After {
			text += "+"
		}
	}
	if r.Path != "" {
		text += " of " + r.Path
	}
	if r.To > 0 {
		text += fmt.Sprintf(" at %d-%d", r.From, r.To)
	}
	if r.Errno == 0 {
		return text + ": OK"
	}
	return text + ": " + unix.ErrnoName(r.Errno)
}

// ParsePlan reads what Plan.String prints. An empty text is a plan by which
// nothing fails.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	for rule := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(rule) == "" {
			continue
		}
		r, err := parseRule(rule)
		if err != nil {
			return nil, fmt.Errorf("plan %q: %w", text, err)
		}
		p = append(p, r)
	}
	return p, nil
}

func parseRule(text string) (Rule, error) {
	var r Rule
	what, errno, ok := strings.Cut(text, ":")
	words := strings.Fields(what)
	if !ok || len(words) == 0 {
		return r, fmt.Errorf("%q: want CALL [#N[+]] [of PATH] [at FROM-TO]: ERRNO", text)
	}
	var err error
	if r.Errno, err = parseErrno(strings.TrimSpace(errno)); err != nil {
		return r, err
	}
	r.Call, words = words[0], words[1:]
	if len(words) > 0 && strings.HasPrefix(words[0], "#") {
		number, after := strings.CutSuffix(words[0][1:], "+")
		if r.Nth, err = strconv.Atoi(number); err != nil || r.Nth < 1 {
			return r, fmt.Errorf("%q: want a number from 1 on", words[0])
		}
		r.After, words = after, words[1:]
	}
	if len(words) > 1 && words[0] == "of" {
		r.Path, words = words[1], words[2:]
	}
	if len(words) > 1 && words[0] == "at" {
		from, to, _ := strings.Cut(words[1], "-")
		r.From, err = strconv.ParseInt(from, 10, 64)
		if err == nil {
			r.To, err = strconv.ParseInt(to, 10, 64)
		}
		if err != nil || r.From < 0 || r.To <= r.From {
			return r, fmt.Errorf("%q: want bytes FROM-TO", words[1])
		}
		words = words[2:]
	}
	if len(words) > 0 {
		return r, fmt.Errorf("%q: %q is not understood", text, words[0])
	}
	for _, pattern := range []string{r.Call, r.Path} {
		if _, err := path.Match(pattern, ""); err != nil {
			return r, fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return r, nil
}

func parseErrno(name string) (syscall.Errno, error) {
	const last = 133 // of Linux
	for e := syscall.Errno(1); e <= last; e++ {
		if unix.ErrnoName(e) == name {
			return e, nil
		}
	}
	if name == "OK" {
		return 0, nil
	}
	return 0, fmt.Errorf("errno %q: want a name such as EIO, or OK", name)
}

// matches reports whether the rule is about the call, whatever its number.
func (r Rule) matches(c Call) bool {
	if ok, _ := path.Match(r.Call, c.Name); !ok {
		return false
	}
	name := c.Path
	if !strings.Contains(r.Path, "/") {
		name = path.Base(name)
	}
	if ok, _ := path.Match(r.Path, name); r.Path != "" && !ok {
		return false
	}
	return r.To == 0 || c.Off < r.To && c.Off+c.Len > r.From
}

// faults is a plan at work: it counts.
type faults struct {
	mu   sync.Mutex // guards all below
	plan Plan
	seen []int // calls that matched, of each rule
	hits int   // calls that failed since the plan was set
}

func (f *faults) set(p Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.seen, f.hits = p, make([]int, len(p)), 0
}

// fails reports whether the call fails, and how. Of several rules the first one
// counts.
func (f *faults) fails(c Call) (syscall.Errno, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	errno, fails := syscall.Errno(0), false
	for i, r := range f.plan {
		if !r.matches(c) {
			continue
		}
		f.seen[i]++
		due := r.Nth == 0 || f.seen[i] == r.Nth || r.After && f.seen[i] > r.Nth
		if due && !fails {
			errno, fails = r.Errno, true
			f.hits++
		}
	}
	return errno, fails
}

// count returns how many calls have failed since the plan was set.
func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}
