// Package mountinfo reads what is mounted.
package mountinfo

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Mount is a line of proc_pid_mountinfo(5).
type Mount struct {
	Dev    string // major:minor
	Point  string
	Type   string // of the file system
	Source string
}

// Read returns what this process sees mounted, in the order of mounting. It
// touches none of them, so a dead one does no harm.
func Read() ([]Mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parse(string(text)), nil
}

// At returns what is mounted at point, the topmost last.
func At(point string) ([]Mount, error) {
	all, err := Read()
	return slices.DeleteFunc(all, func(m Mount) bool { return m.Point != point }), err
}

// parse passes over lines of another form.
func parse(text string) []Mount {
	var all []Mount
	for line := range strings.Lines(text) {
		// 36 35 98:0 /root /point options [optional...] - type source options
		front, back, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		place, what := strings.Split(front, " "), strings.Split(back, " ")
		if len(place) >= 5 && len(what) >= 2 {
			all = append(all, Mount{Dev: place[2], Point: unescape(place[4]), Type: what[0], Source: unescape(what[1])})
		}
	}
	return all
}

// unescape turns the kernel's octal escapes (space, tab, newline, backslash
// and #) back into bytes.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+4 <= len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
