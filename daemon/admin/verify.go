package admin

import (
	"fmt"
	"strings"

	"github.com/standbyfs/standbyfs/daemon/state"
)

func places(n int) string {
	if n == 1 {
		return "1 place"
	}
	return fmt.Sprintf("%d places", n)
}

// VerifyText says in one line what a verify has found.
func VerifyText(v *state.LastVerify) string {
	var parts []string
	for _, p := range v.Peers {
		switch {
		case p.Differences > 0:
			parts = append(parts, fmt.Sprintf("%s differs in %s, the first: %s", p.Name, places(p.Differences), p.First))
		case p.Reason != "":
			parts = append(parts, fmt.Sprintf("%s was not compared: %s", p.Name, p.Reason))
		}
	}
	if len(parts) == 0 {
		parts = []string{fmt.Sprintf("all %d replicas are equal", len(v.Peers)+1)}
	}
	return fmt.Sprintf("%s (%d files, %s)", strings.Join(parts, "; "), v.Files, Bytes(v.Bytes))
}
