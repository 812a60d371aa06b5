package pages

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func check(data []byte) error { return Check(bytes.NewReader(data), int64(len(data))) }

var errGivenUp = errors.New("a transaction that is given up")

// fill changes a database by one transaction: many keys, few, long ones, values
// of several pages, buckets in buckets.
func fill(t *testing.T, db *bolt.DB, random *rand.Rand) {
	t.Helper()
	if err := db.Update(func(tx *bolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket %d", random.IntN(4)))
		if err != nil {
			return err
		}
		b, err := top.CreateBucketIfNotExists(fmt.Appendf(nil, "inner %d", random.IntN(3)))
		if err != nil {
			return err
		}
		keep := random.IntN(3) > 0
		for range random.IntN(60) {
			key := fmt.Appendf(nil, "%d %s", random.IntN(100), strings.Repeat("k", random.IntN(40)))
			if keep {
				err = b.Put(key, make([]byte, random.IntN(2)*random.IntN(60)))
			} else {
				err = b.Delete(key)
			}
			if err != nil {
				return err
			}
		}
		if random.IntN(5) == 0 {
			return errGivenUp
		}
		if random.IntN(10) == 0 {
			return top.DeleteBucket(fmt.Appendf(nil, "inner %d", 0))
		}
		return top.Put([]byte("long"), make([]byte, random.IntN(9000)))
	}); err != nil && err != errGivenUp && !strings.Contains(err.Error(), "bucket not found") {
		t.Fatal(err)
	}
}

// filled returns a file in which pages of all kinds are in use.
func filled(t *testing.T, each func(path string)) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		fill(t, db, random)
		each(path)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWhatBboltWrites is whole, after each transaction.
func TestWhatBboltWrites(t *testing.T) {
	filled(t, func(path string) {
		data, err := os.ReadFile(path)
		if err == nil {
			err = check(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamaged flips bits of whatever holds the tree together, and takes whole
// pages for others.
func TestDamaged(t *testing.T) {
	whole := filled(t, func(string) {})
	m, err := readMeta(bytes.NewReader(whole), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := readMeta(bytes.NewReader(whole), 1, m.pageSize); err != nil {
		t.Fatal(err)
	} else if other.tx > m.tx {
		m = other
	}
	p := &pages{data: whole, size: m.pageSize, met: make([]bool, len(whole)/int(m.pageSize))}
	if err := p.free(m.freelist); err != nil {
		t.Fatal(err)
	}
	free := p.met
	free[m.freelist] = false
	kinds := map[uint16]int{}
	data := bytes.Clone(whole)
	try := func(what string, from, to uint64, damage func(part []byte)) {
		t.Helper()
		if damage(data[from:to]); !bytes.Equal(data[from:to], whole[from:to]) && check(data) == nil {
			t.Errorf("%s: it is taken for whole", what)
		}
		copy(data[from:to], whole[from:to])
	}
	for n := uint64(0); n < m.end; n++ {
		at := n * m.pageSize
		page := whole[at : at+m.pageSize]
		if free[n] || u64(page) != n { // or it belongs to the one before
			continue
		}
		if kinds[kind(page)]++; kinds[kind(page)] > 15 {
			continue
		}
		structure := pageHead * (1 + int(count(page)))
		from := 0
		switch kind(page) {
		case freelistPage:
			structure = pageHead + 8*int(count(page))
		case branchPage, leafPage:
		default:
			from, structure = pageHead, pageHead+metaSize
		}
		for i := from; i < min(structure, len(page)); i++ {
			if sizes := i - structure + pageHead; kind(page) == leafPage && sizes >= 8 || kind(page) == branchPage && sizes >= 4 && sizes < 8 {
				continue // of the last element: how long a key is nobody knows but who wrote it
			}
			if kind(page) == leafPage && i >= pageHead && i%pageHead == 0 {
				continue // so is whether it is a bucket, if that is a small one
			}
			for _, bit := range []byte{1 << (i % 8)} {
				try(fmt.Sprintf("page %d, byte %d, bit %#x", n, i, bit), at, at+m.pageSize, func(page []byte) { page[i] ^= bit })
			}
		}
		try(fmt.Sprintf("page %d is zero", n), at, at+m.pageSize, func(page []byte) { clear(page) })
		try(fmt.Sprintf("page %d is another", n), at, at+m.pageSize, func(page []byte) {
			copy(page, whole[(n+1)%m.end*m.pageSize:])
		})
	}
	if kinds[branchPage] == 0 || kinds[leafPage] < 10 || kinds[freelistPage] != 1 {
		t.Errorf("pages of each kind: %v", kinds)
	}
	for size := 0; size < int(m.end*m.pageSize); size += 1000 {
		if check(whole[:size]) == nil {
			t.Errorf("cut to %d bytes it is taken for whole", size)
		}
	}
}
