package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/tests/harness"
)

// checkEvery is after how many steps the whole trees are compared.
const checkEvery = 100

// Mismatch is where a judged directory first behaved unlike the model.
type Mismatch struct {
	Index int // of the step in what was run
	Step  Step
	What  string
}

// String prints the step and both outcomes.
func (m *Mismatch) String() string {
	return fmt.Sprintf("step %d: %s\n%s", m.Index, m.Step, m.What)
}

// actor makes steps: a World or a Crew.
type actor interface {
	Do(s Step) Outcome
	Close()
}

func newActor(root string, o Options) (actor, error) {
	if o.Crew {
		return NewCrew(root)
	}
	return NewWorld(root), nil
}

// Run makes each step first in the directory plain and then in judged, both of
// them empty, and returns the first difference, nil if there is none. Before
// each step it calls between, if that is not nil, with the step's index. Of the
// trees it compares what the options of the sequence leave equal. An error is
// about reading the directories, or about starting processes.
func Run(steps []Step, plain, judged string, o Options, between func(i int)) (*Mismatch, error) {
	a, err := newActor(plain, o)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := newActor(judged, o)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	without := o.aspects()
	for i, s := range steps {
		if between != nil {
			between(i)
		}
		want, got := a.Do(s), b.Do(s)
		if want != got {
			return &Mismatch{i, s, fmt.Sprintf("\tplain:  %s\n\tjudged: %s", want, got)}, nil
		}
		if i%checkEvery == checkEvery-1 || i == len(steps)-1 {
			differ, err := Compare(plain, judged, without)
			if err != nil {
				return nil, err
			}
			if len(differ) > 0 {
				return &Mismatch{i, s, "after this step the trees differ (plain, judged):\n" + strings.Join(differ, "\n")}, nil
			}
		}
	}
	return nil, nil
}

// Compare returns what differs between two directories.
func Compare(plain, judged string, without harness.Aspects) ([]string, error) {
	a, err := harness.ReadSnapshot(plain)
	if err != nil {
		return nil, err
	}
	b, err := harness.ReadSnapshot(judged)
	if err != nil {
		return nil, err
	}
	return harness.Differences(a, b, without), nil
}

// Shrink leaves steps out of a failing sequence while fails still says so, in
// ever smaller parts, until budget has passed. It returns the indices of the
// steps that are left.
func Shrink(steps []Step, budget time.Duration, fails func([]Step) bool) []int {
	until := time.Now().Add(budget)
	keep := make([]int, len(steps))
	for i := range keep {
		keep[i] = i
	}
	for part := len(keep) / 2; part > 0; part /= 2 {
		for at := 0; at < len(keep); {
			if time.Now().After(until) {
				return keep
			}
			less := slices.Delete(slices.Clone(keep), at, min(at+part, len(keep)))
			if len(less) > 0 && fails(Select(steps, less)) {
				keep = less
			} else {
				at += part
			}
		}
	}
	return keep
}

// Select returns the steps with the given indices.
func Select(steps []Step, keep []int) []Step {
	some := make([]Step, len(keep))
	for i, k := range keep {
		some[i] = steps[k]
	}
	return some
}
