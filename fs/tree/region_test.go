package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
	"golang.org/x/sys/unix"
)

const region = op.RegionSize

func size(path string, n int64) *op.Op {
	return &op.Op{Kind: op.Truncate, Path: path, Attr: op.Attr{Valid: op.AttrSize | op.AttrMtime, Size: n, Mtime: at(2)}}
}

func punch(path string, off, n int64) *op.Op {
	return &op.Op{Kind: op.Fallocate, Path: path, Off: off, Len: n, Arg: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		Attr: op.Attr{Valid: op.AttrMtime, Mtime: at(2)}}
}

func check(t *testing.T, a, b *Tree, path string) []int64 {
	t.Helper()
	digests, err := a.Digests(path, 0, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	differ, err := b.Check(&op.Op{Kind: op.Check, Path: path, Data: digests})
	if err != nil {
		t.Fatal(err)
	}
	return differ
}

func TestCheck(t *testing.T) {
	block := strings.Repeat("x", 4096)
	for _, c := range []struct {
		name string
		a, b []*op.Op // what the file becomes of
		want []int64
	}{
		{"empty", nil, nil, nil},
		{"equal", []*op.Op{write("f", 3*region, "data")}, []*op.Op{write("f", 3*region, "data")}, nil},
		{"one byte", []*op.Op{write("f", 0, block+"data"), write("f", region, "b")}, []*op.Op{write("f", 0, block+"date"), write("f", region, "b")}, []int64{0}},
		{"the last byte", []*op.Op{write("f", region, block+"a")}, []*op.Op{write("f", region, block+"b")}, []int64{region}},
		{"shorter here", []*op.Op{write("f", 0, block), write("f", region, "x")}, []*op.Op{write("f", 0, block)}, []int64{0, region}},
		{"longer here", []*op.Op{write("f", 0, "x")}, []*op.Op{write("f", 0, "xx")}, []int64{0}},
		{"longer by regions", []*op.Op{write("f", 0, "x"), size("f", region)}, []*op.Op{write("f", 0, "x"), size("f", 3*region)}, nil},
		{"a hole of zeros", []*op.Op{write("f", 0, block), size("f", 4*4096)}, []*op.Op{write("f", 0, block+strings.Repeat("\x00", 3*4096))}, []int64{0}},
		{"holes", []*op.Op{size("f", 5*region), write("f", 2*region, block)}, []*op.Op{size("f", 5*region), write("f", 2*region+4096, block)}, []int64{2 * region}},
		{"all holes", []*op.Op{size("f", 1<<30)}, []*op.Op{size("f", 1<<30)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newTree(t), newTree(t)
			ext4(t, a)
			apply(t, a, create("f"))
			apply(t, a, c.a...)
			apply(t, b, create("f"))
			apply(t, b, c.b...)
			if got := check(t, a, b, "f"); !slices.Equal(got, c.want) {
				t.Errorf("regions %v differ, want %v", got, c.want)
			}
		})
	}
}

func TestCheckOfNoFile(t *testing.T) {
	a, b := newTree(t), newTree(t)
	apply(t, a, create("f"), write("f", region, "x"))
	apply(t, b, mkdir("d"), mkdir("d/e"), symlink("l", "f"), create("f"), symlink("dl", "d"), create("d/f"), create("d/e/f"),
		&op.Op{Kind: op.Mknod, Path: "p", Attr: attrs(unix.S_IFIFO|0o600, 1)})
	digests, err := a.Digests("f", 0, 2*region)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"none", "none/f", "f/f", "d", "l", "p", "dl/f", "dl/e/f"} {
		got, err := b.Check(&op.Op{Kind: op.Check, Path: path, Data: digests})
		if err != nil || !slices.Equal(got, []int64{0, region}) {
			t.Errorf("%s: regions %v differ, want all, error %v", path, got, err)
		}
	}
	for _, o := range []*op.Op{
		{Kind: op.Check, Path: "f", Off: 1, Data: make([]byte, DigestSize)},
		{Kind: op.Check, Path: "f", Off: -region, Data: make([]byte, DigestSize)},
		{Kind: op.Check, Path: "f", Data: make([]byte, DigestSize-1)},
		{Kind: op.Check, Path: "../f", Data: make([]byte, DigestSize)},
	} {
		if _, err := b.Check(o); err == nil {
			t.Errorf("%v: no error", o)
		}
	}
}

func TestDigestsInPieces(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, create("f"), write("f", 0, "a"), write("f", 3*region+5, "b"), size("f", 4*region+7))
	all, err := tr.Digests("f", 0, 1<<62)
	if err != nil || len(all) != 5*DigestSize {
		t.Fatalf("%d bytes, error %v", len(all), err)
	}
	var pieces []byte
	for off := int64(0); off < 7*region; off += region {
		d, err := tr.Digests("f", off, region)
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, d...)
	}
	if !bytes.Equal(pieces, all) {
		t.Error("a region's digest depends on what is asked for beside it")
	}
	if all, err := tr.Digests("f", 0, region); err != nil || len(all) != DigestSize {
		t.Errorf("one region: %d bytes, error %v", len(all), err)
	}
	if _, err := tr.Digests("none", 0, region); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no file: error %v", err)
	}
}

// PutRange makes the range equal and nothing else, whatever is there.
func TestPutRange(t *testing.T) {
	a, b := newTree(t), newTree(t)
	ext4(t, a)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		path := fmt.Sprint(i)
		for _, tr := range []*Tree{a, b} {
			apply(t, tr, create(path))
			scribble(t, tr, path, random)
		}
		put, _, err := a.Describe(path)
		if err != nil {
			t.Fatal(err)
		}
		sizeA := put.Attr.Size
		if i%3 == 0 {
			// Any bytes of it: content only, since holes have whole blocks.
			apply(t, b, size(path, max(sizeA, int64(len(content(t, b, path))))))
			off := random.Int64N(sizeA + 1)
			n := random.Int64N(sizeA - off + 1)
			want := overlay(t, a, b, path, off, n)
			if err := a.PutRange(path, off, n, b.Apply); err != nil {
				t.Fatal(err)
			}
			if got := content(t, b, path); !bytes.Equal(got, want) {
				t.Errorf("file %d, %d bytes at %d of %d: %d bytes result, want %d, or others", i, n, off, sizeA, len(got), len(want))
			}
			continue
		}
		if i%3 == 1 {
			apply(t, b, size(path, sizeA))
		}
		for _, off := range append(check(t, a, b, path), 1<<30) {
			if err := a.PutRange(path, off, region, b.Apply); err != nil {
				t.Fatal(err)
			}
		}
		apply(t, b, size(path, sizeA))
		if got := check(t, a, b, path); got != nil {
			t.Errorf("file %d: regions %v differ after the repair", i, got)
		}
	}
}

// A range that ends in a hole at the end of the file makes the file as long.
func TestPutRangeGrows(t *testing.T) {
	a, b := newTree(t), newTree(t)
	apply(t, a, create("f"), write("f", 0, "a"), size("f", 5*region+3))
	apply(t, b, create("f"))
	if err := a.PutRange("f", 0, 1<<40, b.Apply); err != nil {
		t.Fatal(err)
	}
	apply(t, b, touch("f", 2))
	same(t, a, b)
}

func TestPutRangeStops(t *testing.T) {
	tr := newTree(t)
	apply(t, tr, create("f"), write("f", 0, strings.Repeat("x", maxWrite+1)))
	var sizes []int
	collect := func(o *op.Op) error {
		sizes = append(sizes, len(o.Data))
		return nil
	}
	if err := tr.PutRange("f", 0, 1<<40, collect); err != nil || !slices.Equal(sizes, []int{maxWrite, 1}) {
		t.Errorf("writes of %v bytes, error %v", sizes, err)
	}
	sizes = nil
	if err := tr.PutRange("f", maxWrite+1, region, collect); err != nil || sizes != nil {
		t.Errorf("behind the end: %v, error %v", sizes, err)
	}
	stop := errors.New("stop")
	if err := tr.PutRange("f", 0, 1, func(*op.Op) error { return stop }); err != stop {
		t.Errorf("error %v is not the function's own", err)
	}
	if err := tr.PutRange(".", 0, 1, collect); !errors.Is(err, unix.ENXIO) {
		t.Errorf("of a directory: error %v", err)
	}
}

// scribble gives a file random data and holes.
func scribble(t testing.TB, tr *Tree, path string, random *rand.Rand) {
	t.Helper()
	const most = 4 * region
	for range random.IntN(6) {
		off, n := random.Int64N(most), random.Int64N(region)
		switch random.IntN(6) {
		case 0:
			apply(t, tr, punch(path, off, n+1))
		case 1:
			apply(t, tr, size(path, off))
		case 2:
			apply(t, tr, punch(path, off&^4095, n&^4095+4096))
		default:
			data := bytes.Repeat([]byte{byte(random.IntN(3))}, int(n))
			apply(t, tr, write(path, off, string(data)))
		}
	}
}

func content(t testing.TB, tr *Tree, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(tr.Dir(), path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overlay is b's content with n bytes at off of a's.
func overlay(t testing.TB, a, b *Tree, path string, off, n int64) []byte {
	t.Helper()
	from, to := content(t, a, path), content(t, b, path)
	copy(to[off:off+n], from[off:off+n])
	return to
}

// Space that was allocated, and read, but never written is as good as a hole.
func TestReadIsNotWritten(t *testing.T) {
	const r = op.RegionSize
	tr := newTree(t)
	apply(t, tr, create("f"), &op.Op{Kind: op.Fallocate, Path: "f", Len: 9 * r}, write("f", 2*r+5, "in memory only"), write("f", 6*r, "x"))
	if _, err := os.ReadFile(filepath.Join(tr.Dir(), "f")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ off, from, to int64 }{{0, 0, 2}, {2 * r, 3, 6}, {6 * r, 7, 9}, {8 * r, 8, 9}, {9 * r, 9, 9}} {
		from, to, err := tr.NextHole("f", c.off)
		if err != nil || from != c.from*r || to != c.to*r {
			t.Errorf("from %d on: %d to %d, %v; want %d to %d", c.off, from, to, err, c.from*r, c.to*r)
		}
	}
}

func TestNextHole(t *testing.T) {
	const r = op.RegionSize
	tr := newTree(t)
	apply(t, tr, create("f"), write("f", r, "x"), write("f", 3*r+9, "y"), write("f", 6*r-1, "zz"),
		&op.Op{Kind: op.Truncate, Path: "f", Attr: op.Attr{Valid: op.AttrSize, Size: 9*r + 1}})
	var got []int64
	for off := int64(0); ; {
		from, to, err := tr.NextHole("f", off)
		if err != nil {
			t.Fatal(err)
		}
		if from == to {
			break
		}
		got = append(got, from/r, to/r)
		off = to
	}
	if want := []int64{0, 1, 2, 3, 4, 5, 7, 10}; !slices.Equal(got, want) {
		t.Errorf("holes %v, want %v", got, want)
	}
	for _, c := range []struct {
		off, n int64
		differ []int64
	}{
		{0, r, []int64{0}}, {r, r, nil}, {0, 20 * r, []int64{0, 2 * r, 4 * r, 7 * r, 8 * r, 9 * r}}, {3 * r, 3 * r, []int64{4 * r}}, {20 * r, r, nil},
	} {
		differ, err := tr.Check(&op.Op{Kind: op.Check, Path: "f", Off: c.off, Len: c.n, Arg: 1})
		if err != nil || !slices.Equal(differ, c.differ) {
			t.Errorf("no hole from %d, %d bytes: %v differ (%v), want %v", c.off, c.n, differ, err, c.differ)
		}
	}
	apply(t, tr, create("full"), write("full", 0, strings.Repeat("x", 2*r+1)), create("empty"))
	for _, path := range []string{"full", "empty"} {
		if from, to, err := tr.NextHole(path, 0); err != nil || from != to {
			t.Errorf("%s has a hole from %d to %d (%v)", path, from, to, err)
		}
	}
}
