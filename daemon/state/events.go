package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Event is something an operator may want to know afterwards.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // one word, such as "expelled"
	Text string    `json:"text"`
}

// keptEvents bounds the history, so that the state stays within its reserve.
const keptEvents = 500

// Event records that something happened, with the time of now.
func (s *Store) Event(kind, text string) error {
	if len(text) > 1<<10 {
		text = text[:1<<10]
	}
	record, err := seal(Event{Time: time.Now().UTC(), Kind: kind, Text: text})
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(eventBucket)
		if err != nil {
			return err
		}
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		if n > keptEvents {
			if err := b.Delete(eventKey(n - keptEvents)); err != nil {
				return err
			}
		}
		return b.Put(eventKey(n), record)
	}); err != nil {
		return fmt.Errorf("record event %q in %s: %w", text, s.dir, err)
	}
	return nil
}

// Events returns the last n events, oldest first.
func (s *Store) Events(n int) ([]Event, error) {
	var events []Event
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(eventBucket)
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Last(); k != nil && len(events) < n; k, v = c.Prev() {
			e, err := decodeEvent(v)
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read events in %s: %w", s.dir, err)
	}
	slices.Reverse(events)
	return events, nil
}

// checkEvents reads all events. Their numbers follow each other up to the newest
// one's.
func checkEvents(b *bolt.Bucket) error {
	var last []byte
	err := b.ForEach(func(k, v []byte) error {
		if last != nil && !bytes.Equal(k, eventKey(binary.BigEndian.Uint64(last)+1)) {
			return fmt.Errorf("an event before %x is missing", k)
		}
		_, err := decodeEvent(v)
		if last = k; len(k) != 8 {
			err = fmt.Errorf("an event has the number %x", k)
		}
		return err
	})
	if err == nil && last != nil && binary.BigEndian.Uint64(last) != b.Sequence() {
		return fmt.Errorf("the newest of %d events is missing", b.Sequence())
	}
	return err
}

// eventKey makes keys sort by number.
func eventKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func decodeEvent(record []byte) (Event, error) {
	var e Event
	text, err := checked(record)
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(text, &e)
}
