package region

import (
	"fmt"
	"testing"

	"github.com/standbyfs/standbyfs/fs/op"
)

// What an op pays whose regions are hot already.
func BenchmarkBegin(b *testing.B) {
	s, err := Open(nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		t, err := s.Begin(&op.Op{Kind: op.Write, Path: fmt.Sprintf("var/db/base/%d", i), Off: 1 << 20, Data: make([]byte, 10)}, nothing)
		if err != nil {
			b.Fatal(err)
		}
		t.Leave(1)
	}
	for name, o := range map[string]*op.Op{
		"write":  {Kind: op.Write, Path: "var/db/base/7", Off: 1 << 20, Data: make([]byte, 10)},
		"create": {Kind: op.Create, Path: "var/db/base/new"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, err := s.Begin(o, nothing)
				if err != nil {
					b.Fatal(err)
				}
				t.Leave(1)
			}
		})
	}
}
