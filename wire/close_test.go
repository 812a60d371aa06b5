package wire

import (
	"errors"
	"io"
	"sync"
	"testing"
)

// A goodbye arrives although both logs are as full as they get, nobody reads
// them, and the peer looks at the control stream only when all is over.
func TestLastWordsUnderLoad(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		for range 5 {
			d, a := pair(t, LaneOps, c)
			blocked := make(chan error, 2)
			for _, s := range []*Session{d, a} {
				full := make(chan struct{})
				go func() {
					var err error
					for n := 0; err == nil; n++ {
						if n == 16 { // megabytes: well into the window of four
							close(full)
						}
						_, err = s.Log().Write(make([]byte, 128<<10))
					}
					blocked <- err
				}()
				await(t, full)
			}
			var goodbye []byte
			for i := range 50 {
				m, err := AppendMessage(nil, KindGoodbye, Goodbye{Reason: string(make([]byte, 500)), NotInSync: i == 49})
				if err != nil {
					t.Fatal(err)
				}
				goodbye = append(goodbye, m...)
			}
			if _, err := d.Control().Write(goodbye); err != nil {
				t.Fatal(err)
			}
			d.Close()
			r, last := NewReader(a.Control()), Goodbye{}
			for !last.NotInSync {
				_, payload, err := r.Next()
				if err != nil {
					t.Fatalf("before the last word: %v", err)
				}
				if err := DecodeMessage(payload, &last); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the last word: error %v, want EOF", err)
			}
			a.Close()
			for range cap(blocked) {
				if err := await(t, blocked); err == nil {
					t.Error("a writer on a closed session was told nothing")
				}
			}
		}
	})
}

// Any number of Closes, at both ends at a time, end together.
func TestConcurrentClose(t *testing.T) {
	kinds(t, func(t *testing.T, c *TLS) {
		for range 5 {
			d, a := pair(t, LaneOps, c)
			blocked := block(d, a)
			var closers sync.WaitGroup
			for range 4 {
				for _, s := range []*Session{d, a} {
					closers.Go(func() {
						if err := s.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					})
				}
			}
			await(t, result(func() bool { closers.Wait(); return true }))
			for range cap(blocked) {
				await(t, blocked)
			}
		}
	})
}
