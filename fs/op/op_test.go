package op

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestCheckPath(t *testing.T) {
	longest := strings.Repeat("x", 255)
	for path, ok := range map[string]bool{
		".":                             true,
		"a":                             true,
		"a/b":                           true,
		"...":                           true,
		".a/b.":                         true,
		"\xff\n /\\":                    true,
		longest + "/" + longest:         true,
		strings.Repeat("a/", 1e5) + "a": true,
		"":                              false,
		"/":                             false,
		"/a":                            false,
		"a/":                            false,
		"a//b":                          false,
		"..":                            false,
		"./a":                           false,
		"a/.":                           false,
		"a/../b":                        false,
		"a/..":                          false,
		"a\x00":                         false,
		"a/" + longest + "x":            false,
	} {
		if err := CheckPath(path); (err == nil) != ok {
			t.Errorf("%.40q: error %v", path, err)
		}
	}
}

func TestSplitAndJoin(t *testing.T) {
	for _, c := range []struct{ path, dir, name string }{
		{".", ".", "."}, {"a", ".", "a"}, {"a/b", "a", "b"}, {"a/b/c", "a/b", "c"}, {"\xff/\xfe", "\xff", "\xfe"},
	} {
		if dir, name := SplitPath(c.path); dir != c.dir || name != c.name {
			t.Errorf("%q is %q in %q, want %q in %q", c.path, name, dir, c.name, c.dir)
		}
		if path := JoinPath(c.dir, c.name); path != c.path {
			t.Errorf("%q in %q is %q, want %q", c.name, c.dir, path, c.path)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"a", "a", true}, {"a/b", "a", true}, {"a/b/c", "a/b", true}, {"a", ".", true}, {".", ".", true},
		{"ab", "a", false}, {"a", "a/b", false}, {"a-/b", "a", false}, {".", "a", false}, {"b/a", "a", false},
	} {
		if got := Within(c.path, c.dir); got != c.want {
			t.Errorf("%q within %q: %v", c.path, c.dir, got)
		}
	}
}

// Each kind has a name of its own, and is of one sort at most.
func TestKinds(t *testing.T) {
	seen := map[string]Kind{}
	for k := Invalid; k < numKinds; k++ {
		name := k.String()
		if other, taken := seen[name]; taken || name == "" {
			t.Errorf("kind %d is called %q, as is kind %d", k, name, other)
		}
		seen[name] = k
		sorts := 0
		for _, is := range []bool{k.Namespace(), k.Data(), k.Repair()} {
			if is {
				sorts++
			}
		}
		if sorts > 1 || k.Valid() != (k != Invalid && k != Adopt) {
			t.Errorf("%s: namespace %v, data %v, repair %v, valid %v", k, k.Namespace(), k.Data(), k.Repair(), k.Valid())
		}
	}
	for k, want := range map[Kind]uint8{Create: 1, Rename: 8, Write: 9, SetAttr: 13, Fsync: 16, Expel: 17, Put: 19, Check: 22, Adopt: 23, Survey: 24, Hint: 25} {
		if uint8(k) != want {
			t.Errorf("%s is number %d, on the wire it is %d", k, uint8(k), want)
		}
	}
	if k := Kind(200); k.Valid() || k.String() != "kind(200)" {
		t.Errorf("%s: valid %v", k, k.Valid())
	}
}

func TestString(t *testing.T) {
	o := &Op{Kind: CopyRange, Flags: Barrier, Path: "a\xff", Path2: "b", Name: "n", Off: 1, Len: 2, Data: []byte("secret"), Attr: Attr{Valid: AttrSize, Size: 7}}
	s := o.String()
	for _, part := range []string{"copyrange", `"a\xff"`, `"b"`, `name="n"`, "off=1 len=2", "data=6", "Size:7", "flags=1"} {
		if !strings.Contains(s, part) {
			t.Errorf("%s does not say %s", s, part)
		}
	}
	if strings.Contains(s, "secret") {
		t.Errorf("%s shows the data", s)
	}
}

func TestEpochs(t *testing.T) {
	rising := []Epoch{{}, {0, 1}, {1, 0}, {1, 5}, {2, 3}, {math.MaxUint64, 0}}
	for i, e := range rising {
		for j, f := range rising {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := e.Compare(f); got != want {
				t.Errorf("%v against %v: %d, want %d", e, f, got, want)
			}
		}
	}
}

func TestPositionAsText(t *testing.T) {
	p := Position{Line{Epoch{3, 0xfedcba9876543210}, 2}, 9}
	if got, want := p.String(), "3/fedcba9876543210+2:9"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	b, err := json.Marshal(p)
	if err != nil || !strings.Contains(string(b), `"fedcba9876543210"`) {
		t.Errorf("%s, error %v: want the owner as a string", b, err)
	}
	var back Position
	if err := json.Unmarshal(b, &back); err != nil || back != p {
		t.Errorf("%v came back as %v, error %v", p, back, err)
	}
	var id NodeID
	for _, bad := range []string{"", "x", "-1", "11112222333344445"} {
		if err := id.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for %v", bad, id)
		}
	}
}

func TestDone(t *testing.T) {
	if err := Done.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if !(Time{}).IsZero() || (Time{Nsec: 1}).IsZero() || (Time{Sec: -1}).IsZero() {
		t.Error("only the zero time is unset")
	}
}
