package mirror

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/wire"
	"golang.org/x/sys/unix"
)

// Small files that are surveyed, more than may be on the way to a mirror.
const manyFiles = maxWindow/op.RegionSize + 2*maxSurvey + 5

// verified runs a verify, while the mirror takes one op whenever the verify waits
// for it, and calls each before that.
func (r *pair) verified(each func()) *VerifyReport {
	r.t.Helper()
	r.p.startOver(&wire.Answer{}, nil)
	r.p.pending, r.p.session = nil, new(wire.Session)
	var report *VerifyReport
	ended := make(chan error, 1)
	go func() {
		var err error
		report, err = r.Verify(r.t.Context(), false)
		ended <- err
	}()
	for {
		synctest.Wait()
		each()
		if r.take(1) {
			continue
		}
		select {
		case err := <-ended:
			must(r.t, err)
			return report
		default:
			r.t.Fatal("the verify waits for nothing")
		}
	}
}

// same makes the same on both sides.
func (r *pair) same(ops ...*op.Op) {
	r.t.Helper()
	for _, o := range ops {
		must(r.t, r.a.Apply(o))
		must(r.t, r.b.Apply(o))
	}
}

var at1 = op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 1}}

func newFile(path, content string) []*op.Op {
	create := &op.Op{Kind: op.Create, Path: path, Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFREG | 0o600, Mtime: at1.Mtime}, Dir: at1.Mtime}
	return []*op.Op{create, {Kind: op.Write, Path: path, Data: []byte(content), Attr: at1}}
}

// populate makes a directory of many small files, and one of each other kind.
func (r *pair) populate() {
	r.t.Helper()
	r.same(&op.Op{Kind: op.Mkdir, Path: "d", Attr: op.Attr{Valid: op.AttrMode | op.AttrMtime, Mode: unix.S_IFDIR | 0o700, Mtime: at1.Mtime}, Dir: at1.Mtime})
	for i := range manyFiles {
		r.same(newFile(fmt.Sprintf("d/%04d", i), "small")...)
	}
	r.same(newFile("d/large", strings.Repeat("x", op.RegionSize+1))...)
	r.same(newFile("d/one", "tied")...)
	r.same(&op.Op{Kind: op.Link, Path: "d/one", Path2: "d/two", Dir2: at1.Mtime})
	r.same(&op.Op{Kind: op.Symlink, Path: "d/link", Data: []byte("text"), Attr: at1, Dir: at1.Mtime})
}

// A verify surveys what is small, each of it once, looks alone at all else, and
// is never further ahead of the mirror than it may be.
func TestVerifySurveys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPair(t)
		r.populate()
		var most int64
		behind := func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			most = max(most, r.p.flight.work)
		}
		report := r.verified(behind)
		if d := report.Peers[0].Differences; len(d) > 0 || !report.Peers[0].Checked {
			t.Errorf("%+v", report.Peers[0])
		}
		if want := uint64(manyFiles*len("small") + op.RegionSize + 1 + len("tied")); report.Files != manyFiles+2 || report.Bytes != want {
			t.Errorf("%d files, %d bytes, want %d and %d", report.Files, report.Bytes, manyFiles+2, want)
		}
		if most < maxWindow/2 || most > maxWindow+3<<20 {
			t.Errorf("up to %d bytes of work were on the way, of %d", most, maxWindow)
		}
		var surveyed, alone []string
		for _, o := range r.sent {
			switch {
			case o.Flags&op.Compare == 0:
				t.Errorf("%v may change something", o)
			case o.Kind == op.Survey && len(o.Names) > maxSurvey:
				t.Errorf("a survey of %d", len(o.Names))
			case o.Kind == op.Survey:
				surveyed = append(surveyed, o.Names...)
			case o.Kind == op.Put:
				alone = append(alone, o.Path)
			}
		}
		slices.Sort(surveyed)
		if n := len(slices.Compact(slices.Clone(surveyed))); n != manyFiles+1 || len(surveyed) != n {
			t.Errorf("%d children were surveyed, %d of them different, want %d", len(surveyed), n, manyFiles+1)
		}
		if want := []string{op.Root, "d", "d/large", "d/one", "d/two"}; !slices.Equal(slices.Sorted(slices.Values(alone)), want) {
			t.Errorf("alone: %q, want %q", alone, want)
		}
	})
}

// What a survey finds is said in words, whatever becomes of it meanwhile.
func TestVerifyLooksAgain(t *testing.T) {
	write := func(path, data string) *op.Op {
		return &op.Op{Kind: op.Write, Path: path, Data: []byte(data), Attr: at1}
	}
	for _, c := range []struct {
		name      string
		spoil     []*op.Op // on the mirror
		meanwhile *op.Op   // when the file was surveyed, on both
		want      []string
	}{
		{"nothing", nil, nil, nil},
		{"content", []*op.Op{write("d/0007", "SMALL")}, nil, []string{`"d/0007": content differs in bytes 0-65535`}},
		{"mode", []*op.Op{{Kind: op.SetAttr, Path: "d/0007", Attr: op.Attr{Valid: op.AttrMode, Mode: 0o640}}}, nil, []string{`"d/0007": mode is 0640, the primary has 0600`}},
		{"another name", []*op.Op{{Kind: op.Link, Path: "d/0007", Path2: "x", Dir2: at1.Mtime}}, nil,
			[]string{`".": extra name "x"`, `"d/0007": has 2 names, the primary has just this one`}},
		{"missing", []*op.Op{{Kind: op.Unlink, Path: "d/0007", Dir: at1.Mtime}}, nil, []string{`"d": name "0007" is missing`, `"d/0007": content differs in bytes 0-65535`, `"d/0007": is missing`}},
		{"written since", []*op.Op{write("d/0007", "SMALL")}, write("d/0007", "other"), []string{`"d/0007": was different, and is not any more`}},
		{"removed since", []*op.Op{write("d/0007", "SMALL")}, &op.Op{Kind: op.Unlink, Path: "d/0007", Dir: at1.Mtime}, []string{`"d/0007": was different, and is not any more`}},
		{"renamed since", []*op.Op{write("d/0007", "SMALL")}, &op.Op{Kind: op.Rename, Path: "d/0007", Path2: "new", Dir: at1.Mtime, Dir2: at1.Mtime}, []string{`"d/0007": was different, and is not any more`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPair(t)
				r.populate()
				for _, o := range c.spoil {
					must(t, r.b.Apply(o))
				}
				r.same(&op.Op{Kind: op.SetAttr, Path: op.Root, Attr: at1})
				r.surveyed = func() {
					if c.meanwhile != nil && slices.Contains(r.last().Names, "0007") {
						must(t, r.live(c.meanwhile))
					}
				}
				report := r.verified(func() {})
				if got := report.Peers[0].Differences; !slices.Equal(slices.Sorted(slices.Values(got)), c.want) {
					t.Errorf("found %q, want %q", got, c.want)
				}
				if report.Files != manyFiles+2 {
					t.Errorf("%d files, want %d", report.Files, manyFiles+2)
				}
			})
		})
	}
}

// What changes between the listing of a directory and the survey is no
// difference.
func TestVerifyWhileChildrenChange(t *testing.T) {
	for name, change := range map[string]*op.Op{
		"grown":    {Kind: op.Truncate, Path: "d/0007", Attr: op.Attr{Valid: op.AttrSize | op.AttrMtime, Size: 1 << 20, Mtime: op.Time{Sec: 2}}},
		"tied":     {Kind: op.Link, Path: "d/0007", Path2: "d/0007-too", Dir2: at1.Mtime},
		"gone":     {Kind: op.Unlink, Path: "d/0007", Dir: at1.Mtime},
		"all gone": {Kind: op.Rename, Path: "d", Path2: "e", Dir: at1.Mtime, Dir2: at1.Mtime},
		"written":  {Kind: op.Write, Path: "d/0007", Data: []byte("other"), Attr: op.Attr{Valid: op.AttrMtime, Mtime: op.Time{Sec: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newPair(t)
				r.populate()
				r.listed = func() {
					if change != nil {
						must(t, r.live(change))
					}
					change = nil
				}
				report := r.verified(func() {})
				if p := report.Peers[0]; len(p.Differences) > 0 || !p.Checked {
					t.Errorf("%+v", p)
				}
				if looked := slices.ContainsFunc(r.sent, func(o *op.Op) bool { return o.Kind == op.Put && o.Path == "d/0007" }); looked != (name == "grown" || name == "tied") {
					t.Errorf("whether it was looked at alone: %v", looked)
				}
			})
		})
	}
}
