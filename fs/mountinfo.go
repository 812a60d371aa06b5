package fs

import (
	"fmt"
	"os"
	"strings"
)

// mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	dev  string // major:minor
	kind string // file system type
}

// mountsAt returns what is mounted at point, the topmost last. It touches none
// of them.
func mountsAt(point string) ([]mountEntry, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []mountEntry
	for line := range strings.Lines(string(data)) {
		// 36 35 98:0 /root /point options [optional...] - type source options
		fields := strings.Fields(line)
		if len(fields) < 7 || unescape.Replace(fields[4]) != point {
			continue
		}
		m := mountEntry{dev: fields[2]}
		for i, f := range fields {
			if f == "-" && i+1 < len(fields) {
				m.kind = fields[i+1]
			}
		}
		found = append(found, m)
	}
	return found, nil
}

// unescape undoes what the kernel does to the characters that would break a line
// of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
