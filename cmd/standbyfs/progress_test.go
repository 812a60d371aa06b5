package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	again, ended := make(chan time.Time), make(chan struct{})
	var shown strings.Builder
	lines := []string{"nothing yet", "half", "nearly all"}
	go func() {
		defer close(ended)
		follow(ctx, &shown, again, func() string {
			line := lines[0]
			lines = lines[1:]
			return line
		})
	}()
	again <- time.Time{}
	again <- time.Time{}
	stop()
	<-ended
	const erase = "\r\x1b[K"
	if want := erase + "nothing yet" + erase + "half" + erase; shown.String() != want {
		t.Errorf("the terminal shows %q, want %q", shown.String(), want)
	}
}

func TestNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isTerminal(file) {
		t.Error("a file is taken for a terminal: progress would be written into it")
	}
}
