package harness

import (
	"bytes"
	"io"
	"sync"
)

// lineWriter passes whole lines on, each with a mark in front.
type lineWriter struct {
	to   io.Writer
	mark string

	mu   sync.Mutex // guards rest
	rest []byte     // an unfinished line
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		if _, err := io.WriteString(w.to, w.mark+string(line)+"\n"); err != nil {
			return 0, err
		}
		w.rest = append(w.rest[:0:0], rest...)
	}
}
