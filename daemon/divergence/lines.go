package divergence

import (
	"fmt"
	"strings"
)

// maxTable bounds the work of a comparison of lines. What is more is shown as
// one block that was replaced by another.
const maxTable = 4 << 20

// step is one line of a comparison: kept in both ' ', only before '-', only
// today '+'.
type step struct {
	sign byte
	line string
}

// unified shows how old lines became new ones, in the form of diff -u. It is
// empty if they are the same.
func unified(old, new []string) string {
	steps := script(old, new)
	const around = 3
	var b strings.Builder
	for i := 0; i < len(steps); {
		if steps[i].sign == ' ' {
			i++
			continue
		}
		// A block reaches as far as changes are not further apart than what is
		// shown around them.
		start, end := max(0, i-around), i
		for j := i; j < len(steps) && j <= end+2*around; j++ {
			if steps[j].sign != ' ' {
				end = j
			}
		}
		end = min(len(steps), end+1+around)
		block(&b, steps, start, end)
		i = end
	}
	return b.String()
}

// block writes steps with the line numbers that they begin at.
func block(b *strings.Builder, steps []step, start, end int) {
	count := func(steps []step, without byte) int {
		n := 0
		for _, s := range steps {
			if s.sign != without && s.line != "" {
				n++
			}
		}
		return n
	}
	before, shown := steps[:start], steps[start:end]
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", count(before, '+')+1, count(shown, '+'), count(before, '-')+1, count(shown, '-'))
	for _, s := range shown {
		if s.line == "" {
			continue // behind the end of the last line
		}
		b.WriteByte(s.sign)
		b.WriteString(s.line)
		if !strings.HasSuffix(s.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// script turns old into new with few steps: what is the same at both ends stays,
// and of what lies between the longest sequence in common.
func script(old, new []string) []step {
	var head, tail []step
	for len(old) > 0 && len(new) > 0 && old[0] == new[0] {
		head = append(head, step{' ', old[0]})
		old, new = old[1:], new[1:]
	}
	for len(old) > 0 && len(new) > 0 && old[len(old)-1] == new[len(new)-1] {
		tail = append([]step{{' ', old[len(old)-1]}}, tail...)
		old, new = old[:len(old)-1], new[:len(new)-1]
	}
	return append(append(head, middle(old, new)...), tail...)
}

func middle(old, new []string) []step {
	var steps []step
	n, m := len(old), len(new)
	if n*m > maxTable {
		n, m = 0, 0 // nothing in common is looked for
	}
	// common[i][j] is how many lines old[i:] and new[j:] have in common.
	common := make([]int32, (n+1)*(m+1))
	at := func(i, j int) *int32 { return &common[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if old[i] == new[j] {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	i, j := 0, 0
	for i < n && j < m {
		switch {
		case old[i] == new[j]:
			steps = append(steps, step{' ', old[i]})
			i, j = i+1, j+1
		case *at(i+1, j) >= *at(i, j+1):
			steps = append(steps, step{'-', old[i]})
			i++
		default:
			steps = append(steps, step{'+', new[j]})
			j++
		}
	}
	for ; i < len(old); i++ {
		steps = append(steps, step{'-', old[i]})
	}
	for ; j < len(new); j++ {
		steps = append(steps, step{'+', new[j]})
	}
	return steps
}
