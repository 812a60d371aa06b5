package disk

import (
	"os"
	"slices"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestPlanPrintsItself(t *testing.T) {
	for _, text := range []string{
		"", "fsync: EIO", "fsync #3 of *.db: EIO; write of data/x at 4096-8192: ENOSPC", "rename #2+: EROFS", "flush: OK", "* of x: EDQUOT",
	} {
		p, err := ParsePlan(text)
		if err != nil || p.String() != text {
			t.Errorf("%q is read as %q, %v", text, p, err)
		}
	}
	for _, text := range []string{"fsync", "fsync: EWHAT", ": EIO", "fsync #0: EIO", "fsync at 5-4: EIO", "fsync of: EIO", "write of [: EIO", "write now: EIO"} {
		if p, err := ParsePlan(text); err == nil {
			t.Errorf("%q is read as %q", text, p)
		}
	}
}

func TestPlanCounts(t *testing.T) {
	for _, tt := range []struct {
		plan  string
		calls []Call
		want  []syscall.Errno // none is a call that does not fail
	}{
		{"fsync #2: EIO", []Call{{Name: "fsync"}, {Name: "write"}, {Name: "fsync"}, {Name: "fsync"}}, []syscall.Errno{none, none, syscall.EIO, none}},
		{"fsync #2+: EIO", []Call{{Name: "fsync"}, {Name: "fsync"}, {Name: "fsync"}}, []syscall.Errno{none, syscall.EIO, syscall.EIO}},
		{"* of *.db: EIO", []Call{{Name: "open", Path: "a/b.db"}, {Name: "open", Path: "a.db/b"}}, []syscall.Errno{syscall.EIO, none}},
		{"* of a/*: EIO", []Call{{Name: "open", Path: "a/b"}, {Name: "open", Path: "c/a"}}, []syscall.Errno{syscall.EIO, none}},
		{"write at 10-20: EIO", []Call{{Name: "write", Off: 0, Len: 10}, {Name: "write", Off: 19, Len: 1}, {Name: "write", Off: 20, Len: 9}, {Name: "write", Off: 5, Len: 90}},
			[]syscall.Errno{none, syscall.EIO, none, syscall.EIO}},
		{"flush: OK; *: EIO", []Call{{Name: "flush"}, {Name: "write"}}, []syscall.Errno{0, syscall.EIO}},
	} {
		p, err := ParsePlan(tt.plan)
		if err != nil {
			t.Fatal(err)
		}
		var f faults
		f.set(p)
		var got []syscall.Errno
		for _, c := range tt.calls {
			errno, fails := f.fails(c)
			if !fails {
				errno = none
			}
			got = append(got, errno)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d, want %d", tt.plan, got, tt.want)
		}
	}
}

const none = syscall.Errno(9999)

func FuzzParsePlan(f *testing.F) {
	f.Add("fsync #3 of *.db: EIO; write of data/x at 4096-8192: ENOSPC; flush #2+: OK")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlan(text)
		if err != nil {
			return
		}
		again, err := ParsePlan(p.String())
		if err != nil || !slices.Equal(p, again) {
			t.Errorf("%q is %q, and that is %q, %v", text, p, again, err)
		}
	})
}
