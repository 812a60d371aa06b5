package mountinfo

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	mounts := strings.Join([]string{
		`24 30 0:22 / /proc rw,relatime shared:12 - proc proc rw`,
		`90 30 0:50 / /mnt/data rw,nosuid,nodev shared:7 master:1 - fuse.standbyfs /srv/data rw,user_id=0`,
		`91 30 0:51 / /mnt/with\040space\134\011 rw - fuse.standbyfs /srv/a\040b\043 rw`,
		`93 30 0:53 / /mnt/over rw - tmpfs tmpfs rw`,
		`97 broken`,
		``,
	}, "\n")
	want := []Mount{
		{"0:22", "/proc", "proc", "proc"},
		{"0:50", "/mnt/data", "fuse.standbyfs", "/srv/data"},
		{"0:51", "/mnt/with space\\\t", "fuse.standbyfs", "/srv/a b#"},
		{"0:53", "/mnt/over", "tmpfs", "tmpfs"},
	}
	if got := parse(mounts); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is mounted at one place, the topmost last.
func TestAt(t *testing.T) {
	dir := t.TempDir()
	for i, source := range []string{"below", "above"} {
		if err := unix.Mount(source, dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, 0)
		got, err := At(dir)
		if err != nil || len(got) != i+1 || got[i].Source != source || got[i].Type != "tmpfs" {
			t.Errorf("after a mount of %s: %q, %v", source, got, err)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{``, `a\040b`, `\`, `\04`, `\999`, `\777`, `\134040`} {
		f.Add(seed)
	}
	escape := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`, "#", `\043`)
	f.Fuzz(func(t *testing.T, text string) {
		unescape(text) // of anything: does not panic
		if got := unescape(escape.Replace(text)); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	})
}
