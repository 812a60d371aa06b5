package divergence

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// A power loss anywhere in the last line: it was never applied, and is kept anew.
func TestTornManifest(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"), create("g"), write("g", 0, "second"))
	n.keep()
	n.do(write("f", 0, "x"))
	manifest, data := n.file(manifestFile), n.file(dataFile)
	good := n.read(manifest)
	if err := n.k.Before(write("g", 0, "x"), slices.Values[[]*op.Op](nil)); err != nil {
		t.Fatal(err)
	}
	whole, bytes := n.read(manifest), n.read(data)
	// Objects stand before their data, so a line may be whole and the next not.
	for cut := len(good) + 1; cut < len(whole); cut += 23 {
		if err := errors.Join(os.WriteFile(manifest, whole[:cut], 0o600), os.WriteFile(data, bytes, 0o600)); err != nil {
			t.Fatal(err)
		}
		a := n.only()
		if atEnd := whole[cut-1] == '\n'; a.Torn == atEnd || a.Damaged != 0 {
			t.Fatalf("cut at %d: torn %v, %d damaged", cut, a.Torn, a.Damaged)
		}
		n.keep()
		if err := n.k.Before(write("g", 0, "x"), slices.Values[[]*op.Op](nil)); err != nil {
			t.Fatal(err)
		}
		if a := n.only(); a.Torn || a.Damaged != 0 {
			t.Fatalf("cut at %d, kept anew: torn %v, %d damaged", cut, a.Torn, a.Damaged)
		}
		n.wantBack("f", "first")
		n.wantBack("g", "second")
	}
}

// Damage is said, and what is whole is read all the same.
func TestDamage(t *testing.T) {
	n := newNode(t)
	n.has(create("f"), write("f", 0, "first"), create("g"), write("g", 0, "second"))
	n.keep()
	n.do(write("f", 0, "x"), write("g", 0, "x"))
	manifest, data := n.file(manifestFile), n.file(dataFile)
	lines := n.read(manifest)
	lines[10] ^= 1
	if err := os.WriteFile(manifest, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := n.only(); a.Damaged != 1 || a.Torn {
		t.Errorf("%d lines damaged, torn %v; want one", a.Damaged, a.Torn)
	}
	_, made := n.export()
	if made[0].Whole || !strings.Contains(made[0].Text, "damaged") {
		t.Errorf("without its description: %+v", made[0])
	}
	n.wantBack("f", "first")
	bytes := n.read(data)
	bytes[0] ^= 1
	if err := os.WriteFile(data, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.only().Export(n.tree, filepath.Join(t.TempDir(), "x")); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), `"f", bytes 0-4`) {
		t.Errorf("export of damaged data: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	line, err := appendLine(nil, &Item{What: WhatObject, Path: "a\xff\n\"\\", Inode: 1, Object: &Object{Mode: 0o100644, Xattr: []Xattr{{"user.a", []byte{0}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(append(line, line[:20]...))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := new(Archive)
		if err := a.read(strings.NewReader(string(text))); err != nil {
			t.Fatal(err)
		}
		if a.whole > int64(len(text)) {
			t.Errorf("whole up to %d of %d", a.whole, len(text))
		}
		item, err := parseLine(text)
		if err != nil {
			return
		}
		again, err := appendLine(nil, item)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseLine(again); err != nil || !reflect.DeepEqual(back, item) {
			t.Errorf("%+v came back as %+v, %v", item, back, err)
		}
	})
}
