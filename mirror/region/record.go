package region

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

// On disk each unit is one key of a bucket: a byte with its kind, eight with
// the number of the extent (big endian), and the path. The value is the key's
// crc32c, since bbolt has no checksum of data. The bucket "hot" holds the hot
// set; "stale" holds a bucket for each node that this one has a map of, named by
// its ID and that one's crc32c, and in it one key more where there are renames
// (moves.go). A node without a bucket is unknown: everything may differ.

var (
	hotBucket   = []byte("hot")
	staleBucket = []byte("stale")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)

	errRecord = errors.New("a record of a region is damaged")
)

// Buckets are the names of all that a Store has in its file. They are there from
// the beginning, so that one that is missing is a damage.
func Buckets() [][]byte { return [][]byte{hotBucket, staleBucket} }

const keyHead = 9

func (u unit) key() []byte {
	key := make([]byte, keyHead, keyHead+len(u.path))
	key[0] = byte(u.kind)
	binary.BigEndian.PutUint64(key[1:], uint64(u.n))
	return append(key, u.path...)
}

func sum(key []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(key, castagnoli))
}

func decode(key, value []byte) (unit, error) {
	if len(key) <= keyHead || string(value) != string(sum(key)) || kind(key[0]) > tree {
		return unit{}, errRecord
	}
	u := unit{path: string(key[keyHead:]), kind: kind(key[0]), n: int64(binary.BigEndian.Uint64(key[1:]))}
	if data := u.kind == extent || u.kind == tail; u.n < 0 || u.n > End/Extent || !data && u.n != 0 {
		return unit{}, errRecord
	}
	if err := op.CheckPath(u.path); err != nil {
		return unit{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	return u, nil
}

// write records changes in a bucket.
func write(b *bolt.Bucket, changes []change) error {
	for _, c := range changes {
		key := c.unit.key()
		var err error
		if c.gone {
			err = b.Delete(key)
		} else {
			err = b.Put(key, sum(key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns the set that a bucket holds, as touched in generation 1.
func read(b *bolt.Bucket) (*Set, error) {
	s := NewSet()
	err := b.ForEach(func(k, v []byte) error {
		if string(k) == string(movesKey) {
			return nil
		}
		u, err := decode(k, v)
		if err != nil {
			return err
		}
		s.add(u)
		return nil
	})
	s.recorded(len(s.log), 1)
	return s, err
}

// mapName is a node's ID with its checksum.
func mapName(n op.NodeID) []byte {
	id := binary.BigEndian.AppendUint64(nil, uint64(n))
	return append(id, sum(id)...)
}

func decodeMapName(name []byte) (op.NodeID, error) {
	if len(name) != 8+4 || string(name[8:]) != string(sum(name[:8])) {
		return 0, fmt.Errorf("%w: map of %q", errRecord, name)
	}
	return op.NodeID(binary.BigEndian.Uint64(name)), nil
}

// load reads the hot set and all maps, with the renames that belong to them.
func (s *Store) load(tx *bolt.Tx) (err error) {
	if b := tx.Bucket(hotBucket); b != nil {
		if s.hot.Set, err = read(b); err != nil {
			return err
		}
	}
	maps := tx.Bucket(staleBucket)
	if maps == nil {
		return nil
	}
	return maps.ForEach(func(name, value []byte) error {
		n, err := decodeMapName(name)
		switch {
		case err != nil:
			return err
		case value != nil: // of a bucket it is nil
			return fmt.Errorf("%w: map of node %s", errRecord, n)
		}
		b := maps.Bucket(name)
		if s.stale[n], err = read(b); err != nil {
			return err
		}
		ms, err := readMoves(b)
		if ms != nil {
			s.moves[n] = ms
		}
		return err
	})
}
