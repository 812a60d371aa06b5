package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/standbyfs/standbyfs/mirror/region"
)

var (
	nodeBucket  = []byte("node")
	eventBucket = []byte("events")
	stateKey    = []byte("state")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// buckets are the names of all that a state has.
func buckets() [][]byte { return append([][]byte{nodeBucket, eventBucket}, region.Buckets()...) }

// complete makes sure that all buckets are there and nothing else: one whose name
// is damaged would be missing, and its regions would not be compared.
func complete(tx *bolt.Tx) error {
	for _, name := range buckets() {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it has no %q", name)
		}
	}
	return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
		if !slices.ContainsFunc(buckets(), func(known []byte) bool { return bytes.Equal(known, name) }) {
			return fmt.Errorf("it has something named %q", name)
		}
		return nil
	})
}

// In returns the state that a transaction sees.
func In(tx *bolt.Tx) (State, error) {
	var s State
	b := tx.Bucket(nodeBucket)
	if b == nil {
		return s, errors.New("there is no state")
	}
	text, err := checked(b.Get(stateKey))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

// Put makes s the state that a transaction leaves.
func Put(tx *bolt.Tx, s *State) error {
	sealed, err := seal(s)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists(nodeBucket)
	if err != nil {
		return err
	}
	return b.Put(stateKey, sealed)
}

// seal encodes a record with its checksum in front: bbolt has none for data.
func seal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	record := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli))
	return append(record, text...), nil
}

func checked(record []byte) ([]byte, error) {
	if len(record) < 4 {
		return nil, errors.New("a record is cut short")
	}
	text := record[4:]
	if binary.LittleEndian.Uint32(record) != crc32.Checksum(text, castagnoli) {
		return nil, errors.New("a record's checksum is wrong")
	}
	return text, nil
}
