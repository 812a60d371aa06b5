package region

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	bolt "go.etcd.io/bbolt"
)

// A rename moves content that a node may have under the old name. If it was away
// it has missed that, and by its stale map alone it would get all of it anew. So
// the renames are kept beside the map, in their order, and go with it.
//
// They are hints. Nothing is missed if one is lost, comes twice, or is wrong: what
// it is about is in the map and gets compared.

// Move is a rename that a node has missed.
type Move struct {
	Path, Path2 string
	Exchange    bool
	At          op.Position // or later
}

// Bounds of what is kept for one node. Further ones are not.
const (
	maxMoves     = 512
	maxMoveBytes = 64 << 10 // of their paths
)

// moves are those of one node. Store's mutex guards it.
type moves struct {
	list              []Move
	bytes             int
	changes, recorded int // how often it was changed, by now and when it was recorded last
}

// add takes down a rename. One that is the same as the last would find nothing
// more to do.
func (ms *moves) add(m Move) {
	if n := len(ms.list); n > 0 {
		last := ms.list[n-1]
		if last.At = m.At; last == m && !m.Exchange {
			return
		}
	}
	bytes := len(m.Path) + len(m.Path2)
	if len(ms.list) == maxMoves || ms.bytes+bytes > maxMoveBytes {
		return
	}
	ms.list = append(ms.list, m)
	ms.bytes += bytes
	ms.changes++
}

// drop forgets some.
func (ms *moves) drop(gone func(Move) bool) {
	before := len(ms.list)
	ms.list = slices.DeleteFunc(ms.list, gone)
	if len(ms.list) == before {
		return
	}
	ms.bytes = 0
	for _, m := range ms.list {
		ms.bytes += len(m.Path) + len(m.Path2)
	}
	ms.changes++
}

// Moved takes down a rename that nodes miss. It is on disk with the next
// transaction.
func (s *Store) Moved(nodes []op.NodeID, m Move) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range nodes {
		if s.stale[n] == nil {
			continue // all of it is compared, and nothing is known of what it has
		}
		if s.moves[n] == nil {
			s.moves[n] = &moves{}
		}
		s.moves[n].add(m)
	}
}

// Moves returns the renames that a node has missed, in their order.
func (s *Store) Moves(n op.NodeID) []Move {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ms := s.moves[n]; ms != nil {
		return slices.Clone(ms.list)
	}
	return nil
}

// Made says which renames a node need not be told of any more.
func (s *Store) Made(n op.NodeID, made func(Move) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ms := s.moves[n]; ms != nil {
		ms.drop(made)
	}
}

// KeepMoves records the renames that are not on disk yet. Those of a process that
// dies before are lost.
func (s *Store) KeepMoves() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.commit()
}

// unrecordedMoves returns what has to be recorded of the renames of each node. The
// caller holds mu.
func (s *Store) unrecordedMoves() map[op.NodeID]moves {
	var changed map[op.NodeID]moves
	for n, ms := range s.moves {
		if ms.changes == ms.recorded {
			continue
		}
		if changed == nil {
			changed = make(map[op.NodeID]moves)
		}
		kept := *ms
		kept.list = slices.Clone(ms.list)
		changed[n] = kept
	}
	return changed
}

// The renames of a node are one value in the bucket that has its map: the crc32c
// of the key and a JSON text, and that text. The key's first byte is no kind of
// unit.
var movesKey = append([]byte{byte(tree) + 1}, make([]byte, keyHead)...)

// moveRecord is the form of one of them. A path need not be UTF-8.
type moveRecord struct {
	Path     []byte      `json:"path"`
	Path2    []byte      `json:"path2"`
	Exchange bool        `json:"exchange,omitempty"`
	At       op.Position `json:"at"`
}

func (ms *moves) write(b *bolt.Bucket) error {
	if len(ms.list) == 0 {
		return b.Delete(movesKey)
	}
	records := make([]moveRecord, len(ms.list))
	for i, m := range ms.list {
		records[i] = moveRecord{[]byte(m.Path), []byte(m.Path2), m.Exchange, m.At}
	}
	text, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("encode renames: %w", err)
	}
	return b.Put(movesKey, append(binary.LittleEndian.AppendUint32(nil, sumOfMoves(text)), text...))
}

func sumOfMoves(text []byte) uint32 {
	return crc32.Update(crc32.Checksum(movesKey, castagnoli), castagnoli, text)
}

// readMoves returns what is recorded in a node's bucket, nil if that is none.
func readMoves(b *bolt.Bucket) (*moves, error) {
	value := b.Get(movesKey)
	if value == nil {
		return nil, nil
	}
	if len(value) < 4 || binary.LittleEndian.Uint32(value) != sumOfMoves(value[4:]) {
		return nil, errRecord
	}
	var records []moveRecord
	if err := json.Unmarshal(value[4:], &records); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	ms := &moves{}
	for _, r := range records {
		m := Move{string(r.Path), string(r.Path2), r.Exchange, r.At}
		for _, path := range []string{m.Path, m.Path2} {
			if err := op.CheckPath(path); err != nil {
				return nil, fmt.Errorf("%w: %w", errRecord, err)
			}
		}
		ms.add(m)
	}
	ms.recorded = ms.changes
	return ms, nil
}
