package region

import (
	"slices"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// A record that is not what was written is never taken for right.
func FuzzDecode(f *testing.F) {
	for _, m := range []Mark{{Path: "a"}, {Path: "a/b", To: End}, {Path: "c", From: 9 * Extent, To: 10 * Extent}, Everything} {
		m.each(func(u unit) bool { f.Add(u.key(), sum(u.key())); return true })
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		u, err := decode(key, value)
		if err != nil {
			return
		}
		if !slices.Equal(u.key(), key) {
			t.Errorf("%q is %v", key, u.mark())
		}
		m := u.mark()
		if m.From < 0 || m.To < m.From || op.CheckPath(m.Path) != nil {
			t.Errorf("%v", m)
		}
	})
}
